"""All records at once: columns, arrays, lists, of equal and of mixed lengths, and what happens to them afterwards."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from support.records import EVENT, LENGTHS, packed
from support.rings import Producer

import rawbpf

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.event.batch import Batch

pytestmark = [pytest.mark.needs("map_type:ringbuf", "prog_type:syscall"), pytest.mark.guest]


@pytest.mark.parametrize("change", LENGTHS)
def test_a_batch_is_all_that_is_there_in_every_form(ring: rawbpf.RingBufMap, producer: Producer, change: int) -> None:
    written = [packed(n, change) for n in range(120)]
    with ring.reader(EVENT) as reader, ring.memory() as memory:
        for record in written:
            assert producer.output(record) == 0
        count = 0
        for batch in reader.batches(0):
            count += 1
            assert len(batch) == 120
            assert batch.bytes() == written
            assert batch.records() == [(n, n % 7, -n, f"sh{n % 10}") for n in range(120)]
            assert batch.column("delta").tolist() == [-n for n in range(120)]
            columns = batch.columns()
            assert list(columns) == ["pid", "cpu", "delta", "comm"]
            assert columns["pid"].tolist() == list(range(120))
            assert columns["cpu"].tolist() == [n % 7 for n in range(120)]
            assert [bytes(row).rstrip(b"\0") for row in columns["comm"].tolist()] == [
                b"sh%d" % (n % 10) for n in range(120)
            ]
            assert memory.consumer[0] == 0
            assert f"{batch!r}" == "<Batch of 120 records>"
        assert count == 1
        assert memory.available == 0
        assert reader.stats.records == 120


def test_discarded_records_are_in_no_batch(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader("u32") as reader:
        for n in range(50):
            producer.output(struct.pack("=I", n), discard=n % 5 == 0)
        (numbers,) = [batch.column().tolist() for batch in reader.batches(0)]
        assert numbers == [n for n in range(50) if n % 5]
        assert reader.stats.discarded == 10


def test_a_batch_is_given_back_when_the_next_is_asked_for(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader({"n": "u64"}) as reader, ring.memory() as memory:
        producer.output(struct.pack("=Q", 1))
        batches = reader.batches(0)
        first = next(batches)
        column = first.column("n")
        with pytest.raises(RuntimeError, match="go on when the batch or lease is given back"):
            reader.read(0)
        producer.output(struct.pack("=Q", 2))
        second = next(batches)
        assert memory.consumer[0] == 16
        with pytest.raises(ValueError, match="released"):
            column.tolist()
        for use in (first.bytes, first.records, first.columns, first.to_numpy, lambda: len(first)):
            with pytest.raises(ValueError, match="was given back"):
                use()
        assert repr(first) == "<Batch, given back>"
        assert second.column("n").tolist() == [2]
        batches.close()
        assert memory.available == 0
        assert reader.read(0) is None


def test_a_loop_that_is_left_has_taken_its_batch(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        producer.output(b"a")
        for batch in reader.batches():
            producer.output(b"b")
            assert batch.bytes() == [b"a"]
            break
        assert reader.drain() == [b"b"]


@pytest.mark.parametrize("look", [len, lambda batch: batch.records()], ids=["at nothing", "in vain"])
def test_a_loop_that_is_left_by_an_exception_has_taken_nothing_of_what_it_did_not_see(
    ring: rawbpf.RingBufMap, producer: Producer, look: Callable[[Batch], object]
) -> None:
    with ring.reader("u32") as reader:
        producer.output(struct.pack("=I", 5))
        producer.output(b"ab")  # too short

        def loop() -> None:
            for batch in reader.batches(0):
                look(batch)
                raise ZeroDivisionError

        with pytest.raises((ZeroDivisionError, rawbpf.FormatError)):
            loop()
        assert reader.read(0) == 5
        with pytest.raises(rawbpf.FormatError, match="too short"):
            reader.read(0)
        assert reader.stats.available == 0


def test_a_loop_that_only_counts_goes_on(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        producer.output(b"a")
        assert [len(batch) for batch in reader.batches(0)] == [1]


def test_closing_in_the_middle_of_a_batch_keeps_it_until_the_loop_goes_on(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    reader = ring.reader()
    producer.output(b"a")
    for batch in reader.batches():
        reader.close()
        assert batch.bytes() == [b"a"]
    with ring.reader() as reader:
        assert reader.read(0) is None


def test_what_columns_cannot_be_made_of_is_said(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        producer.output(bytes(8))
        for batch in reader.batches(0):
            with pytest.raises(TypeError, match="have not one type"):
                batch.column("n")
    with ring.reader({"n": "u64", "name": "char[8]"}) as reader:
        producer.output(bytes(16))
        for batch in reader.batches(0):
            with pytest.raises(ValueError, match="no field 'm'"):
                batch.column("m")
            with pytest.raises(ValueError, match="no number"):
                batch.column("name")
        producer.output(bytes(16))
        producer.output(bytes(8))
        for batch in reader.batches(0):
            for use in (batch.columns, batch.to_numpy, batch.records, lambda batch=batch: batch.column("n")):
                with pytest.raises(rawbpf.FormatError, match="a record of 8 bytes is too short for <codec struct"):
                    use()
    with ring.reader("u64") as reader:
        producer.output(bytes(8))
        for batch in reader.batches(0):
            with pytest.raises(TypeError, match=r"u64 has no fields: column\(\) has the numbers"):
                batch.columns()


# Leases ---------------------------------------------------------------------------------


def test_a_lease_is_the_next_record_where_it_lies(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader, ring.memory() as memory:
        for n in range(4):
            producer.output(bytes([n]) * 5)
        assert reader.read() == b"\0" * 5
        iterator = iter(reader)
        assert next(iterator) == b"\1" * 5
        with reader.lease() as view:
            assert view is not None
            assert bytes(view) == b"\2" * 5
            assert memory.consumer[0] == 2 * 16
            with pytest.raises(RuntimeError, match="batch or lease"):
                next(iterator)
            with pytest.raises(RuntimeError, match="batch or lease"):
                reader.lease(0)
        assert memory.consumer[0] == 3 * 16
        with pytest.raises(ValueError, match="released"):
            bytes(view)
        lease = reader.lease()
        assert bytes(lease.view or b"") == b"\3" * 5
        lease.give_back()
        lease.give_back()
        assert memory.available == 0


def test_a_lease_that_is_dropped_is_given_back_and_delivered_if_it_was_seen(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    with ring.reader() as reader:
        for record in (b"a", b"b"):
            producer.output(record)
        reader.lease()
        view = reader.lease().view
        with pytest.raises(ValueError, match="released"):
            bytes(view or b"")
        assert reader.drain() == [b"b"]


def test_a_lease_outlives_the_closing_of_its_reader(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    reader = ring.reader()
    producer.output(b"a")
    with reader.lease() as view:
        reader.close()
        assert view is not None
        assert bytes(view) == b"a"
    with ring.reader() as reader:
        assert reader.read(0) is None
