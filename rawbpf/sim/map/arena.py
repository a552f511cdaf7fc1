"""Arenas: pages that lie at one address in every process. Source: kernel/bpf/arena.c (v6.18)."""

from __future__ import annotations

from errno import E2BIG, EBUSY, EINVAL, EOPNOTSUPP, ERANGE
from mmap import PROT_READ, PROT_WRITE

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.map.memory import SharedMemory, address_of
from rawbpf.sim.map.shape import rounded
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char
    from mmap import mmap

    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_4G = 1 << 32
_PROT_NONE = 0


class SimArena(SimMap):
    """BPF_MAP_TYPE_ARENA."""

    flags_allowed = c.BPF_F_MMAPABLE | c.BPF_F_SEGV_ON_FAULT | c.BPF_F_NO_USER_CONV
    can_be_mapped = True
    memory: SharedMemory

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        size = self.max_entries * kernel.host.page_size
        # Where every process maps it, once that is known.
        self._start = self.map_extra
        self._end = self._start + size if self._start else 0
        self._written = 0
        self.memory = SharedMemory(size)
        # No page was allocated by a program: whoever touches one gets a signal.
        self.protection = _PROT_NONE if shape.has(c.BPF_F_SEGV_ON_FAULT) else PROT_READ | PROT_WRITE

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes, flags and the address. Source: arena_map_alloc."""
        shape.check_flags(self.flags_allowed)
        page = kernel.host.page_size
        if shape.key_size or shape.value_size or not shape.max_entries or not shape.has(c.BPF_F_MMAPABLE):
            raise Refused(EINVAL)
        if shape.map_extra % page:
            raise Refused(EINVAL)
        size = shape.max_entries * page
        if size > _4G:
            raise Refused(E2BIG)
        if _crosses(shape.map_extra, size):
            raise Refused(ERANGE)

    @property
    def memory_usage(self) -> int:
        """None that the kernel tells. Source: arena_map_mem_usage, before v6.19."""
        return 0

    @property
    def writable_mappings(self) -> int:
        """How many mappings there were that could be written through.

        The kernel forgets to count those that go: arena_map_mmap replaces what bpf_map_mmap set up for that.
        """
        return self._written

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Refuse: there are no elements. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Refuse: there are no elements. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def delete(self, key: bytes) -> None:
        """Refuse: there are no elements. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def next_key(self, key: bytes | None) -> bytes:
        """Refuse: there are no elements. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def place(self, length: int, offset: int, address: int) -> int:
        """Return where the arena is to be mapped. Raises: Refused (EINVAL, E2BIG). Source: arena_get_unmapped_area."""
        length = rounded(length, self.kernel.host.page_size)
        if offset:
            raise Refused(EINVAL)
        if length > _4G:
            raise Refused(E2BIG)
        if self._start:
            if length > self._end - self._start:
                raise Refused(E2BIG)
            if length != self._end - self._start or address != self._start:
                raise Refused(EINVAL)
        return rounded(address, _4G) if _crosses(address, length) else address

    def map_memory(self, length: int, offset: int, writable: bool) -> SharedMemory:
        """Return the pages. Raises: Refused (EBUSY: mapped elsewhere). Source: arena_map_mmap."""
        if self._end and rounded(length, self.kernel.host.page_size) != self._end - self._start:
            raise Refused(EBUSY)
        return self.memory

    def placed(self, length: int, made: mmap | Array[c_char]) -> None:
        """Remember the address, and whether it can be written."""
        self._written = max(self._written, self.memory.writers)
        self._start = address_of(made)
        self._end = self._start + rounded(length, self.kernel.host.page_size)


def _crosses(address: int, size: int) -> bool:
    # Pointers into an arena have 32 bits.
    return address >> 32 != address + size - 1 >> 32
