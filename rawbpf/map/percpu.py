"""Per-CPU hashes and arrays: a value for every possible CPU under each key.

Values are `PerCpu` sequences; writing takes as many values as there are possible CPUs, or
`PerCpu.filled(v)`. Kernel side: kernel/bpf/hashtab.c, kernel/bpf/arraymap.c (v6.12).
"""

from __future__ import annotations

from rawbpf.map.array import ArrayMap
from rawbpf.map.hash import HashMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.codec.percpu import PerCpu  # noqa: F401  (in the strings of the bases)

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class PerCpuHashMap(HashMap["K", "PerCpu[V]"]):
    """A hash map with a value per possible CPU: `m[k].sum()` is the total."""

    __slots__ = ()

    map_type = "percpu_hash"
    _per_cpu = True


class LruPerCpuHashMap(PerCpuHashMap["K", "V"]):
    """A per-CPU hash map that makes room by evicting what was not used for long."""

    __slots__ = ()

    map_type = "lru_percpu_hash"


class PerCpuArrayMap(ArrayMap["PerCpu[V]"]):
    """An array with a value per possible CPU: `m[i].sum()` is the total."""

    __slots__ = ()

    map_type = "percpu_array"
    _per_cpu = True
