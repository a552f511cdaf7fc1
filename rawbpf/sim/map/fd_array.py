"""Arrays of objects that are handed in as descriptors and, where they can be read, read back as ids.

Source: kernel/bpf/arraymap.c:fd_array_map_alloc_check and what follows it (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT
from typing import Generic, TypeVar

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

T = TypeVar("T")

USER_ACCESS = c.BPF_F_RDONLY | c.BPF_F_WRONLY
_SLOT = 8


class SimFdArray(SimMap, Generic[T]):
    """An array of references, of which none is there at first."""

    flags_allowed = USER_ACCESS | c.BPF_F_NUMA_NODE
    takes_btf = False
    takes_no_key_type = True
    head_bytes = 312
    # Whether an object can be read back, as its id.
    reads_back = False

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.slots: dict[int, T] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: fd_array_map_alloc_check, array_map_alloc."""
        shape.check_flags(self.flags_allowed)
        if shape.value_size != U32.size or shape.key_size != U32.size or not shape.max_entries:
            raise Refused(EINVAL)
        self.check_memory(kernel, shape.max_entries * _SLOT)

    def get(self, fd: int) -> T:
        """Return what `fd` leads to, if the map takes it. Raises: Refused. Source: map_ops.map_fd_get_ptr."""
        raise NotImplementedError

    def number(self, item: T) -> int:
        """Return what is read back of an object, where `reads_back`. Source: map_ops.map_fd_sys_lookup_elem."""
        raise NotImplementedError

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the id of an object. Raises: Refused (ENOENT; ENOTSUPP). Source: bpf_fd_array_map_lookup_elem."""
        if not self.reads_back:
            raise Refused(ENOTSUPP)
        item = self.slots.get(U32.unpack(key)[0])
        if item is None:
            raise Refused(ENOENT)
        return U32.pack(self.number(item))

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store an object. Raises: Refused (EINVAL: flags; E2BIG: no such index; ...).

        Source: bpf_fd_array_map_update_elem.
        """
        index = U32.unpack(key)[0]
        if flags != c.BPF_ANY:
            raise Refused(EINVAL)
        if index >= self.max_entries:
            raise Refused(E2BIG)
        self.slots[index] = self.get(U32.unpack(value)[0])

    def delete(self, key: bytes) -> None:
        """Empty a slot. Raises: Refused (E2BIG: no such index; ENOENT). Source: __fd_array_map_delete_elem."""
        index = U32.unpack(key)[0]
        if index >= self.max_entries:
            raise Refused(E2BIG)
        if self.slots.pop(index, None) is None:
            raise Refused(ENOENT)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)
