"""Maps of sockets, between which programs move bytes. Kernel side: net/core/sock_map.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class SockMap(GenericMap["K", "V"]):
    """An array of sockets."""

    __slots__ = ()

    map_type = "sockmap"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"


class SockHash(GenericMap["K", "V"]):
    """Sockets by any key."""

    __slots__ = ()

    map_type = "sockhash"
    _default_value = "u32"
