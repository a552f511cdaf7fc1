"""Maps of AF_XDP sockets. Kernel side: net/xdp/xskmap.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class XskMap(GenericMap["K", "V"]):
    """An array of AF_XDP sockets."""

    __slots__ = ()

    map_type = "xskmap"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"
