"""What maps of sockets share: a socket leaves when it is closed, and serves one kind of map at a time.

Source: include/net/sock.h:sk_user_data (v6.12), which either kind of map needs for itself.
"""

from __future__ import annotations

from errno import EINVAL
from struct import Struct

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import U32, SimMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.sock import Sock

U64 = Struct("=Q")
_INT_MAX = 0x7FFFFFFF


def socket_fd(value: bytes) -> int:
    """Return the descriptor in a value of 4 or 8 bytes; one of 4 bytes is always possible, if only to be closed.

    Raises: Refused (EINVAL: no possible one).
    """
    fd: int = (U64 if len(value) == U64.size else U32).unpack(value)[0]
    if fd > _INT_MAX and len(value) == U64.size:
        raise Refused(EINVAL)
    return fd


class SocketHolder(SimMap):
    """A map whose values are sockets, by key; `shares`: whether its sockets may be in other maps that share, too."""

    shares = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.sockets: dict[bytes, Sock] = {}

    def is_taken(self, sock: Sock) -> bool:
        """Return whether `sock` is in a map with which this one cannot share it."""
        holders = [each for each in self.kernel.maps if isinstance(each, SocketHolder)]
        return any(sock in each.sockets.values() for each in holders if not (each.shares and self.shares))

    def remove(self, key: bytes) -> None:
        """Remove a socket that is there."""
        del self.sockets[key]

    def drop_closed(self) -> None:
        """Let go of sockets that were closed; those whose connection ended stay."""
        for key, sock in list(self.sockets.items()):
            if sock.is_closed:
                self.remove(key)
