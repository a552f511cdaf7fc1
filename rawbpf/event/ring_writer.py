"""Writes records into the memory of a user ring buffer: one, or very many at once. Neither waits nor locks.

What must not change places is the opposite of what a reader does (`order`), and it is the same fence that keeps it:

1. The consumer's position is loaded, then the room is written to that it gave back. The kernel stores the position by
   `smp_store_release(&rb->consumer_pos, ...)` in __bpf_user_ringbuf_sample_release, when it is done with a record.
2. Record and header are stored, the header marked busy where the record is still to be written, then the producer's
   position, which __bpf_user_ringbuf_peek loads by `smp_load_acquire(&rb->producer_pos)` before it looks at the header.
3. A record is stored, then its header without the mark, which the same function loads by `smp_load_acquire(hdr)` before
   a program looks at the record. One instruction stores it.

x86 and s390x keep loads before later stores, and stores in their order.
Kernel side: kernel/bpf/ringbuf.c (v6.12).
"""

from __future__ import annotations

import struct
import sys

from rawbpf.errors import FormatError
from rawbpf.map.memory import cast_view
from rawbpf.uapi.constants import BPF_RINGBUF_BUSY_BIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.event.order import Order
    from rawbpf.event.ring_memory import RingMemory

    Raw = bytes | bytearray | memoryview
    # By the identity of its view: that, where its header lies, and its size.
    Reserved = dict[int, tuple[memoryview, int, int]]

_HEADER = 8
# A header as one number: the length comes first, and what the kernel uses in its own records is 0.
_SHIFT = 0 if sys.byteorder == "little" else 32
# Bytes that are written before the kernel may have them: more would not be faster, and take as much memory again.
_AT_ONCE = 1 << 20
# Numbers by their size, and how many of them a record may have to be copied number by number.
_FORMS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FEW = 8


def room_for(size: int) -> int:
    """Return how many bytes of a ring a record of `size` bytes takes."""
    return size + _HEADER + 7 & -8


class RingWriter:
    """The producer's side of a ring of `size` bytes. One thread uses it at a time."""

    __slots__ = ("_bytes", "_consumer", "_describe", "_lengths", "_order", "_positions", "_producer", "_words", "size")

    def __init__(self, memory: RingMemory, order: Order, describe: str) -> None:
        self.size = memory.size
        self._describe = describe
        self._order = order
        self._consumer = memory.consumer
        self._producer = memory.producer
        self._positions = 1 << 8 * memory.producer.itemsize
        self._bytes = memory.data
        self._lengths = memory.data.cast("I")
        self._words = memory.data.cast("Q")

    def free(self) -> int:
        """Return how many bytes are free. Raises: FormatError where the positions cannot be those of a ring."""
        consumer, producer = self._consumer[0], self._producer[0]
        used = (producer - consumer) % self._positions
        if used > self.size or producer % 8:
            raise FormatError(
                f"{self._describe}: impossible positions, consumer {consumer} and producer {producer} in "
                f"{self.size} bytes: somebody else wrote to the memory"
            )
        return int(self.size - used)

    def put(self, record: Raw) -> bool:
        """Write one record; False where it does not fit."""
        size = len(record)
        total = size + _HEADER + 7 & -8
        if self.free() < total:
            return False
        start = self._start()
        self._bytes[start + _HEADER : start + _HEADER + size] = record
        self._words[start >> 3] = size << _SHIFT
        self._publish(total)
        return True

    def reserve(self, size: int) -> tuple[memoryview, int] | None:
        """Return memory for a record and what `commit` knows it by; None where it does not fit.

        The producer's position is still before it: `publish` comes next.
        """
        if self.free() < room_for(size):
            return None
        start = self._start()
        self._words[start >> 3] = (size | BPF_RINGBUF_BUSY_BIT) << _SHIFT
        return self._bytes[start + _HEADER : start + _HEADER + size], start >> 2

    def publish(self, view: memoryview, at: int, reserved: Reserved) -> None:
        """Move the producer's position past what `reserve` returned, which is then among those `reserved`."""
        key, size = id(view), len(view)
        self._order.loads()
        producer = self._producer
        behind = (producer[0] + room_for(size)) % self._positions
        # One step, as no call comes between: an interrupt finds both done, or neither.
        reserved[key] = view, at, size
        producer[0] = behind

    def commit(self, key: int, bits: int, reserved: Reserved) -> None:
        """Store the length of the record that is `reserved` as `key`, which says that it is complete, or discarded."""
        _, at, size = reserved[key]
        self._order.loads()
        # One step, as in `publish`.
        self._lengths[at] = size | bits
        del reserved[key]

    def put_block(self, block: memoryview, size: int, first: int) -> int:
        """Write records of `size` bytes that lie side by side, from record `first` on; return how many fitted."""
        unit = size & -size if size & 7 else 8
        width, total = size // unit, room_for(size)
        count = min(self.free() // total, len(block) // size - first, _AT_ONCE // total or 1)
        block = block[first * size : (first + count) * size]
        if width > _FEW:
            return self.put_alike([record for (record,) in struct.iter_unpack(f"{size}s", block)], 0)
        if count:
            start = self._start()
            source, target, step = cast_view(block, _FORMS[unit]), cast_view(self._bytes, _FORMS[unit]), total // unit
            for column in range(width):
                at = (start + _HEADER) // unit + column
                target[at : at + (count - 1) * step + 1 : step] = source[column::width]
            at, step = start >> 3, total >> 3
            headers = memoryview(struct.pack("Q", size << _SHIFT) * count).cast("Q")
            self._words[at : at + (count - 1) * step + 1 : step] = headers
            self._publish(count * total)
        return count

    def put_alike(self, records: Sequence[Raw], first: int) -> int:
        """Write records of one size, from number `first` on; return how many fitted."""
        size = len(records[first]) if records else 0
        total = room_for(size)
        count = min(self.free() // total, len(records) - first, _AT_ONCE // total or 1)
        if count:
            header = struct.pack("Q", size << _SHIFT)
            # What lies between two records.
            between = bytes(-size & 7) + header
            self._put_joined(header + between.join(records[first : first + count]), count * total)
        return count

    def put_mixed(self, records: Sequence[Raw], first: int) -> int:
        """Write records of any sizes, from number `first` on; return how many fitted."""
        room = min(self.free(), max(_AT_ONCE, room_for(len(records[first]))))
        frames: dict[int, tuple[bytes, bytes, int]] = {}
        parts: list[Raw] = []
        used = 0
        for at in range(first, len(records)):
            record = records[at]
            size = len(record)
            if (frame := frames.get(size)) is None:
                frame = frames[size] = struct.pack("Q", size << _SHIFT), bytes(-size & 7), room_for(size)
            header, padding, total = frame
            if used + total > room:
                break
            used += total
            parts += (header, record, padding)
        if parts:
            self._put_joined(b"".join(parts), used)
        return len(parts) // 3

    def _put_joined(self, content: bytes, total: int) -> None:
        start = self._start()
        self._bytes[start : start + len(content)] = content
        self._publish(total)

    def _start(self) -> int:
        # Where the next record's header lies. What is written there from now on, the kernel has done with.
        self._order.loads()
        start: int = self._producer[0] % self.size
        return start

    def _publish(self, total: int) -> None:
        self._order.loads()
        self._producer[0] = (self._producer[0] + total) % self._positions
