"""Records of a ring buffer are read as events: one by one, all that are there, typed, in order, once each."""

from __future__ import annotations

import copy
import math
import pickle
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.map_shapes import PAGE
from support.rings import Producer

import rawbpf
from rawbpf.event.ring_source import RingSource
from rawbpf.event.wake import deadline
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.event.order import Order
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("map_type:ringbuf", "prog_type:syscall"), pytest.mark.guest]

EVENT = {"pid": "u32", "cpu": "u32", "comm": "char[8]"}


def event(pid: int, cpu: int = 0, comm: bytes = b"") -> bytes:
    return struct.pack("=II8s", pid, cpu, comm)


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


# More readers than one ------------------------------------------------------------------


SLOT = 16


def test_two_readers_of_a_ring_share_its_records(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader("u64") as one, ring.reader("u64") as other:
        seen = []
        for n in range(3 * ring.max_entries // SLOT):
            assert producer.output(n.to_bytes(8, sys.byteorder)) == 0
            # What one has taken is no more there for the other, however often the ring went round.
            seen += (one if n % 7 else other).drain(max=1)
        assert seen == list(range(3 * ring.max_entries // SLOT))
        assert one.drain() == other.drain() == []


def test_a_reader_does_not_move_the_position_back(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    for n in range(6):
        producer.output(bytes([n]))
    with ring.reader() as one, ring.reader() as other:
        with one.lease() as view:
            assert view is not None
            assert other.drain() == [bytes([n]) for n in range(6)]
        assert one.read(0) is None
        assert other.stats.available == 0


def test_a_reader_that_lags_by_more_than_the_ring_holds_does_neither(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    with ring.reader() as slow, ring.reader() as other:
        assert producer.output(b"first") == 0
        loop = iter(slow)
        assert next(loop) == b"first"
        for n in range(2 * ring.max_entries // 512):
            assert producer.output(bytes([n]) * 500) == 0
            assert other.drain()[-1] == bytes([n]) * 500
        del loop  # which stores how far it came
        assert producer.output(b"next") == 0
        assert (slow.read(0), other.read(0)) == (b"next", None)


@pytest.mark.parametrize(
    ("read", "stores"),
    [
        (lambda reader: len(reader.drain()), 1),
        (lambda reader: sum(len(batch.bytes()) for batch in reader.batches(0)), 1),
        (lambda reader: sum(reader.poll(0) for _ in range(5)), 3),
    ],
    ids=["drain", "batches", "poll, 1024 at a time"],
)
def test_the_position_is_stored_once_for_all_that_is_read_at_once(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[rawbpf.Reader[bytes]], int],
    stores: int,
) -> None:
    count = 2500
    positions: list[int] = []
    commit = RingSource.commit

    def counted(source: RingSource, position: int, order: Order) -> None:
        commit(source, position, order)
        positions.append(position)

    monkeypatch.setattr(RingSource, "commit", counted)
    with rawbpf.RingBufMap.create(max_entries=1 << 17) as large, Producer(large) as wide:
        for n in range(count):
            assert wide.output(bytes([n % 256])) == 0
        with large.reader(callback=lambda _: None) as reader, large.memory() as memory:
            assert read(reader) == count
            assert len(positions) == stores
            assert positions[-1] == memory.consumer[0] == memory.producer[0]


def test_a_map_is_added_to_a_reader_once(ring: rawbpf.RingBufMap) -> None:
    with ring.reader() as reader, pytest.raises(ValueError, match="being read by this reader already"):
        reader.add(ring)


@pytest.mark.parametrize("name", ["callback", "on_lost"])
def test_what_is_no_function_is_refused(ring: rawbpf.RingBufMap, name: str) -> None:
    wrong: dict[str, Any] = {name: 5}
    with pytest.raises(TypeError, match=f"{name}: expected a function, got 5"):
        ring.reader(**wrong)


def test_a_callback_that_nobody_would_await_is_refused(ring: rawbpf.RingBufMap) -> None:
    async def called(_: bytes) -> None:
        pass

    with pytest.raises(TypeError, match="callback: nobody would await"):
        ring.reader(callback=called)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_reader_is_not_copied(ring: rawbpf.RingBufMap, copied: Callable[[object], object]) -> None:
    with ring.reader() as reader, pytest.raises(TypeError, match=r"m\.reader\(\) makes another"):
        copied(reader)


def test_a_wait_may_be_longer_than_the_kernel_can_be_told(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        timer = threading.Timer(0.01, producer.output, (b"late",))
        timer.start()
        assert reader.read(1e300) == b"late"
        timer.join()


def test_a_poll_calls_with_what_all_rings_have(ring: rawbpf.RingBufMap, producer: Producer, backend: Backend) -> None:
    events: list[bytes] = []
    with (
        rawbpf.RingBufMap.create(max_entries=ring.max_entries, backend=backend) as second,
        Producer(second) as other,
        ring.reader(callback=events.append).add(second) as reader,
    ):
        for n in range(3):
            producer.output(bytes([n]))
            other.output(bytes([n + 10]))
        assert reader.poll(0) == 6
        assert sorted(events) == [bytes([n]) for n in (0, 1, 2, 10, 11, 12)]
        assert reader.poll(0) == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda reader: reader.read("x"), TypeError, "timeout: expected seconds or None, got 'x'"),
        (lambda reader: reader.read(math.nan), ValueError, "timeout: expected seconds or None, got nan"),
        (lambda reader: reader.drain(2.5), TypeError, "max: expected a number of events or None, got 2.5"),
        (lambda reader: reader.drain(-1), ValueError, "max: expected a number of events or None, got -1"),
    ],
)
def test_what_is_no_time_or_number_is_refused(
    ring: rawbpf.RingBufMap, call: Callable[[Any], object], error: type[Exception], words: str
) -> None:
    with ring.reader() as reader, pytest.raises(error, match=words):
        call(reader)


def test_to_wait_for_infinity_is_to_wait_for_ever() -> None:
    assert deadline(math.inf) is deadline(None) is None


@pytest.mark.needs("btf_name:BPF_F_RB_OVERWRITE")
@pytest.mark.real_kernel("a simulated kernel has no rings that write over what is old")
def test_a_ring_that_writes_over_what_is_old_has_no_reader(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE, name="newest", flags=c.BPF_F_RB_OVERWRITE) as ring:
        with pytest.raises(ValueError, match=r"'newest'.* has BPF_F_RB_OVERWRITE: .*create it without that flag"):
            ring.reader()
        with rawbpf.RingBufMap.create(max_entries=PAGE) as other, other.reader() as reader:
            with pytest.raises(ValueError, match="BPF_F_RB_OVERWRITE"):
                reader.add(ring)
            assert reader.read(0) is None
