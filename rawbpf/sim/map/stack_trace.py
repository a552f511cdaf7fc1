"""Stack traces by id: programs put them in, user space reads and removes them.

Source: kernel/bpf/stackmap.c (v6.18).
"""

from __future__ import annotations

import sys
from errno import E2BIG, EEXIST, EINVAL, ENOENT
from struct import pack

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.jhash import jhash
from rawbpf.sim.map.shape import power_of_two
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_ADDRESS, _BUILD_ID = 8, 32
_HEAD, _BUCKET, _POINTER = 320, 16, 8
_DEEPEST = 127  # the sysctl kernel.perf_event_max_stack, as it is by default


class SimStackTrace(SimMap):
    """BPF_MAP_TYPE_STACK_TRACE."""

    flags_allowed = c.BPF_F_NUMA_NODE | c.BPF_F_RDONLY | c.BPF_F_WRONLY | c.BPF_F_STACK_BUILD_ID
    takes_btf = False

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._buckets = power_of_two(self.max_entries)
        # By id: the hash of the addresses, and what is read.
        self._traces: dict[int, tuple[int, bytes]] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: stack_map_alloc."""
        shape.check_flags(self.flags_allowed)
        size = _BUILD_ID if shape.has(c.BPF_F_STACK_BUILD_ID) else _ADDRESS
        if (
            not shape.max_entries
            or shape.key_size != U32.size
            or not shape.value_size
            or shape.value_size % size
            or shape.value_size // size > _DEEPEST
        ):
            raise Refused(EINVAL)
        if shape.max_entries > 1 << 31:
            raise Refused(E2BIG)
        self.check_memory(kernel, shape.max_entries * shape.value_size)

    @property
    def memory_usage(self) -> int:
        """Bytes that pointers and traces take. Source: stack_map_mem_usage."""
        return _HEAD + self._buckets * _POINTER + self.max_entries * (_BUCKET + self.value_size)

    def put(self, addresses: Sequence[int], flags: int) -> int:
        """Store a trace as a program does; return its id, or -EEXIST where another has it.

        Source: __bpf_get_stackid.
        """
        depth = self.value_size // _ADDRESS
        content = pack(f"={min(len(addresses), depth)}Q", *addresses[:depth])
        whole = jhash(content, 0)
        number = whole & (self._buckets - 1)
        held = self._traces.get(number)
        trace = (whole, content.ljust(self.value_size, b"\0"))
        if held is not None:
            if held == trace or (held[0] == whole and flags & c.BPF_F_FAST_STACK_CMP):
                return number
            if not flags & c.BPF_F_REUSE_STACKID:
                return -EEXIST
        self._traces[number] = trace
        return number

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return a trace, zeros behind it. Raises: Refused (ENOENT)."""
        held = self._traces.get(int.from_bytes(key, sys.byteorder))
        if held is None:
            raise Refused(ENOENT)
        return held[1]

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Refuse: programs alone store traces. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def delete(self, key: bytes) -> None:
        """Remove a trace. Raises: Refused (E2BIG: no such id; ENOENT)."""
        number = U32.unpack(key)[0]
        if number >= self._buckets:
            raise Refused(E2BIG)
        if self._traces.pop(number, None) is None:
            raise Refused(ENOENT)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next id; the first after one that is not there. Raises: Refused (ENOENT: the last)."""
        number = -1 if key is None else U32.unpack(key)[0]
        above = [each for each in self._traces if number not in self._traces or each > number]
        if not above:
            raise Refused(ENOENT)
        return U32.pack(min(above))

    def lookup_and_delete(self, key: bytes) -> bytes:
        """Remove a trace and return it. Raises: Refused (ENOENT)."""
        value = self.lookup(key, b"")
        self.delete(key)
        return value
