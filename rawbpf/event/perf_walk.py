"""Which records lie in the buffer of a perf event: headers in, runs of equally long samples out.

Pure: memory is read, nothing is called. What it holds may be anything, and may change meanwhile: there is a result
or a FormatError. Samples have raw bytes and nothing else (PERF_SAMPLE_RAW). Kernel side:
kernel/events/core.c:perf_output_sample, kernel/events/ring_buffer.c:__perf_output_begin (v6.12).
"""

from __future__ import annotations

import sys

from rawbpf.errors import FormatError
from rawbpf.event.alike import ALIKE, alike_ahead
from rawbpf.uapi.perf import PERF_RECORD_LOST, PERF_RECORD_SAMPLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.event.span import Run

    Loss = tuple[int, int]

LEAD = 12
"""Bytes of a sample before its raw ones: struct perf_event_header, and how many there are (u32)."""

# The words of struct perf_event_header {u32 type; u16 misc; u16 size}, and any other two of 32 bits, as one of 64.
_LITTLE = sys.byteorder == "little"
_FIRST, _SIZE = (0, 48) if _LITTLE else (32, 0)
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_LEAST = {PERF_RECORD_SAMPLE: 16, PERF_RECORD_LOST: 24}
_HEADER = 8
_MOST = 65528 - LEAD


def walk(words: memoryview, start: int, available: int, most: int) -> tuple[list[Run], int, list[Loss]]:
    """Return the runs of samples from an offset on, the offset behind them, and the losses between.

    `words`: the buffer as u64. `start`: bytes from its beginning, of which `available` follow, round its end. A run is
    (offset of its first header, raw bytes of each, bytes from one header to the next, how many), a loss (offset behind
    the record of it, how many samples found no room). The walk ends at a record that reaches beyond the buffer's end,
    and behind `most` samples. Raises: FormatError for what no kernel writes.
    """
    size = 8 * len(words)
    if start % 8 or available % 8 or not (0 <= start <= size and available >= 0):
        raise FormatError(f"{available} bytes are to be read from {start} on: no multiples of 8 within {size}", start)
    runs: list[Run] = []
    losses: list[Loss] = []
    at, end, left = start, start + available, most
    stop = min(end, size)
    first = count = stride = trigger = 0
    alike = -1
    while at < stop and left > 0:
        header = words[at >> 3]
        if header == alike and at + stride <= stop:
            at += stride
            count += 1
            left -= 1
            if count >= trigger:
                more = alike_ahead(words, at, stop, stride, left)
                at += more * stride
                count += more
                left -= more
                trigger = count + ALIKE
            continue
        if count:
            runs.append((first, stride - LEAD, stride, count))
            count = 0
        alike = -1
        kind, length = _record(words, at, end)
        if at + length > size:
            break
        if kind == PERF_RECORD_SAMPLE:
            first, alike, stride, count, trigger = at, header, length, 1, ALIKE
            left -= 1
        elif kind == PERF_RECORD_LOST:
            losses.append((at + length, words[(at >> 3) + 2]))
        at += length
    if count:
        runs.append((first, stride - LEAD, stride, count))
    return runs, at, losses


def edges(words: memoryview, *, cut: bool) -> list[int]:
    """Return where records begin, and the last ends, that lie one behind the other in `words`.

    A buffer that is written backwards has them so, the newest first. `cut`: newer ones were written over those before
    the oldest, and over a part of that, or are just now: it ends at what is no record then. Raises: FormatError for
    what no kernel writes.
    """
    found, end = [0], 8 * len(words)
    while (at := found[-1]) < end:
        try:
            found.append(at + _record(words, at, end)[1])
        except FormatError:
            if not cut:
                raise
            break
    return found


def length_at(words: memoryview, at: int) -> int:
    """Return how many bytes the record at an offset says it has."""
    return words[at >> 3] >> _SIZE & _U16


# The type and the bytes of the record at `at`, which the buffer's end may cut. Raises: FormatError.
def _record(words: memoryview, at: int, end: int) -> tuple[int, int]:
    header = words[at >> 3]
    kind, length = header >> _FIRST & _U32, header >> _SIZE & _U16
    if length % 8 or length < _LEAST.get(kind, _HEADER) or at + length > end:
        raise FormatError(f"a record of type {kind} has {length} bytes of the {end - at} that are there", at)
    if kind == PERF_RECORD_SAMPLE and (at >> 3) + 1 < len(words):
        raw = words[(at >> 3) + 1] >> _FIRST & _U32
        if raw != length - LEAD:
            raise FormatError(f"a sample of {length} bytes has {raw} raw ones; programs may write {_MOST}", at)
    return kind, length
