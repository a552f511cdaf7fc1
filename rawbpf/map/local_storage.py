"""Storage that lives and dies with its owner. Kernel side: kernel/bpf/bpf_local_storage.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap
from rawbpf.uapi.constants import BPF_F_NO_PREALLOC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class SkStorageMap(GenericMap["K", "V"]):
    """What programs keep for each socket."""

    __slots__ = ()

    map_type = "sk_storage"
    _default_key = "s32"
    _default_entries = 0
    _required_flags = BPF_F_NO_PREALLOC
    _takes_btf = True


class InodeStorageMap(GenericMap["K", "V"]):
    """What programs keep for each inode."""

    __slots__ = ()

    map_type = "inode_storage"
    _default_key = "s32"
    _default_entries = 0
    _required_flags = BPF_F_NO_PREALLOC
    _takes_btf = True


class TaskStorageMap(GenericMap["K", "V"]):
    """What programs keep for each task."""

    __slots__ = ()

    map_type = "task_storage"
    _default_key = "s32"
    _default_entries = 0
    _required_flags = BPF_F_NO_PREALLOC
    _takes_btf = True


class CgrpStorageMap(GenericMap["K", "V"]):
    """What programs keep for each cgroup."""

    __slots__ = ()

    map_type = "cgrp_storage"
    _default_key = "s32"
    _default_entries = 0
    _required_flags = BPF_F_NO_PREALLOC
    _takes_btf = True
