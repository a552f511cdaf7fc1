"""Batches of events are arrays of numpy, over the memory of the ring where records lie in a row."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from support.perf_buffers import Producer as PerfProducer
from support.records import EVENT, LENGTHS, packed
from support.rings import Producer

import rawbpf

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("map_type:ringbuf", "prog_type:syscall", "module:numpy")]


@pytest.mark.parametrize("change", LENGTHS)
def test_a_batch_is_an_array(ring: rawbpf.RingBufMap, producer: Producer, change: int) -> None:
    with ring.reader(EVENT) as reader:
        for n in range(120):
            producer.output(packed(n, change))
        kept = None
        for batch in reader.batches(0):
            array = batch.to_numpy()
            assert array["pid"].tolist() == list(range(120))
            assert array["delta"].sum() == -sum(range(120))
            assert array["comm"][11] == b"sh1"
            assert array.dtype.names == ("pid", "cpu", "delta", "comm")
            assert not array.flags.writeable
            kept = array.copy()
        assert kept is not None
        assert kept["pid"][119] == 119


def test_records_between_which_others_were_discarded_are_one_array(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader({"n": "u32", "tail": "u8"}) as typed, ring.reader() as untyped:
        for reader, dtype in ((typed, ("n", "tail")), (untyped, None)):
            for n in range(120):
                producer.output(struct.pack("=IB3x", n, n), discard=n % 30 == 7)
            (array,) = [batch.to_numpy() for batch in reader.batches(0)]
            expected = [n for n in range(120) if n % 30 != 7]
            assert array.dtype.names == dtype
            assert (array["n"] if dtype else array[:, 4]).tolist() == expected
            assert (array.strides[0], array.flags.writeable) == (8, False)


def test_untyped_records_of_one_length_are_rows_of_an_array(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        for n in range(3):
            producer.output(bytes([n, n, n]))
        for batch in reader.batches(0):
            assert batch.to_numpy().tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
        producer.output(b"a")
        producer.output(b"bc")
        for batch in reader.batches(0):
            with pytest.raises(ValueError, match="records of 1, 2 bytes make no array"):
                batch.to_numpy()


@pytest.mark.needs("map_type:perf_event_array", "prog_type:raw_tracepoint")
def test_the_records_of_a_cpu_are_an_array_although_what_pads_them_follows(backend: Backend) -> None:
    cpu = min(os.sched_getaffinity(0))
    with (
        rawbpf.PerfEventArrayMap.create() as events,
        PerfProducer(events) as producer,
        events.reader({"at": "u64", "pid": "u32"}, cpus=[cpu]) as reader,
    ):
        for n in range(100):
            producer.output(struct.pack("=QIxxxx", n * n, n), cpu)
        for batch in reader.batches(0):
            array = batch.to_numpy()
            assert array["at"].tolist() == [n * n for n in range(100)]
            assert array["pid"].tolist() == list(range(100))
        assert reader.stats.records == 100
