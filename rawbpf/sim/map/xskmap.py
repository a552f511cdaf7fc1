"""Maps of AF_XDP sockets. Source: net/xdp/xskmap.c (v6.12)."""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENOENT, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.fd_array import USER_ACCESS
from rawbpf.sim.sock import AF_XDP, Sock
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_POINTER = 8


class SimXskMap(SimMap):
    """BPF_MAP_TYPE_XSKMAP."""

    takes_btf = False
    takes_no_key_type = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._slots: dict[int, Sock] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: xsk_map_alloc."""
        if not shape.max_entries or shape.key_size != U32.size or shape.value_size != U32.size:
            raise Refused(EINVAL)
        if shape.map_flags & ~(USER_ACCESS | c.BPF_F_NUMA_NODE):
            raise Refused(EINVAL)
        self.check_memory(kernel, shape.max_entries * _POINTER)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Refuse: only programs look up. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a socket; storing what is there already is fine with any flag. Source: xsk_map_update_elem."""
        index = U32.unpack(key)[0]
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        if index >= self.max_entries:
            raise Refused(E2BIG)
        sock = Sock(U32.unpack(value)[0])
        if sock.domain != AF_XDP:
            raise Refused(EOPNOTSUPP)
        held = self._slots.get(index)
        if held is not None and held != sock and held.is_closed:
            held = None
        if held is not None and held != sock and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if held is None and flags == c.BPF_EXIST:
            raise Refused(ENOENT)
        self._slots[index] = sock

    def delete(self, key: bytes) -> None:
        """Empty a slot, which may be empty already. Raises: Refused (EINVAL: no such index)."""
        index = U32.unpack(key)[0]
        if index >= self.max_entries:
            raise Refused(EINVAL)
        self._slots.pop(index, None)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)
