"""Which records lie in a ring buffer's memory: headers in, runs of equally long records out.

Pure: memory is read, nothing is called. What it holds may be anything, and may change meanwhile: there is a result
or a FormatError. Kernel side: kernel/bpf/ringbuf.c:bpf_ringbuf_commit, struct bpf_ringbuf_hdr (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import FormatError
from rawbpf.event.alike import ALIKE, alike_ahead
from rawbpf.uapi.constants import BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.event.span import Run

_BUSY, _HEADER = BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_HDR_SZ
_FLAGS = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT
_PLAIN = BPF_RINGBUF_DISCARD_BIT  # a header below has neither bit
_LENGTH = ~_FLAGS


def walk(words: memoryview, start: int, end: int, most: int) -> tuple[list[Run], int, int]:
    """Return the runs of records between two offsets, the offset that they end at, and how many were discarded.

    `words`: the ring's data as u32. `start`, `end`: bytes from its beginning. A run is (offset of its first header,
    bytes of each record, bytes from one header to the next, how many). The walk ends at a record that is still being
    written, and behind `most` records. Raises: FormatError for what no kernel writes.
    """
    if start % 8 or end % 8 or not 0 <= start <= end <= 4 * len(words):
        raise FormatError(f"a ring's positions are {start} and {end}: no multiples of 8 in order", start)
    runs: list[Run] = []
    at, left, discarded = start, most, 0
    first = count = stride = trigger = 0
    alike = -1
    while at < end and left > 0:
        length = words[at >> 2]
        if length == alike:
            at += stride
            if at > end:
                raise _too_long(length, at - stride, end)
            count += 1
            left -= 1
            if count >= trigger:
                more = alike_ahead(words, at, end, stride, left)
                at += more * stride
                count += more
                left -= more
                trigger = count + ALIKE
            continue
        if count:
            runs.append((first, alike, stride, count))
            count = 0
        alike = -1
        if length & _BUSY:
            break
        room = _HEADER + (length & _LENGTH) + 7 & -8
        if at + room > end:
            raise _too_long(length & _LENGTH, at, end)
        if length < _PLAIN:
            first, alike, stride, count, trigger = at, length, room, 1, ALIKE
            left -= 1
        else:
            discarded += 1
        at += room
    if count:
        runs.append((first, alike, stride, count))
    return runs, at, discarded


def _too_long(length: int, at: int, end: int) -> FormatError:
    return FormatError(f"a record of {length} bytes begins {end - at} bytes before the producer's position", at)
