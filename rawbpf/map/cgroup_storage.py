"""Storage that belongs to a cgroup and an attached program. Kernel side: kernel/bpf/local_storage.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class CgroupStorageMap(GenericMap["K", "V"]):
    """What programs keep for each cgroup that they are attached to."""

    __slots__ = ()

    map_type = "cgroup_storage"
    _default_entries = 0
    _takes_btf = True


class PerCpuCgroupStorageMap(GenericMap["K", "V"]):
    """What programs keep for each cgroup and CPU."""

    __slots__ = ()

    map_type = "percpu_cgroup_storage"
    _default_entries = 0
    _takes_btf = True
    _per_cpu = True
