"""Tables of functions that the kernel calls. Kernel side: kernel/bpf/bpf_struct_ops.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class StructOpsMap(GenericMap["K", "V"]):
    """A table of programs for one of the kernel's own interfaces."""

    __slots__ = ()

    map_type = "struct_ops"
    _default_key = "u32"
    _default_entries = 1
