"""Maps of sockets, between which programs move bytes without a copy through user space.

A socket takes up the programs that are attached to the map when it is stored, and keeps them until it
is removed; when it is closed it leaves the map by itself. Kernel side: net/core/sock_map.c (v6.12).
"""

from __future__ import annotations

from rawbpf.map.slot import InsertableSlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)

_EBUSY, _ENOTSOCK, _EOPNOTSUPP = 16, 88, 95

# Source: net/core/sock_map.c:sock_map_sk_state_allowed, sock_map_link (v6.12)
_REFUSALS = {
    _ENOTSOCK: "it is no socket",
    _EOPNOTSUPP: "the kernel takes sockets that can pass bytes on: a TCP socket that is connected or listens, "
    "a UDP socket that is bound, a Unix or vsock socket that is connected",
    _EBUSY: "the socket has a program of the same kind from another map that it is in: remove it from that first",
}


class SockMap(InsertableSlotMap[int, int]):
    """An array of sockets, a dict of its slots: `m[i] = socket`, `m[i]` is the socket's cookie (SO_COOKIE).

    Values of 4 bytes can be written and not be read.
    """

    __slots__ = ()

    map_type = "sockmap"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u64"
    _noun = "a socket"
    _refusals = _REFUSALS


class SockHash(InsertableSlotMap["K", int]):
    """Sockets by any key: `m[k] = socket`, `m[k]` is the socket's cookie (SO_COOKIE).

    Values of 4 bytes can be written and not be read.
    """

    __slots__ = ()

    map_type = "sockhash"
    _default_value = "u64"
    _noun = "a socket"
    _refusals = _REFUSALS
