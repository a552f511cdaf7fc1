"""Maps of CPUs, for XDP redirection. Kernel side: kernel/bpf/cpumap.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class CpuMap(GenericMap["K", "V"]):
    """CPUs that XDP programs hand packets to."""

    __slots__ = ()

    map_type = "cpumap"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"
