"""Which class serves which map type: a table of names, so that only the class in use is imported.

The only dynamic import of the package. Types without a row are served by `generic:GenericMap`, with
the verbs that any map has.
"""

from __future__ import annotations

from rawbpf.uapi import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_GENERIC = "generic:GenericMap"
CLASSES = {
    constants.BPF_MAP_TYPE_HASH: "hash:HashMap",
    constants.BPF_MAP_TYPE_ARRAY: "array:ArrayMap",
    constants.BPF_MAP_TYPE_PERCPU_HASH: "percpu:PerCpuHashMap",
    constants.BPF_MAP_TYPE_PERCPU_ARRAY: "percpu:PerCpuArrayMap",
    constants.BPF_MAP_TYPE_LRU_HASH: "hash:LruHashMap",
    constants.BPF_MAP_TYPE_LRU_PERCPU_HASH: "percpu:LruPerCpuHashMap",
}


def map_class(map_type: int) -> type[Any]:
    """Return the class whose objects are maps of `map_type`."""
    module, _, name = CLASSES.get(map_type, _GENERIC).partition(":")
    found: type[Any] = getattr(__import__(f"rawbpf.map.{module}", fromlist=[name]), name)
    return found
