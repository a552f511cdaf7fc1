"""Arrays: every element exists from the start, as zeros, and stays.

Source: kernel/bpf/arraymap.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENOENT, ENOMEM

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, U32, SimMap
from rawbpf.sim.map.batch import generic_lookup, generic_update
from rawbpf.sim.map.hash import PERCPU_LIMIT
from rawbpf.sim.map.memory import SharedMemory
from rawbpf.sim.map.shape import rounded
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_INT_MAX = 0x7FFFFFFF


def next_index(key: bytes | None, max_entries: int) -> bytes:
    """Return the index after `key`; 0 after None and after an index that does not exist.

    Raises: Refused (ENOENT) after the last. Source: kernel/bpf/arraymap.c:array_map_get_next_key (v6.12).
    """
    index = U32.unpack(key)[0] if key is not None else 0xFFFFFFFF
    if index >= max_entries:
        return U32.pack(0)
    if index == max_entries - 1:
        raise Refused(ENOENT)
    return U32.pack(index + 1)


class SimArray(SimMap):
    """BPF_MAP_TYPE_ARRAY."""

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE | c.BPF_F_MMAPABLE | c.BPF_F_PRESERVE_ELEMS | c.BPF_F_INNER_MAP
    lookup_batch = generic_lookup
    update_batch = generic_update

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._values: dict[int, bytes] = {}
        self._stride = rounded(shape.value_size)
        self._memory: SharedMemory | None = None
        if shape.has(c.BPF_F_MMAPABLE):
            self._memory = SharedMemory(rounded(self._stride * self.max_entries, kernel.host.page_size))

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: array_map_alloc_check, array_map_alloc."""
        shape.check_flags(self.flags_allowed)
        if shape.max_entries == 0 or shape.key_size != 4 or shape.value_size == 0:
            raise Refused(EINVAL)
        if shape.value_size > _INT_MAX:
            raise Refused(E2BIG)
        self.check_memory(kernel, rounded(shape.value_size) * shape.max_entries)

    def check_memory(self, kernel: Kernel, size: int) -> None:
        """Check that the elements fit memory. Raises: Refused (ENOMEM)."""
        available = kernel.host.memory_available
        if available is not None and size > available:
            raise Refused(ENOMEM)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return an element. Raises: Refused (ENOENT: no such index)."""
        index = U32.unpack(key)[0]
        if index >= self.max_entries:
            raise Refused(ENOENT)
        return self.cleaned(self.element(index))

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store an element. Raises: Refused (EINVAL: flags; E2BIG: no such index; EEXIST: NOEXIST)."""
        self.check_update_flags(flags)
        index = U32.unpack(key)[0]
        if index >= self.max_entries:
            raise Refused(E2BIG)
        if flags & c.BPF_NOEXIST:
            raise Refused(EEXIST)
        self.set_element(index, self.merged(self.element(index), value))

    def delete(self, key: bytes) -> None:
        """Refuse: elements stay. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)

    def element(self, index: int) -> bytes:
        """Return the bytes of an element that exists."""
        if self._memory is not None:
            at = index * self._stride
            return self._memory.view[at : at + self.value_size]
        return self._values.get(index) or bytes(self.value_bytes)

    def set_element(self, index: int, value: bytes) -> None:
        """Store the bytes of an element that exists."""
        if self._memory is not None:
            at = index * self._stride
            self._memory.view[at : at + self.value_size] = value
        else:
            self._values[index] = value

    def map_memory(self, length: int, offset: int, writable: bool) -> int:
        """Return the descriptor of the elements' memory. Raises: Refused (EINVAL: not MMAPABLE, or too long).

        Source: array_map_mmap.
        """
        if self._memory is None or offset + rounded(length, self.kernel.host.page_size) > self._memory.size:
            raise Refused(EINVAL)
        return self._memory.fd


class SimPerCpuArray(SimArray):
    """BPF_MAP_TYPE_PERCPU_ARRAY."""

    flags_allowed = ACCESS

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.value_bytes = rounded(shape.value_size) * kernel.host.possible_cpus

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags; a value must fit a per-CPU allocation."""
        super().check(kernel, shape)
        if rounded(shape.value_size) > PERCPU_LIMIT:
            raise Refused(E2BIG)
