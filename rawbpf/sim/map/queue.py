"""Queues and stacks: values without keys. Source: kernel/bpf/queue_stack_maps.c (v6.12)."""

from __future__ import annotations

from collections import deque
from errno import E2BIG, EINVAL, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, SimMap
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

KMALLOC_LIMIT = 4 << 20
"""Bytes of a value that a system call can copy. Source: include/linux/slab.h:KMALLOC_MAX_SIZE (v6.12)."""

_HEAD = 312


class SimQueue(SimMap):
    """BPF_MAP_TYPE_QUEUE."""

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE
    # Where in the order of pushing the value lies that is popped next.
    front = 0

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._values: deque[bytes] = deque()

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: queue_stack_map_alloc_check."""
        shape.check_flags(self.flags_allowed)
        if not shape.max_entries or shape.key_size or not shape.value_size:
            raise Refused(EINVAL)
        if shape.value_size > KMALLOC_LIMIT:
            raise Refused(E2BIG)
        self.check_memory(kernel, (shape.max_entries + 1) * shape.value_size)

    @property
    def memory_usage(self) -> int:
        """Bytes that the values take, and one more. Source: queue_stack_map_mem_usage."""
        return _HEAD + (self.max_entries + 1) * self.value_size

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the value that is popped next. Raises: Refused (ENOENT: empty)."""
        if not self._values:
            raise Refused(ENOENT)
        return self._values[self.front]

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Push a value; EXIST lets the oldest go if need be. Raises: Refused (EINVAL: flags; E2BIG: full)."""
        if flags not in (c.BPF_ANY, c.BPF_EXIST):
            raise Refused(EINVAL)
        if len(self._values) >= self.max_entries:
            if flags != c.BPF_EXIST:
                raise Refused(E2BIG)
            self._values.popleft()
        self._values.append(value)

    def delete(self, key: bytes) -> None:
        """Refuse: there are no keys. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def next_key(self, key: bytes | None) -> bytes:
        """Refuse: there are no keys. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def lookup_and_delete(self, key: bytes) -> bytes:
        """Pop a value. Raises: Refused (ENOENT: empty)."""
        value = self.lookup(key, b"")
        del self._values[self.front]
        return value


class SimStack(SimQueue):
    """BPF_MAP_TYPE_STACK."""

    front = -1
