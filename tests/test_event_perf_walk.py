"""Records in the buffer of a perf event: all of them are found, whatever lies between, and junk is a FormatError."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rawbpf.errors import FormatError
from rawbpf.event.perf_walk import LEAD, edges, walk
from rawbpf.uapi import perf

if TYPE_CHECKING:
    from rawbpf.event.span import Run

ALL = 1 << 40
FUZZ = settings(max_examples=200, deadline=None, derandomize=True, database=None)
THROTTLE = 5  # PERF_RECORD_THROTTLE, one of the types that are passed over


def record(kind: int, body: bytes, misc: int = 1) -> bytes:
    return struct.pack("=IHH", kind, misc, 8 + len(body)) + body


def sample(raw: bytes) -> bytes:
    """Return a sample as the kernel writes it: the raw bytes with what pads them, which their number counts."""
    raw += bytes((4 - len(raw)) % 8)
    return record(perf.PERF_RECORD_SAMPLE, struct.pack("=I", len(raw)) + raw)


def lost(count: int) -> bytes:
    return record(perf.PERF_RECORD_LOST, struct.pack("=QQ", 77, count), misc=0)


def cut_out(data: bytes, runs: list[Run]) -> list[bytes]:
    """Return the raw bytes of every sample in `runs`."""
    return [
        data[at + LEAD : at + LEAD + length]
        for first, length, stride, count in runs
        for at in range(first, first + count * stride, stride)
    ]


def words(data: bytes) -> memoryview:
    return memoryview(data).cast("Q")


GOOD = sample(bytes(20))
samples = st.binary(max_size=64).map(sample)
# Long runs of one length are what is looked at many at a time.
repeated = st.builds(lambda raw, count: [sample(raw)] * count, st.binary(max_size=20), st.integers(1, 300))
losses = st.integers(0, (1 << 64) - 1).map(lost)
others = st.integers(0, 8).map(lambda count: record(THROTTLE, bytes(8 * count)))
contents = st.lists(st.one_of(st.lists(st.one_of(samples, losses, others)), repeated), max_size=6).map(
    lambda parts: [each for part in parts for each in part]
)


@FUZZ
@given(contents, st.integers(1, 1000))
def test_every_sample_is_found_and_every_loss_is_counted(records: list[bytes], most: int) -> None:
    data = b"".join(records)
    found: list[bytes] = []
    missed: list[int] = []
    at = 0
    while at < len(data):
        runs, stop, losses = walk(words(data), at, len(data) - at, most)
        assert at < stop <= len(data)
        assert all(at < end <= stop for end, _ in losses)
        assert sum(run[3] for run in runs) <= most
        found += cut_out(data, runs)
        missed += [count for _, count in losses]
        at = stop
    kinds = [(struct.unpack_from("=I", each)[0], each) for each in records]
    assert found == [each[LEAD:] for kind, each in kinds if kind == perf.PERF_RECORD_SAMPLE]
    assert missed == [struct.unpack_from("=Q", each, 16)[0] for kind, each in kinds if kind == perf.PERF_RECORD_LOST]


@FUZZ
@given(st.lists(samples, min_size=1, max_size=20), st.data())
def test_a_walk_ends_at_the_record_that_reaches_beyond_the_end(records: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(records)
    size = data.draw(st.integers(1, len(whole) // 8)) * 8
    before = 0
    while before < len(records) and sum(map(len, records[: before + 1])) <= size:
        before += 1
    runs, stop, _ = walk(words(whole[:size]), 0, len(whole), ALL)
    assert stop == sum(map(len, records[:before]))
    assert cut_out(whole, runs) == [each[LEAD:] for each in records[:before]]


@st.composite
def junk(draw: st.DrawFn) -> bytes:
    """Draw memory with something like records in it: whole ones, headers with any fields, and noise."""
    header = st.builds(
        lambda kind, misc, size, rest: struct.pack("=IHH", kind, misc, size) + rest,
        st.sampled_from([perf.PERF_RECORD_SAMPLE, perf.PERF_RECORD_LOST, THROTTLE, 0, 1 << 31]),
        st.integers(0, 3),
        st.one_of(st.integers(0, 64), st.integers(0, 0xFFFF)),
        st.binary(max_size=16),
    )
    parts = draw(st.lists(st.one_of(samples, losses, header, st.binary(max_size=24)), max_size=30))
    data = b"".join(parts)
    return data + bytes(-len(data) % 8)


@FUZZ
@given(junk(), st.integers(-16, 2000), st.integers(-16, 3000), st.integers(1, 50))
@example(bytes(64), 0, 64, 1)
@example(record(perf.PERF_RECORD_SAMPLE, b""), 0, 8, 1)  # its raw length would lie behind the end
def test_whatever_the_memory_holds_a_walk_ends_within_it_or_says_why_not(
    data: bytes, start: int, available: int, most: int
) -> None:
    try:
        runs, stop, losses = walk(words(data), start, available, most)
    except FormatError:
        return
    assert start <= stop <= min(len(data), start + available)
    assert all(start < end <= stop for end, _ in losses)
    assert sum(count for _, _, _, count in runs) <= most
    at = start
    for first, length, stride, count in runs:
        assert at <= first
        assert LEAD + length <= stride
        assert count > 0
        at = first + stride * count
    assert at <= stop
    if stop == start < min(len(data), start + available):
        # What stops it at once is a record that reaches beyond the end.
        assert start + struct.unpack_from("=H", data, start + 6)[0] > len(data)


@FUZZ
@given(junk(), st.booleans())
def test_edges_lie_within_the_memory_or_it_is_said_why_not(data: bytes, cut: bool) -> None:
    try:
        found = edges(words(data), cut=cut)
    except FormatError:
        assert not cut
        return
    assert found[0] == 0
    assert all(after - before >= 8 for before, after in pairwise(found))
    assert found[-1] == len(data) or (cut and found[-1] < len(data))


@FUZZ
@given(st.lists(st.one_of(samples, losses, others), min_size=1, max_size=20), st.data())
def test_of_records_that_were_written_over_in_part_the_whole_ones_are_found(
    records: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(records)
    size = data.draw(st.integers(0, len(whole) // 8)) * 8
    assert edges(words(whole), cut=False) == [0, *(sum(map(len, records[: n + 1])) for n in range(len(records)))]
    assert edges(words(whole[:size]), cut=True) == [e for e in edges(words(whole), cut=False) if e <= size]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(bytes(24), "type 0 has 0 bytes", id="never written"),
        pytest.param(sample(b"x")[:-8], "has 16 bytes of the 8 that are there", id="beyond the newest"),
        pytest.param(record(THROTTLE, b"\0" * 4) + bytes(4), "has 12 bytes", id="no multiple of 8"),
        pytest.param(record(perf.PERF_RECORD_LOST, bytes(8)), "type 2 has 16 bytes", id="a loss without a number"),
        pytest.param(
            record(perf.PERF_RECORD_SAMPLE, struct.pack("=I", 65532) + bytes(4)),
            "16 bytes has 65532 raw ones; programs may write 65516",
            id="a number of bytes that 16 bits did not hold",
        ),
    ],
)
def test_what_no_kernel_writes_is_said(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        walk(words(GOOD + data), 0, len(GOOD + data), ALL)
    with pytest.raises(FormatError, match=message):
        edges(words(GOOD + data), cut=False)
