"""Memory that programs and user space share. Kernel side: kernel/bpf/arena.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap
from rawbpf.uapi.constants import BPF_F_MMAPABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class ArenaMap(GenericMap["K", "V"]):
    """Pages that programs and user space share."""

    __slots__ = ()

    map_type = "arena"
    _default_key = 0
    _default_value = 0
    _required_flags = BPF_F_MMAPABLE
