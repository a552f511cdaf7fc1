"""The buffer of a perf event, as its readers see it: a page that says where, and the records.

Source: include/uapi/linux/perf_event.h:perf_event_mmap_page, kernel/events/ring_buffer.c (v6.12).
"""

from __future__ import annotations

from struct import pack_into, unpack_from

from rawbpf.sim.map.memory import SharedMemory

# Of struct perf_event_mmap_page.
_CAPABILITIES, _SIZE, _RESERVED = 40, 72, 96
_BIT0_IS_DEPRECATED = 2
_HEAD, _TAIL, _DATA_OFFSET = 1024, 1032, 1040
_U64 = (1 << 64) - 1


class PerfRing:
    """`pages` pages of records after the first page; `writable`: readers say how far they came.

    Readers of a buffer that is not writable find the newest records: older ones are written over. `backward`: records
    lie from the end on down. `woken_at` is the position of the last wakeup, and one more for each that a number of
    events caused, as in the kernel. `paused`: nothing is to be written.
    """

    def __init__(self, pages: int, page_size: int, writable: bool, backward: bool, watermark: int) -> None:
        self.size = pages * page_size
        self.writable = writable
        self.paused = False
        self.memory = SharedMemory(page_size + self.size)
        self.lost = 0
        self._first = page_size
        self._backward = backward
        self._head = 0
        self._watermark = min(self.size, watermark) or self.size // 2
        self.woken_at = 0
        view = self.memory.view
        pack_into("=Q", view, _CAPABILITIES, _BIT0_IS_DEPRECATED)
        pack_into("=I", view, _SIZE, _RESERVED)
        pack_into("=QQ", view, _DATA_OFFSET, page_size, self.size)

    def has_room(self, size: int) -> bool:
        """Return whether `size` more bytes fit. Source: ring_buffer_has_space."""
        if self.paused or not self.size or size > self.size:
            return False
        if not self.writable:
            return True
        tail: int = unpack_from("=Q", self.memory.view, _TAIL)[0]
        ahead = -self._head - tail if self._backward else tail - self._head
        return (ahead - 1) & (self.size - 1) >= size

    def write(self, content: bytes) -> bool:
        """Store records, for which there is room; return whether the watermark was passed."""
        end = self._head + len(content)
        at = (-end if self._backward else self._head) & (self.size - 1)
        first = content[: self.size - at]
        view, start = self.memory.view, self._first
        view[start + at : start + at + len(first)] = first
        view[start : start + len(content) - len(first)] = content[len(first) :]
        self._head = end
        pack_into("=Q", view, _HEAD, (-end if self._backward else end) & _U64)
        if self._head - self.woken_at <= self._watermark:
            return False
        self.woken_at += self._watermark
        return True
