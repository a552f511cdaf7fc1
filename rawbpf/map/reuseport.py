"""Arrays of sockets that share a port, of which an sk_reuseport program selects one for each packet or connection.

Kernel side: kernel/bpf/reuseport_array.c (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import ENOTSUPP
from rawbpf.map.slot import InsertableSlotMap

_EBUSY, _EINVAL, _ENOTSOCK = 16, 22, 88

# Source: kernel/bpf/reuseport_array.c:reuseport_array_update_check (v6.12)
_REFUSALS = {
    _ENOTSOCK: "it is no socket",
    _EINVAL: "the socket must have had SO_REUSEPORT set before it was bound, and be bound (UDP) or listen (TCP)",
    _EBUSY: "the socket is in a slot already, of this array or another: empty that first",
    ENOTSUPP: "the kernel takes TCP and UDP sockets, over IPv4 or IPv6",
}


class ReuseportSockArray(InsertableSlotMap[int, int]):
    """An array of sockets that share a port: `m[i] = socket`, `m[i]` is the socket's cookie (SO_COOKIE).

    A socket is in one slot at most, and leaves it by itself when it is closed. Values of 4 bytes can be
    written and not be read.
    """

    __slots__ = ()

    map_type = "reuseport_sockarray"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u64"
    _noun = "a socket with SO_REUSEPORT"
    _refusals = _REFUSALS
