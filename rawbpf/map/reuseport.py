"""Arrays of sockets of one port. Kernel side: kernel/bpf/reuseport_array.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class ReuseportSockArray(GenericMap["K", "V"]):
    """An array of sockets that share a port, of which a program selects one."""

    __slots__ = ()

    map_type = "reuseport_sockarray"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"
