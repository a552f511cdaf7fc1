"""Whatever a ring's memory holds: walking it finds the records that are there, or raises FormatError, and ends."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawbpf.errors import FormatError
from rawbpf.event.order import Order
from rawbpf.event.span import Span
from rawbpf.event.walk import walk
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.event.span import Run

BUSY, DISCARD = c.BPF_RINGBUF_BUSY_BIT, c.BPF_RINGBUF_DISCARD_BIT
ALL = 1 << 62

# A length, whether it is discarded, and how many such records follow each other.
records: st.SearchStrategy[list[tuple[int, bool, int]]] = st.lists(
    st.tuples(st.integers(0, 40), st.booleans(), st.sampled_from([1, 1, 2, 15, 16, 17, 48, 49, 200]))
)


def memory_of(written: list[tuple[int, bool, int]]) -> tuple[bytes, list[bytes]]:
    """Return what a kernel would have written, and the records that a reader gets."""
    memory, expected = b"", []
    for length, discarded, count in written:
        for nth in range(count):
            content = bytes([(length + nth) % 251]) * length
            memory += struct.pack("=II", length | discarded * DISCARD, 7) + content.ljust(length + 7 & -8, b"\xff")
            if not discarded:
                expected.append(content)
    return memory, expected


def words(memory: bytes) -> memoryview:
    return memoryview(memory).cast("I")


def found(memory: bytes, runs: list[Run]) -> list[bytes]:
    return [
        memory[at + 8 : at + 8 + length]
        for first, length, stride, count in runs
        for at in range(first, first + count * stride, stride)
    ]


def reference(memory: bytes, start: int, end: int, most: int) -> tuple[list[bytes], int, int] | None:
    """Return what `walk` has to find, header by header; None where it has to refuse."""
    at, discarded = start, 0
    records: list[bytes] = []
    while at < end and len(records) < most:
        (header,) = struct.unpack_from("=I", memory, at)
        if header & BUSY:
            break
        length = header & ~DISCARD
        if at + (8 + length + 7 & -8) > end:
            return None
        if header & DISCARD:
            discarded += 1
        else:
            records.append(memory[at + 8 : at + 8 + length])
        at += 8 + length + 7 & -8
    return records, at, discarded


@given(records)
def test_what_was_written_is_found_in_order(written: list[tuple[int, bool, int]]) -> None:
    memory, expected = memory_of(written)
    runs, stop, discarded = walk(words(memory), 0, len(memory), ALL)
    assert found(memory, runs) == expected
    assert stop == len(memory)
    assert discarded == sum(count for _, thrown, count in written if thrown)


@given(records, st.integers(0, 300), st.data())
def test_a_walk_goes_on_where_another_was_told_to_stop(
    written: list[tuple[int, bool, int]], most: int, data: st.DataObject
) -> None:
    memory, expected = memory_of(written)
    runs, stop, _ = walk(words(memory), 0, len(memory), most)
    first = found(memory, runs)
    assert len(first) <= most
    rest, end, _ = walk(words(memory), stop, len(memory), ALL)
    assert first + found(memory, rest) == expected
    assert end == len(memory)


@given(records, st.data())
def test_a_walk_stops_at_a_record_that_is_being_written(
    written: list[tuple[int, bool, int]], data: st.DataObject
) -> None:
    memory, _ = memory_of(written)
    starts, at = [], 0
    while at < len(memory):
        starts.append(at)
        at += 8 + (struct.unpack_from("=I", memory, at)[0] & ~DISCARD) + 7 & -8
    if not starts:
        return
    busy = data.draw(st.sampled_from(starts))
    (header,) = struct.unpack_from("=I", memory, busy)
    changed = memory[:busy] + struct.pack("=I", header & ~DISCARD | BUSY) + memory[busy + 4 :]
    runs, stop, discarded = walk(words(changed), 0, len(changed), ALL)
    assert stop == busy
    assert (found(changed, runs), stop, discarded) == reference(changed, 0, len(changed), ALL)


@given(records, st.integers(0, 1000))
def test_memory_that_ends_within_a_record_is_refused(written: list[tuple[int, bool, int]], kept: int) -> None:
    memory, _ = memory_of(written)
    memory = memory[: 8 * kept]
    expected = reference(memory, 0, len(memory), ALL)
    try:
        runs, stop, discarded = walk(words(memory), 0, len(memory), ALL)
    except FormatError:
        assert expected is None
    else:
        assert (found(memory, runs), stop, discarded) == expected


@given(
    st.lists(st.one_of(st.integers(0, 64), st.sampled_from([BUSY, DISCARD, BUSY | DISCARD, 0x3FFFFFFF, 0xFFFFFFFF, 8])))
    .map(lambda heads: struct.pack(f"={2 * len(heads)}I", *(each for head in heads for each in (head, 0)))),
    st.integers(-8, 600),
    st.integers(-8, 600),
    st.one_of(st.integers(-1, 40), st.just(ALL)),
)  # fmt: skip
def test_any_memory_is_walked_or_refused(memory: bytes, start: int, end: int, most: int) -> None:
    try:
        runs, stop, discarded = walk(words(memory), start, end, most)
    except FormatError:
        lawful = start % 8 == 0 and end % 8 == 0 and 0 <= start <= end <= len(memory)
        assert not lawful or reference(memory, start, end, most) is None
    else:
        assert (found(memory, runs), stop, discarded) == reference(memory, start, end, most)


@given(st.binary(max_size=400), st.integers(0, 50))
def test_random_bytes_are_walked_or_refused(memory: bytes, most: int) -> None:
    memory = memory[: len(memory) & -8]
    try:
        runs, stop, _ = walk(words(memory), 0, len(memory), most)
    except FormatError:
        assert reference(memory, 0, len(memory), most) is None
    else:
        assert stop <= len(memory)
        assert len(found(memory, runs)) <= most


def test_records_of_equal_length_are_one_run() -> None:
    memory, _ = memory_of([(16, False, 1000)])
    assert walk(words(memory), 0, len(memory), ALL) == ([(0, 16, 24, 1000)], 24000, 0)


class Counting:
    """Memory that counts how many headers are looked at."""

    itemsize = 4

    def __init__(self, memory: bytes) -> None:
        self.words = words(memory)
        self.looks = 0

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, which: int | slice) -> object:
        if isinstance(which, int):
            self.looks += 1
            return self.words[which]
        part = self.words[which]
        self.looks += len(part)
        return part


@pytest.mark.parametrize("alike", [1, 5, 16, 17, 20, 49, 100, 1000])
def test_the_work_is_in_proportion_to_the_records(alike: int) -> None:
    # Checking all that is left whenever some are alike would be quadratic. A comparison looks at two headers.
    count = 8000
    memory, expected = memory_of([(16 + 8 * (nth % 2), False, alike) for nth in range(count // alike)])
    counting = Counting(memory)
    runs, _, _ = walk(counting, 0, len(memory), ALL)  # type: ignore[arg-type]  # as much of a view as is needed
    assert found(memory, runs) == expected
    assert counting.looks < 16 * len(expected)


# Positions of spans -----------------------------------------------------------------


@given(records, st.integers(0, 400), st.integers(0, 1 << 40))
def test_the_position_behind_any_record_is_that_of_the_next(
    written: list[tuple[int, bool, int]], taken: int, position: int
) -> None:
    memory, expected = memory_of(written)
    runs, stop, _ = walk(words(memory), 0, len(memory), ALL)
    span = Span(memoryview(memory), runs, 8, 0, stop, position)
    assert span.count == len(expected)
    behind, start, count, rest = span.after(taken)
    assert behind - position == start
    assert count == max(len(expected) - taken, 0)
    assert found(memory, rest) == expected[taken:]
    # All that lies before it was passed over or taken, and nothing behind it was.
    before, _, _ = walk(words(memory), 0, start, ALL)
    assert found(memory, before) == expected[:taken]


# Fences -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "needed"),
    [
        *[("x86_64", False), ("i686", False), ("s390x", False)],
        *[("aarch64", True), ("riscv64", True), ("ppc64le", True), ("armv7l", True), ("one to come", True)],
    ],
)
def test_loads_are_fenced_where_the_machine_does_not_order_them(machine: str, needed: bool) -> None:
    order = Order(machine)
    assert (order.loads is order.full) == needed
    for _ in range(3):
        assert order.loads() is order.full() is None


def test_a_fence_may_be_interrupted_by_itself_at_any_step() -> None:
    order = Order()
    calls = 0

    def again(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        if event in ("c_call", "c_return") and calls < 20:
            calls += 1
            sys.setprofile(None)
            order.full()
            sys.setprofile(again)

    sys.setprofile(again)
    try:
        order.full()
    finally:
        sys.setprofile(None)
    order.full()
    assert calls >= 6
