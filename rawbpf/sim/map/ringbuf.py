"""Ring buffers: two positions and the records between them, in memory that both sides map.

The consumer's page comes first, then the producer's, then the data twice in a row, so that a record that
reaches beyond the end reads on. Source: kernel/bpf/ringbuf.c (v6.18).
"""

from __future__ import annotations

from errno import E2BIG, EAGAIN, EBUSY, EINVAL, ENODATA, EPERM
from struct import Struct

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.memory import SharedMemory
from rawbpf.sim.map.shape import rounded
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_POSITION = Struct("@L")
_POSITIONS = 1 << 8 * _POSITION.size
# The length with its two bits, and the record's distance in pages from the beginning of what the kernel has.
_HEADER = Struct("=II")
_BUSY, _DISCARD = c.BPF_RINGBUF_BUSY_BIT, 1 << 30
_LENGTH = ~(_BUSY | _DISCARD)
# Pages that the kernel has before the data: its own, which nobody else sees, and one for each position.
_PAGES_BEFORE = 3
_HEAD = 304
_LONGEST_RECORD = 0xFFFFFFFF // 4
_LONGEST_SAMPLE = (1 << 24) - 1  # Source: kernel/bpf/helpers.c:bpf_dynptr_check_size
_MOST_SAMPLES = 128 * 1024
_WAKEUP = c.BPF_RB_NO_WAKEUP | c.BPF_RB_FORCE_WAKEUP


class _SimRing(SimMap):
    flags_allowed = c.BPF_F_NUMA_NODE
    can_be_mapped = True
    memory: SharedMemory

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._page = kernel.host.page_size
        self._data = 2 * self._page
        self.memory = SharedMemory(self._data + 2 * self.max_entries, self.max_entries)

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: ringbuf_map_alloc."""
        shape.check_flags(self.flags_allowed)
        size = shape.max_entries
        if shape.key_size or shape.value_size or not size or size & size - 1 or size % kernel.host.page_size:
            raise Refused(EINVAL)
        self.check_memory(kernel, size)

    @property
    def memory_usage(self) -> int:
        """Bytes that pages and pointers to them take, twice for those of data. Source: ringbuf_map_mem_usage."""
        pages = self.max_entries // self._page
        return _HEAD + (_PAGES_BEFORE + pages) * self._page + (_PAGES_BEFORE + 2 * pages) * _POSITION.size

    @property
    def consumer(self) -> int:
        """The consumer's position."""
        return self._position(0)

    @property
    def producer(self) -> int:
        """The producer's position."""
        return self._position(self._page)

    @property
    def available(self) -> int:
        """How many bytes lie between the positions."""
        return (self.producer - self.consumer) % _POSITIONS

    def map_memory(self, length: int, offset: int, writable: bool) -> SharedMemory:
        """Return the memory. Raises: Refused (EPERM: not to be written; EINVAL: too long)."""
        length = rounded(length, self._page)
        if writable and not self.may_be_written(length, offset):
            raise Refused(EPERM)
        # Source: mm/vmalloc.c:remap_vmalloc_range_partial
        if offset + length > self.memory.size:
            raise Refused(EINVAL)
        return self.memory

    def may_be_written(self, length: int, offset: int) -> bool:
        """Whether user space may write to these pages."""
        raise NotImplementedError

    def _position(self, at: int) -> int:
        position: int = _POSITION.unpack_from(self.memory.view, at)[0]
        return position

    def _move(self, at: int, position: int) -> None:
        _POSITION.pack_into(self.memory.view, at, position % _POSITIONS)

    def _header_at(self, position: int) -> int:
        return self._data + position % self.max_entries


def _room(size: int) -> int:
    # What a record of `size` bytes takes.
    return rounded(size + _HEADER.size)


