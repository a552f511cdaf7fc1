"""A field tells records of several types apart; types that it cannot tell apart are refused before anything is read."""

from __future__ import annotations

import ctypes
import enum
import os
import struct
import sys
from typing import Any

import pytest
from support.needs import require
from support.perf_buffers import Producer as PerfProducer
from support.rings import Producer

import rawbpf
from rawbpf.errors import FormatError, SpecError

pytestmark = pytest.mark.needs("map_type:ringbuf", "prog_type:syscall")


class Kind(enum.IntEnum):
    START = 1
    END = 70000


START = {"kind": Kind, "pid": "u32", "comm": "char[8]"}
END = {"kind": Kind, "code": "s32"}
TYPES: dict[Any, Any] = {Kind.START: START, Kind.END: END}


def start(pid: int) -> bytes:
    return struct.pack("=II8s", Kind.START, pid, b"sh")


def end(code: int) -> bytes:
    return struct.pack("=Ii", Kind.END, code)


def test_each_record_is_of_the_type_that_its_tag_says(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    for n in range(20):
        producer.output(start(n))
        producer.output(end(-n))
    with ring.reader(TYPES, tag="kind") as reader:
        events: list[Any] = reader.drain()
    assert events == [each for n in range(20) for each in ((Kind.START, n, "sh"), (Kind.END, -n))]
    assert events[0].kind is Kind.START


@pytest.mark.parametrize(
    "types",
    [
        pytest.param({Kind.START: START, Kind.END: END}, id="enumerators"),
        pytest.param({1: START, 70000: END}, id="ints"),
        pytest.param({"START": START, "END": END}, id="names"),
        pytest.param({1: START, "END": END}, id="mixed"),
    ],
)
def test_a_tags_value_is_an_enumerator_its_name_or_its_number(
    ring: rawbpf.RingBufMap, producer: Producer, types: dict[Any, Any]
) -> None:
    producer.output(start(5))
    producer.output(end(6))
    with ring.reader(types, tag="kind") as reader:
        assert [reader.read(), reader.read()] == [(Kind.START, 5, "sh"), (Kind.END, 6)]


def test_records_of_equal_length_in_a_row_may_differ_in_type_and_have_more_behind(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    # Long runs of equal length are decoded at once: of one type, of several, and of none.
    length = 24
    records = [start(n) for n in range(40)] + [end(n) if n % 3 else start(n) for n in range(40)] + [bytes(4)] * 20
    for record in records:
        assert producer.output(record.ljust(length, b"\0")) == 0
    with ring.reader(TYPES, tag="kind") as reader:
        events: list[Any] = reader.drain()
    assert events[:40] == [(Kind.START, n, "sh") for n in range(40)]
    assert events[40:80] == [(Kind.END, n) if n % 3 else (Kind.START, n, "sh") for n in range(40)]
    assert events[80:] == [bytes(length)] * 20


def test_records_with_an_unknown_tag_and_without_one_are_bytes(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    odd = struct.pack("=II", 99, 1)
    # What lies behind a record that ends within its tag makes the value of one, on some machines.
    records = [odd, b"abc", b"", start(1), *[b"\1\0"] * 30, *[odd] * 30]
    for record in records:
        producer.output(record)
    with ring.reader(TYPES, tag="kind") as reader:
        assert reader.drain() == [(Kind.START, 1, "sh") if each == start(1) else each for each in records]


def test_a_record_that_is_too_short_for_its_type_is_refused_when_it_is_its_turn(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    for record in (start(1), start(2)[:12], end(3), *[start(4)[:12], end(5) + bytes(4)] * 20):
        producer.output(record)
    with ring.reader(TYPES, tag="kind") as reader:
        assert reader.read() == (Kind.START, 1, "sh")
        with pytest.raises(FormatError, match=r"a record of 12 bytes is too short for <codec struct \{kind, pid,"):
            reader.read()
        assert reader.read() == (Kind.END, 3)
        with pytest.raises(FormatError, match="a record of 12 bytes is too short"):
            reader.read()
        assert reader.read() == (Kind.END, 5)


class Header(ctypes.Structure):
    _fields_ = (("cpu", ctypes.c_uint32), ("kind", ctypes.c_uint16))


class Nested(ctypes.Structure):
    _fields_ = (("header", Header), ("n", ctypes.c_uint32))


def test_a_tag_may_lie_in_a_struct_inside(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    other: dict[str, Any] = {"header": Header, "word": "char[4]"}
    for kind in (7, 8, 9):
        producer.output(struct.pack("=IHxx4s", 3, kind, b"\x01\0\0\0"))
    types: dict[int, Any] = {7: Nested, 8: other}
    with ring.reader(types, tag="header.kind") as reader:
        first, second, third = reader.drain()
    assert first == ((3, 7), int.from_bytes(b"\x01\0\0\0", sys.byteorder))
    assert second == ((3, 8), "\x01")
    assert isinstance(third, bytes)


@pytest.mark.parametrize(
    ("types", "tag", "kind", "because"),
    [
        pytest.param({1: START, 2: {"code": "u32"}}, "kind", ValueError, "no field 'kind': there are code", id="none"),
        pytest.param({1: START, 2: "u32"}, "kind", ValueError, "u32: no field 'kind': u32 is no struct", id="number"),
        pytest.param(
            {1: START, 2: {"code": "u32", "kind": "u32"}},
            "kind",
            ValueError,
            r"not lie at the same place in all: 4 bytes at 0 in struct \{kind, .*, 4 bytes at 4 in struct \{code,",
            id="offset",
        ),
        pytest.param({1: START, 2: {"kind": "u8"}}, "kind", ValueError, "4 bytes at 0 in .*1 byte at 0 in", id="size"),
        pytest.param({1: START, "START": END}, "kind", ValueError, "1 and 'START' are the same value", id="twice"),
        pytest.param({1: START, "NONE": END}, "kind", ValueError, "no 'NONE'; it has START, END", id="enumerator"),
        pytest.param({1 << 32: START}, "kind", OverflowError, "the value of kind: expected an int in 0..", id="large"),
        pytest.param({None: START}, "kind", TypeError, "the value of kind: expected an int", id="no-number"),
        pytest.param({}, "kind", TypeError, r"give them as \{value of kind: type\}, got \{\}", id="empty"),
        pytest.param("u32", "kind", TypeError, "give them as .*, got 'u32'", id="no-dict"),
        pytest.param(None, "kind", TypeError, "give them as .*, got None", id="no-types"),
        pytest.param(TYPES, 1, TypeError, "expected the name of a field", id="no-name"),
        pytest.param({1: "event"}, "kind", SpecError, "no 'event'", id="no-struct"),
    ],
)
def test_types_that_the_tag_cannot_tell_apart_are_refused_before_anything_is_read(
    ring: rawbpf.RingBufMap, producer: Producer, types: Any, tag: Any, kind: type[Exception], because: str
) -> None:
    producer.output(start(1))
    with pytest.raises(kind, match=because):
        ring.reader(types, tag=tag)
    with ring.reader() as reader:
        assert reader.read(0) == start(1)


def test_a_tag_tells_records_apart_in_perf_buffers_batches_and_maps_that_are_added(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    require("prog_type:raw_tracepoint")
    cpu = min(os.sched_getaffinity(0))
    with rawbpf.PerfEventArrayMap.create() as array, PerfProducer(array) as other:
        with array.reader(TYPES, tag="kind") as reader:
            for record in (start(1), end(2), start(3)):
                other.output(record, cpu)
            assert reader.drain() == [(Kind.START, 1, "sh"), (Kind.END, 2), (Kind.START, 3, "sh")]
        producer.output(end(4))
        producer.output(start(5))
        with ring.reader(TYPES, tag="kind") as reader:
            (batch,) = [(each.records(), len(each)) for each in reader.batches(0)]
            assert batch == ([(Kind.END, 4), (Kind.START, 5, "sh")], 2)
        with ring.reader() as reader:
            reader.add(array, TYPES, tag="kind")
            other.output(end(6), cpu)
            producer.output(end(7))
            events: list[Any] = reader.drain()
            assert events in ([end(7), (Kind.END, 6)], [(Kind.END, 6), end(7)])


class Bits(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint32, 3), ("rest", ctypes.c_uint32, 29))


def test_a_bit_field_is_no_tag(ring: rawbpf.RingBufMap) -> None:
    with pytest.raises(ValueError, match="in struct Bits it is a bit-field of 3 bits"):
        ring.reader({1: Bits}, tag="kind")
