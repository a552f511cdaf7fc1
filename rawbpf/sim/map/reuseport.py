"""Arrays of sockets that share a port: one slot for each socket. Source: kernel/bpf/reuseport_array.c (v6.12)."""

from __future__ import annotations

from errno import E2BIG, EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import ACCESS, U32
from rawbpf.sim.map.socket_holder import U64, SocketHolder, socket_fd
from rawbpf.sim.sock import Sock
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_POINTER = 8


class SimReusePortArray(SocketHolder):
    """BPF_MAP_TYPE_REUSEPORT_SOCKARRAY."""

    head_bytes = 296

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE
    shares = False

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: reuseport_array_alloc_check."""
        shape.check_flags(self.flags_allowed)
        if shape.value_size not in (U32.size, U64.size) or shape.key_size != U32.size or not shape.max_entries:
            raise Refused(EINVAL)
        self.check_memory(kernel, shape.max_entries * _POINTER)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return a socket's cookie. Raises: Refused (ENOSPC: values have no room for it; ENOENT).

        Source: bpf_fd_reuseport_array_lookup_elem.
        """
        if self.value_size != U64.size:
            raise Refused(ENOSPC)
        self.drop_closed()
        if key not in self.sockets:
            raise Refused(ENOENT)
        return U64.pack(self.sockets[key].cookie)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a socket. Source: bpf_fd_reuseport_array_update_elem."""
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        if U32.unpack(key)[0] >= self.max_entries:
            raise Refused(E2BIG)
        sock = Sock(socket_fd(value))
        self.drop_closed()
        self._check_socket(sock, key in self.sockets, flags)
        self.sockets[key] = sock

    def _check_socket(self, sock: Sock, there: bool, flags: int) -> None:
        # Source: reuseport_array_update_check.
        if there and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if not there and flags == c.BPF_EXIST:
            raise Refused(ENOENT)
        if not (sock.is_tcp or sock.is_udp):
            raise Refused(ENOTSUPP)
        if not sock.shares_port or not (sock.is_listening if sock.is_tcp else sock.is_bound):
            raise Refused(EINVAL)
        if self.is_taken(sock):
            raise Refused(EBUSY)

    def delete(self, key: bytes) -> None:
        """Empty a slot. Raises: Refused (E2BIG: no such index; ENOENT). Source: reuseport_array_delete_elem."""
        if U32.unpack(key)[0] >= self.max_entries:
            raise Refused(E2BIG)
        self.drop_closed()
        if self.sockets.pop(key, None) is None:
            raise Refused(ENOENT)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)
