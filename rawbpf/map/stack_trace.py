"""Stack traces. Kernel side: kernel/bpf/stackmap.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class StackTraceMap(GenericMap["K", "V"]):
    """Stack traces by the ids that bpf_get_stackid() gives."""

    __slots__ = ()

    map_type = "stack_trace"
    _default_key = "u32"
