"""What user space writes into a user ring buffer, programs take: complete, in order, and nothing that does not fit."""

from __future__ import annotations

import array
import math
import random
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import drains
from support.drains import KEPT, draining
from support.interrupts import interrupted
from support.map_shapes import PAGE

import rawbpf
from rawbpf.event.producer import UserRingProducer
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.drains import Drain

    from rawbpf.event.ring_memory import RingMemory
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs(*drains.NEEDS)

PAIR = {"number": "u32", "name": "char[6]"}
LONG = 30.0  # seconds, for what ends much sooner


def kept(record: bytes) -> bytes:
    return record[:KEPT].ljust(KEPT, b"\0")


@pytest.fixture
def ring(backend: Backend) -> Iterator[rawbpf.UserRingBufMap]:
    with rawbpf.UserRingBufMap.create(max_entries=PAGE, name="requests") as m:
        yield m


@pytest.fixture
def drain(backend: Backend, ring: rawbpf.UserRingBufMap) -> Iterator[Drain]:
    with draining(backend, ring) as found:
        yield found


@pytest.fixture
def producer(ring: rawbpf.UserRingBufMap) -> Iterator[UserRingProducer]:
    with ring.producer() as found:
        yield found


# Posting --------------------------------------------------------------------------


@pytest.mark.guest
def test_records_of_any_sizes_are_taken_in_their_order(producer: UserRingProducer, drain: Drain) -> None:
    records = [bytes([size & 255]) * size for size in (*range(70), 300, 0, 1)]
    producer.post_many(records[:40])
    for record in records[40:42]:
        producer.post(record)
    producer.post_many(iter(records[42:]))
    assert drain.each() == [kept(record) for record in records]
    assert producer.free == PAGE


@pytest.mark.guest
@pytest.mark.parametrize("timeout", [0, LONG], ids="timeout {}".format)
def test_what_a_random_mix_of_calls_writes_is_what_is_taken(
    producer: UserRingProducer, drain: Drain, timeout: float
) -> None:
    chance = random.Random(1)
    written: deque[bytes] = deque()
    wrapped = 0
    for _ in range(300):
        size = chance.choice((0, 1, 7, 8, 9, 63, 64, 65, 200))
        batch = [chance.randbytes(size if chance.random() < 0.8 else 24) for _ in range(chance.randrange(1, 12))]
        room = producer.free
        fits = [sum(len(each) + 15 & -8 for each in batch[: n + 1]) <= room for n in range(len(batch))].count(True)
        if fits < len(batch):
            with pytest.raises(rawbpf.MapFull) as caught:
                producer.post_many(batch)
            assert caught.value.applied == fits
            assert drain.each() == [*map(kept, written), *map(kept, batch[:fits])]
            written.clear()
            wrapped += 1
        else:
            producer.post_many(batch, timeout=timeout)
            written.extend(batch)
    assert wrapped > 20


SIZES = [1, 2, 3, 4, 5, 8, 12, 13, 16, 24, 63, 64, 65, 72, 200]


