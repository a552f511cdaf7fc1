"""Records of a ring buffer are read as events: one by one, all that are there, typed, in order, once each."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from support.map_shapes import PAGE
from support.rings import Producer

import rawbpf
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("map_type:ringbuf", "prog_type:syscall"), pytest.mark.guest]

EVENT = {"pid": "u32", "cpu": "u32", "comm": "char[8]"}


def event(pid: int, cpu: int = 0, comm: bytes = b"") -> bytes:
    return struct.pack("=II8s", pid, cpu, comm)


@pytest.fixture
def ring(backend: Backend) -> Iterator[rawbpf.RingBufMap]:
    with rawbpf.RingBufMap.create(max_entries=PAGE, name="events") as made:
        yield made


@pytest.fixture
def producer(ring: rawbpf.RingBufMap) -> Iterator[Producer]:
    with Producer(ring) as made:
        yield made


def test_records_are_bytes_in_the_order_of_their_submission(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    records = [bytes([n]) * n for n in (1, 7, 8, 9, 64)]
    with ring.reader() as reader:
        for record in records:
            assert producer.output(record) == 0
        assert [reader.read() for _ in records] == records
        assert reader.read(0) is None


def test_a_loop_takes_what_comes_and_leaves_off_behind_the_last_that_it_had(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    for n in range(10):
        producer.output(bytes([n]))
    with ring.reader() as reader, ring.memory() as memory:
        taken = []
        for record in reader:
            taken.append(record[0])
            if len(taken) == 4:
                break
        assert taken == [0, 1, 2, 3]
        assert memory.consumer[0] == 4 * 16
        assert [record[0] for record in reader.drain(max=3)] == [4, 5, 6]
        assert memory.consumer[0] == 7 * 16
        assert reader.read() == bytes([7])
        assert memory.consumer[0] == 8 * 16
        assert [record[0] for record in reader.drain()] == [8, 9]
        assert memory.available == 0
        assert reader.drain() == []


def test_typed_records_are_values_and_may_be_longer(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader(EVENT) as reader:
        for pid in range(40):
            producer.output(event(pid, 1, b"sh") + b"tail" * (pid % 3))
        events: list[Any] = reader.drain()
        assert [one.pid for one in events] == list(range(40))
        assert events[3] == (3, 1, "sh")


def test_what_is_discarded_is_passed_over_and_what_wakes_nobody_is_seen(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    with ring.reader() as reader:
        producer.output(b"before")
        producer.output(b"gone", discard=True)
        producer.output(b"after", c.BPF_RB_NO_WAKEUP)
        assert [reader.read(), reader.read()] == [b"before", b"after"]
        assert reader.stats.discarded == 1
        assert reader.stats.records == 2
