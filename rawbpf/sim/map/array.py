"""Arrays: every element exists from the start, as zeros, and stays.

Source: kernel/bpf/arraymap.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENOENT, EPERM

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, U32, SimMap
from rawbpf.sim.map.batch import generic_lookup, generic_update
from rawbpf.sim.map.hash import PERCPU_LIMIT
from rawbpf.sim.map.memory import SharedMemory
from rawbpf.sim.map.shape import rounded
from rawbpf.sim.types.check import check_index_type
from rawbpf.sim.types.record import DATASEC, VOID
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

_INT_MAX = 0x7FFFFFFF
_HEAD, _POINTER = 312, 8


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

    takes_no_key_type = True
    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE | c.BPF_F_MMAPABLE | c.BPF_F_INNER_MAP
    can_be_mapped = True
    lookup_batch = generic_lookup
    update_batch = generic_update

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._values: dict[int, bytes] = {}
        self._stride = rounded(shape.value_size)
        if shape.has(c.BPF_F_MMAPABLE):
            self.memory = SharedMemory(rounded(self._stride * self.max_entries, kernel.host.page_size))

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: array_map_alloc_check, array_map_alloc."""
        shape.check_flags(self.flags_allowed)
        if shape.max_entries == 0 or shape.key_size != 4 or shape.value_size == 0:
            raise Refused(EINVAL)
        if shape.value_size > _INT_MAX:
            raise Refused(E2BIG)
        self.check_memory(kernel, rounded(shape.value_size) * shape.max_entries)

    @property
    def memory_usage(self) -> int:
        """Bytes that the elements take. Source: array_map_mem_usage."""
        if self.memory is None:
            return _HEAD + self.max_entries * self._stride
        return rounded(_HEAD, self.kernel.host.page_size) + self.memory.size

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check that the key is an int; a map of one element may do without. Source: array_map_check_btf."""
        if key.kind == VOID:
            if self.type != c.BPF_MAP_TYPE_ARRAY or self.max_entries != 1 or value.kind != DATASEC:
                raise Refused(EINVAL)
        else:
            check_index_type(key)

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

    def digest(self) -> bytes:
        """Return the SHA-256 of all elements. Raises: Refused (EPERM: not frozen). Source: array_map_get_hash."""
        if self.type != c.BPF_MAP_TYPE_ARRAY:
            raise Refused(EINVAL)
        if not self.frozen:
            raise Refused(EPERM)
        from hashlib import sha256

        total = sha256()
        for index in range(self.max_entries):
            total.update(self.element(index).ljust(self._stride, b"\0"))
        return total.digest()

    def element(self, index: int) -> bytes:
        """Return the bytes of an element that exists."""
        if self.memory is not None:
            at = index * self._stride
            return self.memory.view[at : at + self.value_size]
        return self._values.get(index) or bytes(self.value_bytes)

    def set_element(self, index: int, value: bytes) -> None:
        """Store the bytes of an element that exists."""
        if self.memory is not None:
            at = index * self._stride
            self.memory.view[at : at + self.value_size] = value
        else:
            self._values[index] = value

    def map_memory(self, length: int, offset: int, writable: bool) -> SharedMemory:
        """Return the elements' memory. Raises: Refused (EINVAL: not MMAPABLE, or too long).

        Source: array_map_mmap.
        """
        if self.memory is None or offset + length > self.memory.size:
            raise Refused(EINVAL)
        return self.memory


class SimPerCpuArray(SimArray):
    """BPF_MAP_TYPE_PERCPU_ARRAY."""

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE
    can_be_mapped = False

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.value_bytes = rounded(shape.value_size) * kernel.host.possible_cpus

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags; a value must fit a per-CPU allocation."""
        shape.check_no_node()
        super().check(kernel, shape)
        if rounded(shape.value_size) > PERCPU_LIMIT:
            raise Refused(E2BIG)

    @property
    def memory_usage(self) -> int:
        """Bytes that the elements and pointers to them take. Source: array_map_mem_usage."""
        return _HEAD + self.max_entries * (_POINTER + self.value_bytes)