@pytest.mark.parametrize("size", SIZES, ids="{} bytes".format)
@pytest.mark.parametrize("form", ["list", "memory"])
def test_records_of_one_size_wrap_around(ring: rawbpf.UserRingBufMap, drain: Drain, form: str, size: int) -> None:
    chance = random.Random(size)
    with ring.producer(size) as producer:
        for _ in range(6):
            count = chance.randrange(PAGE // (size + 15 & -8)) + 1
            records = [chance.randbytes(size) for _ in range(count)]
            producer.post_many(b"".join(records) if form == "memory" else records)
            assert drain.each() == [kept(record) for record in records]


def test_bytes_of_one_size_without_a_type_wrap_around(producer: UserRingProducer, drain: Drain) -> None:
    for turn in range(6):
        records = [bytes([turn, number]) * 9 for number in range(100)]
        producer.post_many(records)
        assert drain.each() == [kept(record) for record in records]


def test_values_are_written_as_c_has_them(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    with ring.producer(PAIR) as producer:
        producer.post((1, "one"))
        producer.post_many([{"number": 2, "name": "two"}, (3, "three")])
        producer.post_many([])
    expected = [struct.pack("=I6sxx", number, name) for number, name in ((1, b"one"), (2, b"two"), (3, b"three"))]
    assert drain.each() == [kept(record) for record in expected]


def test_numbers_are_taken_from_an_array(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    with ring.producer("u64") as producer:
        producer.post_many(array.array("Q", range(100)))
        producer.post_many(range(100, 200))
    drain.take()
    assert (drain.count, drain.total) == (200, sum(range(200)))


@pytest.mark.needs("module:numpy")
def test_structs_are_taken_from_numpy(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    import numpy as np

    with ring.producer({"number": "u64", "kind": "u64"}) as producer:
        values = np.array([(5, 1), (6, 2), (7, 3)], dtype=[("number", "u8"), ("kind", "u8")])
        producer.post_many(values)
        producer.post_many(values[::2])
    assert drain.each() == [kept(struct.pack("=QQ", *pair)) for pair in ((5, 1), (6, 2), (7, 3), (5, 1), (7, 3))]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs(*drains.NEEDS)
def test_a_million_records_arrive_while_the_program_is_behind(backend: Backend) -> None:
    count, stopped = 1_000_000, threading.Event()
    with rawbpf.UserRingBufMap.create(max_entries=1 << 16) as m, draining(backend, m) as drain:

        def take() -> None:
            going = True
            while going:
                # Asked before: what was posted until then is there for whoever takes now.
                going = not stopped.is_set()
                going |= drain.take() > 0

        consumer = threading.Thread(target=take)
        consumer.start()
        try:
            with m.producer("u64") as producer:
                producer.post_many(array.array("Q", range(count)), timeout=LONG)
        finally:
            stopped.set()
            consumer.join()
        assert (drain.count, drain.total) == (count, count * (count - 1) // 2)


# What does not fit ------------------------------------------------------------------


def test_a_ring_is_full_to_the_last_byte_and_says_what_would_fit(producer: UserRingProducer, drain: Drain) -> None:
    producer.post_many([b"12345678"] * (PAGE // 16))
    assert producer.free == 0
    for call, put in (
        ("post", lambda: producer.post(b"")),
        ("reserve", lambda: producer.reserve(100)),
        ("post_many", lambda: producer.post_many([b""])),
    ):
        with pytest.raises(
            rawbpf.MapFull, match=rf"^{call} 'requests' \(user_ringbuf\).*ENOSPC: .* bytes and 0 are free"
        ):
            put()
    assert drain.take(1) == 1
    assert producer.free == 16
    with pytest.raises(rawbpf.MapFull, match="takes 24 bytes and 16 are free"):
        producer.post(b"123456789")
    producer.post(b"12345678")
    assert drain.take() == PAGE // 16


def test_the_largest_record_fills_the_ring(producer: UserRingProducer, drain: Drain) -> None:
    producer.post(b"some")  # so that it reaches beyond the end
    drain.take()
    producer.post(b"\1" * (PAGE - 8))
    assert producer.free == 0
    assert drain.each() == [b"\1" * KEPT]


def test_no_record_is_larger_than_what_programs_can_be_handed(backend: Backend) -> None:
    largest = (1 << 24) - 1
    with (
        rawbpf.UserRingBufMap.create(max_entries=1 << 25) as m,
        m.producer() as producer,
        draining(backend, m) as drain,
    ):
        with pytest.raises(ValueError, match=rf"has {largest + 1} bytes: .* takes records of 0 to {largest}"):
            producer.post(bytes(largest + 1))
        producer.post(bytes(largest))
        assert drain.take() == 1


TOO_LARGE: list[Any] = [
    pytest.param(lambda p: p.post(bytes(PAGE - 7)), "the record has 4089 bytes", id="post"),
    pytest.param(lambda p: p.reserve(PAGE), "the record has 4096 bytes", id="reserve"),
    pytest.param(lambda p: p.reserve(-1), "the record has -1 bytes", id="reserve less than nothing"),
    pytest.param(lambda p: p.record(PAGE).__enter__(), "the record has 4096 bytes", id="record"),
    pytest.param(lambda p: p.wait(size=PAGE), "the record has 4096 bytes", id="wait"),
    pytest.param(lambda p: p.post_many([b"a", bytes(PAGE), b"c"]), "record 1 has 4096 bytes", id="post_many"),
]


@pytest.mark.parametrize(("put", "message"), TOO_LARGE)
def test_what_never_fits_is_found_before_anything_is_written(
    producer: UserRingProducer, drain: Drain, put: Callable[[UserRingProducer], object], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"{message}: 'requests' \(user_ringbuf\) takes records of 0 to {PAGE - 8}"):
        put(producer)
    assert producer.free == PAGE
    assert drain.take() == 0


WRONG: list[Any] = [
    pytest.param(None, lambda p: p.post("text"), TypeError, "expected bytes, got str", id="text"),
    pytest.param(None, lambda p: p.post_many([b"a", 1]), TypeError, "expected bytes, got int", id="a number"),
    pytest.param(None, lambda p: p.post_many(b"abc"), TypeError, "one by one", id="memory without a type"),
    pytest.param(None, lambda p: p.post_many(5), TypeError, "records: expected several, .*got int", id="no records"),
    pytest.param("u32", lambda p: p.post_many(None), TypeError, "records: expected several, .*None", id="no values"),
    pytest.param(None, lambda p: p.reserve(), TypeError, "takes a size", id="no size"),
    pytest.param(None, lambda p: p.reserve("x"), TypeError, "size: expected a number of bytes, got 'x'", id="a word"),
    pytest.param(None, lambda p: p.reserve(1.5), TypeError, "size: expected a number of bytes, got 1.5", id="a half"),
    pytest.param(None, lambda p: p.wait(0, size="x"), TypeError, "size: expected a number", id="a word to wait for"),
    pytest.param("u32", lambda p: p.post(1 << 32), OverflowError, "u32", id="too large a number"),
    pytest.param("u32", lambda p: p.post_many([1, -1]), OverflowError, r"\[1\]", id="a number of several"),
    pytest.param("u32", lambda p: p.post_many(bytes(7)), ValueError, "values of 4 bytes .*u32.*got 7", id="memory"),
    pytest.param(PAGE, lambda p: p.post_many([]), ValueError, f"has {PAGE} bytes", id="too large a type"),
]


@pytest.mark.parametrize(("kind", "put", "error", "message"), WRONG)
def test_what_is_no_record_is_said(
    ring: rawbpf.UserRingBufMap,
    drain: Drain,
    kind: Any,
    put: Callable[[UserRingProducer], object],
    error: type[Exception],
    message: str,
) -> None:
    with ring.producer(kind) as producer, pytest.raises(error, match=message):
        put(producer)
    assert drain.take() == 0


def test_a_type_without_bytes_is_none_of_records(ring: rawbpf.UserRingBufMap) -> None:
    with pytest.raises(ValueError, match="no bytes to tell records by"):
        ring.producer(0)


# Reserving --------------------------------------------------------------------------


def test_a_reserved_record_holds_later_ones_back_until_it_is_submitted(
    producer: UserRingProducer, drain: Drain
) -> None:
    first = producer.reserve(8)
    second = producer.reserve(3)
    producer.post(b"third")
    second[:] = b"two"
    producer.submit(second)
    assert drain.take() == 0
    first[:] = b"number 1"
    producer.submit(first)
    assert drain.each() == [kept(b"number 1"), kept(b"two"), kept(b"third")]


def test_a_discarded_record_is_passed_over(producer: UserRingProducer, drain: Drain) -> None:
    view = producer.reserve(8)
    producer.post(b"next")
    producer.discard(view)
    assert drain.each() == [kept(b"next")]
    assert producer.free == PAGE


def test_a_block_submits_and_an_exception_discards(producer: UserRingProducer, drain: Drain) -> None:
    with producer.record(4) as view:
        view[:] = b"good"
    with pytest.raises(ZeroDivisionError), producer.record(4) as view:
        view[:] = bytes([1 // 0])
    with producer.record(4) as view:
        producer.discard(view)
    with producer.record(4) as view:
        view[:] = b"once"
        producer.submit(view)
    assert drain.each() == [kept(b"good"), kept(b"once")]


def test_the_size_of_a_record_is_that_of_the_type(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    with ring.producer("u64") as producer:
        with producer.record() as view:
            assert len(view) == 8
            view.cast("Q")[0] = 77
        drain.take()
    assert drain.total == 77


def test_the_memory_of_a_submitted_record_is_released(producer: UserRingProducer) -> None:
    view = producer.reserve(8)
    producer.submit(view)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_a_record_whose_memory_was_released_is_submitted_all_the_same(producer: UserRingProducer, drain: Drain) -> None:
    with producer.record(4) as view, view:
        view[:] = b"done"
    assert drain.each() == [kept(b"done")]


def test_a_record_that_others_look_at_is_submitted_all_the_same(producer: UserRingProducer, drain: Drain) -> None:
    view = producer.reserve(4)
    other = (__import__("ctypes").c_char * 4).from_buffer(view)
    other.raw = b"seen"
    producer.submit(view)
    assert drain.each() == [kept(b"seen")]
    del other


def test_a_record_is_submitted_once_and_by_its_own_producer(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    with ring.producer() as producer, ring.producer() as another:
        view = producer.reserve(1)
        for commit in (another.submit, another.discard):
            with pytest.raises(ValueError, match="what reserve"):
                commit(view)
        with pytest.raises(ValueError, match="what reserve"):
            producer.submit(view[:1])
        producer.submit(view)
        for commit in (producer.submit, producer.discard):
            with pytest.raises(ValueError, match="what reserve"):
                commit(view)
    assert drain.take() == 1


class Fences:
    """What the ring has, where a machine would be told to keep the order: position, header, first bytes."""

    def __init__(self, memory: RingMemory) -> None:
        self._memory = memory
        self.seen: list[tuple[int, int, bytes]] = []

    def loads(self) -> None:
        header = self._memory.data[:4].cast("I")[0]
        self.seen.append((self._memory.producer[0], header, bytes(self._memory.data[8:12])))


WAYS: list[Any] = [
    pytest.param(None, lambda p: p.post(b"data"), id="post"),
    pytest.param(None, lambda p: p.post_many([b"data", b"more"]), id="post_many"),
    pytest.param(None, lambda p: p.post_many([b"data", b"and so on"]), id="post_many, mixed"),
    pytest.param(4, lambda p: p.post_many(b"datamore"), id="post_many, memory"),
]


@pytest.mark.parametrize(("kind", "write"), WAYS)
def test_the_position_moves_when_record_and_header_are_there(
    ring: rawbpf.UserRingBufMap, kind: int | None, write: Callable[[UserRingProducer], object]
) -> None:
    with ring.producer(kind) as producer, ring.memory() as memory:
        assert producer._writer is not None
        producer._writer._order = fences = Fences(memory)  # type: ignore[assignment]  # as much as is used of it
        write(producer)
        assert fences.seen == [(0, 0, bytes(4)), (0, 4, b"data")]
        assert memory.producer[0] >= 16


def test_a_header_is_busy_until_the_record_is_there(ring: rawbpf.UserRingBufMap) -> None:
    with ring.producer() as producer, ring.memory() as memory:
        assert producer._writer is not None
        producer._writer._order = fences = Fences(memory)  # type: ignore[assignment]  # as much as is used of it
        with producer.record(4) as view:
            view[:] = b"data"
        busy = 4 | c.BPF_RINGBUF_BUSY_BIT
        assert fences.seen == [(0, 0, bytes(4)), (0, busy, bytes(4)), (16, busy, b"data")]
        assert memory.data[:4].cast("I")[0] == 4


# Waiting ----------------------------------------------------------------------------


def test_who_does_not_wait_is_told_at_once_whether_there_is_room(producer: UserRingProducer) -> None:
    assert producer.wait(0) is True
    producer.post(bytes(PAGE - 8 - 100))
    assert producer.wait(0, size=80) is True
    assert producer.wait(0, size=100) is False
    assert producer.wait(0.001, size=100) is False


@pytest.mark.parametrize(
    ("timeout", "error", "message"),
    [
        pytest.param("1", TypeError, "timeout: expected seconds or None, got '1'", id="a word"),
        pytest.param(float("nan"), ValueError, "timeout: expected seconds or None, got nan", id="nan"),
    ],
)
def test_what_is_no_time_to_wait_for_is_said(
    producer: UserRingProducer, timeout: Any, error: type[Exception], message: str
) -> None:
    producer.post(bytes(PAGE - 8))
    for call in (
        lambda: producer.post(b"", timeout=timeout),
        lambda: producer.post_many([b""], timeout=timeout),
        lambda: producer.reserve(0, timeout=timeout),
        lambda: producer.wait(timeout, size=1),
    ):
        with pytest.raises(error, match=message):
            call()


class Polls:
    """An epoll that counts how often it was asked."""

    asked = 0

    def __init__(self) -> None:
        self._inner = self.kind()

    kind: Any = select.epoll

    def __enter__(self) -> Polls:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()

    def register(self, fd: int, events: int) -> None:
        self._inner.register(fd, events)

    def poll(self, timeout: float | None) -> object:
        Polls.asked += 1
        return self._inner.poll(timeout)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> type[Polls]:
    monkeypatch.setattr(select, "epoll", Polls)
    monkeypatch.setattr(Polls, "asked", 0)
    return Polls


@contextmanager
def waiting(target: Callable[[], object]) -> Iterator[list[object]]:
    """Call `target` in a thread, which sleeps when the block begins; at its end there is what it returned or raised."""
    found: list[object] = []

    def call() -> None:
        try:
            found.append(target())
        except rawbpf.Closed as error:
            found.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    end = time.monotonic() + LONG
    while not Polls.asked:
        assert time.monotonic() < end
    yield found
    thread.join()


def test_who_waits_for_much_room_sleeps_until_there_is_as_much(
    producer: UserRingProducer, drain: Drain, polls: type[Polls]
) -> None:
    producer.post_many([b"12345678"] * (PAGE // 16))
    drained = 0
    with waiting(lambda: producer.wait(LONG, size=1000)) as found:
        while producer.free < 1008:
            assert drain.take(7) == 7
            drained += 1
    assert found == [True]
    # The descriptor was writable after the first of them.
    assert polls.asked <= drained + 2


@pytest.mark.parametrize("form", ["post", "post_many", "reserve"])
def test_a_write_that_waits_goes_on_when_a_program_made_room(
    producer: UserRingProducer, drain: Drain, polls: type[Polls], form: str
) -> None:
    def reserve() -> None:
        with producer.record(7, timeout=None) as view:
            view[:] = b"at last"

    puts = {
        "post": lambda: producer.post(b"at last", timeout=math.inf),
        "post_many": lambda: producer.post_many([b"at last"], timeout=LONG),
        "reserve": reserve,
    }
    producer.post(bytes(PAGE - 8))
    with waiting(puts[form]):
        assert drain.take() == 1
    assert drain.each() == [kept(b"at last")]


def test_a_program_that_wakes_nobody_leaves_who_waits_asleep(
    producer: UserRingProducer, drain: Drain, polls: type[Polls]
) -> None:
    producer.post(bytes(PAGE - 8))
    with waiting(lambda: producer.wait(LONG)) as found:
        assert drain.take(0, c.BPF_RB_NO_WAKEUP) == 1
        assert not found
        # Nothing is taken, and everybody woken.
        assert drain.take(0, c.BPF_RB_FORCE_WAKEUP) == 0
    assert (found, polls.asked) == ([True], 1)


def test_closing_the_producer_wakes_who_waits(producer: UserRingProducer, polls: type[Polls]) -> None:
    producer.post(bytes(PAGE - 8))
    with waiting(producer.wait) as found:
        producer.close()
    assert found == [rawbpf.Closed]


@pytest.mark.real_kernel("a simulated ring is readable where it should be writable")
def test_the_descriptor_is_writable_unless_the_ring_is_full(producer: UserRingProducer, drain: Drain) -> None:
    poller = select.poll()
    poller.register(producer.fileno(), select.POLLOUT)
    assert poller.poll(0)
    producer.post(bytes(PAGE - 8))
    assert not poller.poll(0)
    drain.take()
    assert poller.poll(LONG * 1000)


# Threads, closing, damage ---------------------------------------------------------------


@contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("shared", [True, False], ids=["one producer", "a producer each"])
def test_threads_write_to_one_ring_at_the_same_time(ring: rawbpf.UserRingBufMap, drain: Drain, shared: bool) -> None:
    each, threads = 2000, 4
    one = ring.producer("u64")

    def write(first: int) -> None:
        own = one if shared else ring.producer("u64")
        for number in range(first, first + each, 10):
            own.post(number, timeout=LONG)
            with own.record(timeout=LONG) as view:
                view.cast("Q")[0] = number + 1
            own.post_many(range(number + 2, number + 10), timeout=LONG)
        if not shared:
            own.close()

    with one, switching_often():
        writers = [threading.Thread(target=write, args=(index * each,)) for index in range(threads)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            drain.take()
        drain.take()
    total = each * threads
    assert (drain.count, drain.total) == (total, total * (total - 1) // 2)


def test_ctrl_c_leaves_no_record_that_stands_in_the_way(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    # One after the other of the calls that the package makes is interrupted.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = set()
    try:
        for after in range(40):
            with ring.producer() as producer:
                try:
                    with interrupted(after), producer.record(8) as view:
                        view[:] = b"whole..."
                except KeyboardInterrupt:
                    pass
            seen.add(tuple(drain.each()))
            with ring.producer() as producer:
                assert producer.free == PAGE, after
                producer.post(b"next")
            assert drain.each() == [kept(b"next")], after
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == {(), (kept(b"whole..."),)}


def test_ctrl_c_in_the_making_of_a_record_discards_it(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ring.producer() as producer:
            for after in range(1, 40):
                try:
                    with interrupted(after):
                        producer.record(8).__enter__()
                except KeyboardInterrupt:
                    assert producer._reserved == {}, after
                    assert drain.each() == []
                    continue
                break
            else:
                pytest.fail("always interrupted")
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_interrupts_a_writer_cannot_write_too(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    with (
        rawbpf.Map.from_id(ring.id) as same,
        rawbpf.UserRingBufMap.create(max_entries=PAGE) as different,
        ring.producer() as first,
        ring.producer() as second,
        same.producer() as third,
        different.producer() as other,
    ):
        for producer in (first, second, third):
            with pytest.raises(RuntimeError, match="signal handler"):
                first._turn.alone(producer.post, b"in between")
        first._turn.alone(other.post, b"elsewhere")
        first.post(b"later")
    assert drain.each() == [kept(b"later")]


def test_a_producer_goes_on_when_the_map_is_closed(backend: Backend) -> None:
    ring = rawbpf.UserRingBufMap.create(max_entries=PAGE, name="gone")
    with draining(backend, ring) as drain, ring.producer() as producer:
        ring.close()
        producer.post(b"still")
        if backend.name == "kernel":
            assert drain.each() == [kept(b"still")]
        assert repr(producer).startswith(f"<UserRingProducer of 'gone' (user_ringbuf): fd {producer.fileno()}")
    with pytest.raises(rawbpf.Closed, match="gone"):
        ring.producer()


def test_closing_discards_what_was_not_submitted(ring: rawbpf.UserRingBufMap, drain: Drain) -> None:
    producer = ring.producer()
    left = producer.reserve(100)
    producer.post(b"posted")
    producer.close()
    producer.close()
    assert producer.closed
    assert drain.each() == [kept(b"posted")]
    for use in (
        lambda: producer.post(b""),
        lambda: producer.post_many([b""]),
        lambda: producer.reserve(1),
        lambda: producer.submit(left),
        lambda: producer.free,
        lambda: producer.wait(0),
    ):
        with pytest.raises(rawbpf.Closed, match="UserRingProducer of 'requests'"):
            use()


def test_a_producer_that_is_dropped_open_is_warned_about(ring: rawbpf.UserRingBufMap) -> None:
    producer = ring.producer()
    with pytest.warns(ResourceWarning, match=r"unclosed <UserRingProducer of .*test_user_ring_producer\.py"):
        del producer


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(PAGE + 8, id="beyond the ring"),
        pytest.param(12, id="between records"),
        pytest.param(-8, id="behind"),
    ],
)
def test_impossible_positions_are_found(ring: rawbpf.UserRingBufMap, position: int) -> None:
    with ring.memory() as memory, ring.producer() as producer:
        before = bytes(memory.data)
        memory.producer[0] = position % (1 << 8 * memory.producer.itemsize)
        for use in (lambda: producer.post(b"x"), lambda: producer.free, lambda: producer.post_many([b"x", b"yz"])):
            with pytest.raises(
                rawbpf.FormatError, match=r"'requests' \(user_ringbuf\): impossible positions, consumer 0"
            ):
                use()
        assert bytes(memory.data) == before
