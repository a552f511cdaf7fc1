"""Maps of AF_XDP sockets: `bpf_redirect_map()` hands a packet to the socket in a slot, past the network stack.

The socket must be bound to the queue of the interface at which the packet arrived. It cannot be read back.
Kernel side: net/xdp/xskmap.c (v6.12).
"""

from __future__ import annotations

from rawbpf.map.slot import SlotMap
from rawbpf.uapi.constants import BPF_EXIST, BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno

_EBADF, _ENOTSOCK, _EOPNOTSUPP, _ENOBUFS = 9, 88, 95, 105


class XskMap(SlotMap[int, int]):
    """An array of AF_XDP sockets: `m[queue] = socket`, any object whose `fileno()` is that of one.

    The kernel does not tell what is in it: it is written and emptied only. A slot empties itself when its
    socket closes, and emptying an empty one is no error. Since: Linux 4.18.
    """

    __slots__ = ()

    map_type = "xskmap"
    _index_keys = True
    _default_key = "u32"
    _noun = "an AF_XDP socket"
    _refusals = dict.fromkeys(
        (_EBADF, _ENOTSOCK, _EOPNOTSUPP), "the value is no AF_XDP socket: socket.socket(44, socket.SOCK_RAW)"
    ) | {_ENOBUFS: "the socket has no ring to receive by: set its XDP_RX_RING first (seen on Linux 7.2)"}

    def insert(self, key: int, value: HasFileno) -> None:
        """Store in an empty slot, or where the same socket is.

        Raises: KeyExists (EEXIST: another socket is there); else as `m[key] = value`.
        """
        self.put(key, value, BPF_NOEXIST)

    def replace(self, key: int, value: HasFileno) -> None:
        """Store in a slot that must be in use. Raises: KeyNotFound (ENOENT); else as `m[key] = value`."""
        self.put(key, value, BPF_EXIST)

    def clear(self) -> None:
        """Empty every slot. Raises: Closed; PermissionDenied (EPERM)."""
        for index in range(self._shape.max_entries):
            del self[index]
