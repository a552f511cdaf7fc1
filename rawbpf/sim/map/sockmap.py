"""Maps of sockets that programs redirect between: an array and a hash table.

Source: net/core/sock_map.c (v6.12).
"""

from __future__ import annotations

import socket
from errno import E2BIG, EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import U32
from rawbpf.sim.map.buckets import Buckets
from rawbpf.sim.map.fd_array import USER_ACCESS
from rawbpf.sim.map.jhash import jhash
from rawbpf.sim.map.shape import power_of_two, rounded
from rawbpf.sim.map.socket_holder import U64, SocketHolder, socket_fd
from rawbpf.sim.sock import Sock
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.release import Release

_INT_MAX = 0x7FFFFFFF
_MAX_BPF_STACK = 512
_POINTER, _BUCKET, _ELEMENT = 8, 16, 48


def _is_suitable(sock: Sock, release: Release) -> bool:
    # Source: sock_map_sk_is_suitable, sock_map_sk_state_allowed.
    if sock.is_tcp:
        return sock.is_established or sock.is_listening
    if sock.is_udp:
        return sock.is_bound or release.maps_unbound_udp
    if sock.domain == socket.AF_UNIX and not release.maps_unix_sockets:
        return False
    if sock.domain == socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
        return sock.is_established
    return sock.domain == socket.AF_UNIX


class _SimSockets(SocketHolder):
    # What both types share.

    takes_btf = False
    takes_no_key_type = True
    head_bytes = 376

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: sock_map_alloc, sock_hash_alloc."""
        if not shape.max_entries or not shape.key_size or shape.value_size not in (4, 8):
            raise Refused(EINVAL)
        if shape.map_flags & ~(USER_ACCESS | c.BPF_F_NUMA_NODE):
            raise Refused(EINVAL)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return a socket's cookie. Raises: Refused (ENOSPC: values have no room for it; ENOENT)."""
        if self.value_size != U64.size:
            raise Refused(ENOSPC)
        self.drop_closed()
        sock = self.sockets.get(key)
        if sock is None:
            raise Refused(ENOENT)
        return U64.pack(sock.cookie)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a socket. Source: sock_map_update_elem_sys."""
        fd = socket_fd(value)
        if fd > _INT_MAX:
            raise Refused(EINVAL)
        sock = Sock(fd)
        if not _is_suitable(sock, self.kernel.release):
            raise Refused(EOPNOTSUPP)
        self.drop_closed()
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        self.check_key(key)
        # Source: net/unix/unix_bpf.c:unix_dgram_bpf_update_proto, which is asked last.
        if sock.type == socket.SOCK_SEQPACKET:
            raise Refused(EOPNOTSUPP)
        if self.is_taken(sock):
            raise Refused(EBUSY)
        there = key in self.sockets
        if there and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if not there and flags == c.BPF_EXIST:
            raise Refused(ENOENT)
        self.store(key, sock)

    def check_key(self, key: bytes) -> None:
        """Check that there can be such a key. Raises: Refused (E2BIG)."""

    def store(self, key: bytes, sock: Sock) -> None:
        """Store a socket, unless there is no room. Raises: Refused (E2BIG)."""
        self.sockets[key] = sock


class SimSockMap(_SimSockets):
    """BPF_MAP_TYPE_SOCKMAP."""

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags."""
        if shape.key_size != U32.size:
            raise Refused(EINVAL)
        super().check(kernel, shape)
        self.check_memory(kernel, shape.max_entries * _POINTER)

    def check_key(self, key: bytes) -> None:
        """Check the index. Raises: Refused (E2BIG)."""
        if U32.unpack(key)[0] >= self.max_entries:
            raise Refused(E2BIG)

    def delete(self, key: bytes) -> None:
        """Empty a slot. Raises: Refused (EINVAL: no such index, or it is empty). Source: sock_map_delete_elem."""
        self.drop_closed()
        if self.sockets.pop(key, None) is None:
            raise Refused(EINVAL)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)


class SimSockHash(_SimSockets):
    """BPF_MAP_TYPE_SOCKHASH: hashed without a seed, the newest element of a bucket first."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._n_buckets = power_of_two(self.max_entries)
        self._buckets = Buckets()

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: sock_hash_alloc."""
        super().check(kernel, shape)
        if shape.key_size > _MAX_BPF_STACK:
            raise Refused(E2BIG)
        buckets = power_of_two(shape.max_entries)
        if buckets > 0xFFFFFFFF // _BUCKET:
            raise Refused(EINVAL)
        self.check_memory(kernel, buckets * _BUCKET)

    @property
    def memory_usage(self) -> int:
        """Bytes of buckets and elements. Source: sock_hash_mem_usage."""
        elements = len(self.sockets) * (_ELEMENT + rounded(self.key_size))
        return self.head_bytes + 8 + self._n_buckets * _BUCKET + elements

    def store(self, key: bytes, sock: Sock) -> None:
        """Store a socket, unless there is no room. Raises: Refused (E2BIG). Source: sock_hash_alloc_elem."""
        if key not in self.sockets and len(self.sockets) >= self.max_entries:
            raise Refused(E2BIG)
        self.sockets[key] = sock
        self._buckets.put(self._bucket(key), key)

    def remove(self, key: bytes) -> None:
        """Remove a socket that is there."""
        super().remove(key)
        self._buckets.remove(self._bucket(key), key)

    def delete(self, key: bytes) -> None:
        """Remove a socket. Raises: Refused (ENOENT). Source: sock_hash_delete_elem."""
        self.drop_closed()
        if key not in self.sockets:
            raise Refused(ENOENT)
        self.remove(key)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next key; after one that is not there, the first. Raises: Refused (ENOENT)."""
        self.drop_closed()
        if key is not None and key in self.sockets:
            return self._buckets.after(self._bucket(key), key)
        return self._buckets.first()

    def _bucket(self, key: bytes) -> int:
        # Source: net/core/sock_map.c:sock_hash_bucket_hash, which takes keys of all sizes by bytes.
        return jhash(key, 0, by_bytes=True) & (self._n_buckets - 1)
