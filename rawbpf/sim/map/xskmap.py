"""Maps of AF_XDP sockets. Source: net/xdp/xskmap.c (v6.12)."""

from __future__ import annotations

from errno import EEXIST, ENOBUFS, ENOENT, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import POINTER, U32
from rawbpf.sim.map.redirect import RedirectArray
from rawbpf.sim.sock import AF_XDP, Sock
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape


class SimXskMap(RedirectArray[Sock]):
    """BPF_MAP_TYPE_XSKMAP."""

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: xsk_map_alloc."""
        super().check(kernel, shape)
        self.check_memory(kernel, shape.max_entries * POINTER)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Refuse: only programs look up. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a socket; storing what is there already is fine with any flag. Source: xsk_map_update_elem."""
        self.check_slot(key, flags)
        sock = Sock(U32.unpack(value)[0])
        if sock.domain != AF_XDP:
            raise Refused(EOPNOTSUPP)
        if self.kernel.release.xskmaps_want_receivers and not sock.has_receive_ring:
            raise Refused(ENOBUFS)
        held = self.targets.get(key)
        if held is not None and held != sock and held.is_closed:
            held = None
        if held is not None and held != sock and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if held is None and flags == c.BPF_EXIST:
            raise Refused(ENOENT)
        self.targets[key] = sock