class SimRingBuf(_SimRing):
    """BPF_MAP_TYPE_RINGBUF: programs produce. The methods below `readable` are the helpers of programs."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        # The oldest record that may not be committed yet.
        self._pending = 0

    def may_be_written(self, length: int, offset: int) -> bool:
        """Whether it is the consumer's position alone."""
        return offset == 0 and length == self._page

    def readable(self) -> bool:
        """Whether there is a record, be it still being written. Source: ringbuf_map_poll_kern."""
        return self.available != 0

    def reserve(self, size: int) -> int | None:
        """Reserve room for `size` bytes and return the record's position; None where they do not fit.

        Source: __bpf_ringbuf_reserve.
        """
        length = _room(size)
        if size > _LONGEST_RECORD or length > self.max_entries:
            return None
        position = self.producer
        while (position - self._pending) % _POSITIONS:
            header, _ = _HEADER.unpack_from(self.memory.view, self._header_at(self._pending))
            if header & _BUSY:
                break
            self._pending = (self._pending + _room(header & _LENGTH)) % _POSITIONS
        # What was not read or not committed is not overwritten; the ring is never full to the last byte.
        for oldest in (self.consumer, self._pending):
            if (position + length - oldest) % _POSITIONS >= self.max_entries:
                return None
        at = self._header_at(position)
        page = _PAGES_BEFORE + (at - self._data) // self._page
        _HEADER.pack_into(self.memory.view, at, size | _BUSY, page)
        self._move(self._page, position + length)
        return position

    def record(self, position: int, size: int) -> memoryview:
        """Return the bytes of the record at `position`."""
        at = self._header_at(position) + _HEADER.size
        return memoryview(self.memory.view)[at : at + size]

    def commit(self, position: int, flags: int, *, discard: bool) -> None:
        """Submit or discard a record; wake the reader as `flags` say. Source: bpf_ringbuf_commit."""
        at = self._header_at(position)
        header, page = _HEADER.unpack_from(self.memory.view, at)
        _HEADER.pack_into(self.memory.view, at, header ^ _BUSY | (_DISCARD if discard else 0), page)
        caught_up = self._header_at(self.consumer) == at
        if flags & c.BPF_RB_FORCE_WAKEUP or (caught_up and not flags & c.BPF_RB_NO_WAKEUP):
            for file in self.kernel.files:
                if file.content is self:
                    file.signal()

    def output(self, content: bytes, flags: int) -> int:
        """Copy a record into the ring: 0, or a negative errno. Source: bpf_ringbuf_output."""
        if flags & ~_WAKEUP:
            return -EINVAL
        position = self.reserve(len(content))
        if position is None:
            return -EAGAIN
        self.record(position, len(content))[:] = content
        self.commit(position, flags, discard=False)
        return 0

    def query(self, what: int) -> int:
        """Return a number about the ring; 0 for an unknown question. Source: bpf_ringbuf_query."""
        if what == c.BPF_RB_AVAIL_DATA:
            return self.available
        if what == c.BPF_RB_RING_SIZE:
            return self.max_entries
        if what == c.BPF_RB_CONS_POS:
            return self.consumer
        return self.producer if what == c.BPF_RB_PROD_POS else 0


class SimUserRingBuf(_SimRing):
    """BPF_MAP_TYPE_USER_RINGBUF: user space produces, and programs drain."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._busy = False

    def may_be_written(self, length: int, offset: int) -> bool:
        """Whether it is anything but the consumer's position."""
        return offset != 0

    def readable(self) -> bool:
        """Never: it can be written or not. Source: ringbuf_map_poll_user."""
        return False

    def drain(self, callback: Callable[[bytes], int], flags: int) -> int:
        """Hand the records to `callback` until it returns another number than 0: how many, or a negative errno.

        Source: bpf_user_ringbuf_drain.
        """
        if flags & ~_WAKEUP:
            return -EINVAL
        if self._busy:
            return -EBUSY
        self._busy = True
        seen = count = 0
        try:
            for seen in range(_MOST_SAMPLES):  # noqa: B007  (how many there were)
                found = self._peek()
                if found == -ENODATA:
                    break
                if found == -EAGAIN:
                    continue
                if isinstance(found, int):
                    return found
                stopped = callback(found)
                self._move(0, self.consumer + _room(len(found)))
                count += 1
                if stopped:
                    break
            return count
        finally:
            self._busy = False
            if flags & c.BPF_RB_FORCE_WAKEUP or ((seen or count) and not flags & c.BPF_RB_NO_WAKEUP):
                for file in self.kernel.files:
                    if file.content is self:
                        file.pulse()

    def _peek(self) -> bytes | int:
        # The next record; -EAGAIN: it was discarded. Source: __bpf_user_ringbuf_peek.
        producer, consumer = self.producer, self.consumer
        if producer % 8:
            return -EINVAL
        if consumer >= producer:
            return -ENODATA
        at = self._header_at(consumer)
        header = U32.unpack_from(self.memory.view, at)[0]
        size = header & _LENGTH
        length = _room(size)
        if length > producer - consumer:
            return -EINVAL
        if length > self.max_entries or size > _LONGEST_SAMPLE:
            return -E2BIG
        if header & _DISCARD:
            self._move(0, consumer + length)
            return -EAGAIN
        if header & _BUSY:
            return -ENODATA
        start = at + _HEADER.size
        return self.memory.view[start : start + size]
