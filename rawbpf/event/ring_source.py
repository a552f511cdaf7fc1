"""Where the records of a ring buffer come from: its memory, walked up to the producer's position.

Knows positions and fences; what headers mean is in `walk`, how records become events elsewhere.
Kernel side: kernel/bpf/ringbuf.c (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import FormatError
from rawbpf.event.span import Span
from rawbpf.event.walk import walk
from rawbpf.map.handle import Handle
from rawbpf.uapi.constants import BPF_RINGBUF_HDR_SZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.event.order import Order
    from rawbpf.event.ring_memory import RingMemory

_GONE = memoryview(bytes(8))


class RingSource:
    """One ring buffer, read by one reader. A descriptor of its own lets it be waited for."""

    cpu = -1
    lost = 0  # programs see themselves what finds no room, and the kernel does not count it

    def __init__(self, handle: Handle, memory: RingMemory) -> None:
        self.describe = handle.describe
        self.high_water = 0
        self.busy = False
        self._consumer, self._producer, self._data = memory.consumer, memory.producer, memory.data
        self._size = memory.size
        self._words = memory.data.cast("I")
        self._wrap = 1 << 8 * memory.consumer.itemsize
        # Behind what was taken, and where the consumer's position was stored last.
        self._next = self._stored = memory.consumer[0]
        with handle as fd:
            self._handle = Handle(handle.backend, handle.backend.dup(fd))

    @property
    def fds(self) -> list[int]:
        """What poll(2) is asked about."""
        return [self._handle.fd]

    @property
    def available(self) -> int:
        """How many bytes lie between the positions."""
        return int(self._producer[0] - self._consumer[0]) % self._wrap

    def take(self, most: int, order: Order) -> Span | None:
        """Return the records behind those taken before, at most so many; None where there are none to be read.

        `busy` then tells whether there is one that is still being written.
        """
        moved = self._consumer[0]
        if moved != self._stored:  # by another reader: what it took is gone
            self._stored = moved
            if (moved - self._next) % self._wrap < self._wrap >> 1:
                self._next = moved
        position, end = self._next, self._producer[0]
        order.loads()
        there = (end - position) % self._wrap
        self.busy = False
        if not there:
            return None
        if there > self.high_water:
            self.high_water = min(there, self._size)
        if there > self._size:
            raise self._corrupt(f"the producer's position {end} is not behind it within {self._size} bytes", position)
        start = position % self._size
        try:
            runs, stop, discarded = walk(self._words, start, start + there, most)
        except FormatError as error:
            raise self._corrupt(str(error), position + (error.offset or start) - start) from None
        order.loads()
        if stop == start:
            self.busy = True
            return None
        self._next = (position + stop - start) % self._wrap
        return Span(self._data, runs, BPF_RINGBUF_HDR_SZ, start, stop, position, discarded=discarded)

    def commit(self, position: int, order: Order) -> None:
        """Store the consumer's position, which gives the room before it back."""
        position %= self._wrap
        if 0 < (self._consumer[0] - position) % self._wrap < self._wrap >> 1:
            return  # another reader is ahead, perhaps by more than the ring has room for
        order.loads()
        self._stored = position
        self._consumer[0] = position  # the last thing done: after it nothing can fail

    def rewind(self) -> None:
        """Take again what was taken and not committed."""
        self._next = self._stored = self._consumer[0]

    def close(self) -> None:
        """Close the descriptor and let go of the memory, which goes with the last view of it. Idempotent."""
        self._handle.close()
        self._consumer = self._producer = _GONE
        self._data = self._words = _GONE[:0]

    def _corrupt(self, what: str, position: int) -> FormatError:
        return FormatError(f"{self.describe}: the ring is corrupt at position {position}: {what}", position)
