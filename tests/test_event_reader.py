"""A reader of events waits, is woken, interrupted and closed, and neither loses a record nor hands one out twice."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import struct
import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support import child
from support.interrupts import interrupted
from support.map_shapes import PAGE
from support.polls import Polls
from support.rings import Producer

import rawbpf
from rawbpf.sim.simulator import Simulator
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.event.reader import Reader
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:ringbuf", "prog_type:syscall")

SLOT = 16
PATIENCE = 30


@pytest.fixture
def polls(backend: Backend) -> Polls:
    return Polls(backend)


@pytest.fixture
def ring(polls: Polls) -> Iterator[rawbpf.RingBufMap]:
    with rawbpf.RingBufMap.create(max_entries=PAGE, name="events", backend=polls) as made:
        yield made


class Thread(threading.Thread):
    """Calls `function` and keeps what it returned or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:  # noqa: BLE001  # whoever asks for the result sees it
            self.result = error

    def ended(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.result


# Waiting ------------------------------------------------------------------------------


def test_a_reader_that_waits_is_woken_by_a_record(ring: rawbpf.RingBufMap, producer: Producer, polls: Polls) -> None:
    with ring.reader() as reader:
        thread = Thread(reader.read)
        assert polls.waiting.wait(PATIENCE)
        producer.output(b"came")
        assert thread.ended() == b"came"


def test_a_record_that_wakes_nobody_is_seen_by_whoever_begins_to_wait(
    ring: rawbpf.RingBufMap, producer: Producer, polls: Polls
) -> None:
    # Submitted when the reader has looked and found nothing.
    def late() -> None:
        if polls.count == 1:
            producer.output(b"quiet", c.BPF_RB_NO_WAKEUP)

    polls.before = late
    with ring.reader() as reader:
        assert reader.read(PATIENCE) == b"quiet"
        assert polls.count == 1


@pytest.mark.parametrize("timeout", [0, 0.001, -1.0])
def test_nothing_in_time_is_none(ring: rawbpf.RingBufMap, timeout: float) -> None:
    with ring.reader() as reader:
        assert reader.read(timeout) is None
        assert list(reader.batches(timeout)) == []
        with reader.lease(timeout) as view:
            assert view is None
        assert reader.drain() == []


@pytest.mark.parametrize("kind", ["a ring", "two rings", "a buffer for each CPU"])
def test_a_reader_that_waits_makes_one_call_and_is_not_woken(ring: rawbpf.RingBufMap, polls: Polls, kind: str) -> None:
    with ExitStack() as stack:
        reader: Reader[bytes] = stack.enter_context(ring.reader())
        if kind == "two rings":
            reader.add(stack.enter_context(rawbpf.RingBufMap.create(max_entries=PAGE, backend=polls)))
        elif kind != "a ring":
            events = stack.enter_context(rawbpf.PerfEventArrayMap.create(backend=polls))
            reader = stack.enter_context(events.reader())
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        assert reader.read(2) is None
        woken = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        assert polls.count == 1
        # Once for the call, and perhaps for the interpreter's lock.
        assert woken <= 3


def test_a_record_that_is_being_written_is_waited_for_without_spinning() -> None:
    # No program of the running kernel ends with a record in its hand.
    with Simulator() as simulator:
        polls = Polls(simulator)
        with rawbpf.RingBufMap.create(max_entries=PAGE, backend=polls) as ring, ring.reader() as reader:
            program = simulator.ringbuf(ring.fileno())
            record = program.reserve(8)
            assert record is not None
            program.output(b"behind")
            assert reader.read(0) is None
            assert reader.drain() == []
            polls.count = 0
            assert reader.read(0.1) is None
            assert 2 < polls.count < 30

            def written() -> None:
                if polls.count == 6:
                    record.submit(c.BPF_RB_NO_WAKEUP)

            polls.count, polls.before = 0, written
            assert reader.read(PATIENCE) == bytes(8)
            assert reader.read(0) == b"behind"


# Ends ---------------------------------------------------------------------------------

READING: list[Any] = [
    pytest.param(lambda reader: reader.read(), rawbpf.Closed, id="read"),
    pytest.param(list, [], id="loop"),
    pytest.param(lambda reader: list(reader.batches()), [], id="batches"),
    pytest.param(lambda reader: reader.poll(), rawbpf.Closed, id="poll"),
    pytest.param(lambda reader: reader.lease(), rawbpf.Closed, id="lease"),
    pytest.param(lambda reader: asyncio.run(events_of(reader)), [], id="async"),
]


async def events_of(reader: Reader[bytes]) -> list[bytes]:
    return [event async for event in reader]


@pytest.mark.parametrize(("read", "outcome"), READING)
def test_closing_wakes_a_reader_that_waits_in_another_thread(
    ring: rawbpf.RingBufMap, polls: Polls, read: Callable[[Reader[bytes]], Any], outcome: Any
) -> None:
    reader = ring.reader(callback=print)
    asked = polls.count
    polls.before = polls.waiting.set  # a task that waits asks first, without waiting
    thread = Thread(lambda: read(reader))
    assert polls.waiting.wait(PATIENCE)
    reader.close()
    result = thread.ended()
    assert result == outcome or isinstance(result, outcome if isinstance(outcome, type) else ())
    assert reader.closed
    assert polls.count > asked


@pytest.mark.parametrize(("read", "outcome"), READING)
def test_closing_the_map_ends_a_reader_that_waits_with_closed(
    polls: Polls, read: Callable[[Reader[bytes]], Any], outcome: Any
) -> None:
    del outcome
    ring = rawbpf.RingBufMap.create(max_entries=PAGE, name="events", backend=polls)
    reader = ring.reader(callback=print)
    polls.before = polls.waiting.set
    thread = Thread(lambda: read(reader))
    assert polls.waiting.wait(PATIENCE)
    ring.close()
    error = thread.ended()
    assert isinstance(error, rawbpf.Closed)
    assert "the map 'events' (ringbuf) was closed" in str(error)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda reader: reader.read(0), id="read"),
        pytest.param(iter, id="loop"),
        pytest.param(lambda reader: reader.drain(), id="drain"),
        pytest.param(lambda reader: reader.batches(), id="batches"),
        pytest.param(lambda reader: reader.poll(0), id="poll"),
        pytest.param(lambda reader: reader.lease(0), id="lease"),
        pytest.param(lambda reader: reader.fileno(), id="fileno"),
        pytest.param(aiter, id="async"),
        pytest.param(lambda reader: reader.add(None), id="add"),
    ],
)
def test_a_closed_reader_says_so(ring: rawbpf.RingBufMap, read: Callable[[Any], object]) -> None:
    reader = ring.reader(callback=print)
    reader.close()
    reader.close()
    with pytest.raises(rawbpf.Closed, match=r"read events of 'events' \(ringbuf\).*: EBADF: the reader was closed"):
        read(reader)
    assert "closed" in repr(reader)
    assert reader.stats.available == 0


def test_what_was_not_delivered_is_there_for_the_next_reader(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    for n in range(6):
        producer.output(bytes([n]))
    with ring.reader() as reader:
        events = []
        for event in reader:
            events.append(event[0])
            if event[0] == 2:
                reader.close()
        assert events == [0, 1, 2]
    with ring.reader() as reader:
        assert [event[0] for event in reader.drain()] == [3, 4, 5]


def test_a_map_that_is_closed_in_the_middle_of_a_loop_ends_it(backend: Backend) -> None:
    ring = rawbpf.RingBufMap.create(max_entries=PAGE)
    with Producer(ring) as producer, ring.reader() as reader:
        producer.output(b"a")
        producer.output(b"b")
        events = []

        def loop() -> None:
            for event in reader:
                events.append(event)
                ring.close()

        with pytest.raises(rawbpf.Closed):
            loop()
        assert events == [b"a"]


def test_closing_needs_no_descriptor_and_leaves_no_memory(ring: rawbpf.RingBufMap) -> None:
    before, mapped = set(os.listdir("/proc/self/fd")), mappings()
    reader = ring.reader()
    reader.fileno()
    assert mappings() > mapped
    reader.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert mappings() == mapped
    assert ring._handle.mapped == []


def mappings() -> int:
    with open("/proc/self/maps", encoding="utf-8") as file:
        return sum("bpf-map" in line or "memfd" in line for line in file)


def test_a_reader_that_is_dropped_open_is_closed_with_a_warning(ring: rawbpf.RingBufMap) -> None:
    reader = ring.reader()
    with pytest.warns(ResourceWarning, match=r"unclosed <Reader of 'events' \(ringbuf\).*test_event_reader.py"):
        del reader


def test_a_child_that_closes_its_copy_does_not_disturb_its_parent(
    ring: rawbpf.RingBufMap, producer: Producer, polls: Polls
) -> None:
    with ring.reader() as reader:

        def close() -> str:
            reader.close()
            return "closed"

        assert child.run(close) == "closed"
        assert reader.read(0) is None
        assert polls.inner.poll(reader._fds, 0) == []
        producer.output(b"still")
        assert reader.read(PATIENCE) == b"still"


def test_what_wakes_without_an_end_is_not_waited_for_again(ring: rawbpf.RingBufMap, polls: Polls) -> None:
    # A child has its parent's descriptor, and is woken when its parent closes.
    with ring.reader() as reader:
        os.eventfd_write(reader._fds[0], 1)
        assert reader.read(0.05) is None
        assert polls.count == 2


# Interrupts and exceptions --------------------------------------------------------------


class Stop(Exception):
    pass


def test_after_an_exception_in_a_loop_the_next_event_is_the_next(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    for n in range(8):
        producer.output(bytes([n]))
    with ring.reader() as reader, ring.memory() as memory:

        def loop() -> None:
            for event in reader:
                if event[0] == 3:
                    raise Stop

        with pytest.raises(Stop):
            loop()
        assert memory.consumer[0] == 4 * SLOT
        assert reader.read() == bytes([4])


def test_what_a_callback_raises_reaches_the_caller_behind_its_event(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    called = []

    def callback(event: bytes) -> None:
        called.append(event[0])
        if event[0] == 2:
            raise Stop

    for n in range(5):
        producer.output(bytes([n]))
    with ring.reader(callback=callback) as reader, ring.memory() as memory:
        with pytest.raises(Stop):
            reader.poll(0)
        assert called == [0, 1, 2]
        assert memory.consumer[0] == 3 * SLOT
        assert reader.poll(0) == 2
        assert reader.poll(0) == 0
        assert called == [0, 1, 2, 3, 4]


def test_poll_without_a_callback_says_what_is_missing(ring: rawbpf.RingBufMap) -> None:
    with ring.reader() as reader, pytest.raises(TypeError, match="no callback"):
        reader.poll(0)


def take_by_read(reader: Reader[bytes], events: list[bytes]) -> None:
    event = reader.read(0)
    if event is not None:
        events.append(event)


def take_by_loop(reader: Reader[bytes], events: list[bytes]) -> None:
    for event in reader:
        events.append(event)
        if len(events) == 3:
            break


def take_by_lease(reader: Reader[bytes], events: list[bytes]) -> None:
    with reader.lease(0) as view:
        if view is not None:
            events.append(bytes(view))


WAYS: list[Any] = [
    pytest.param(take_by_read, id="read"),
    pytest.param(take_by_loop, id="loop"),
    pytest.param(take_by_lease, id="lease"),
    pytest.param(lambda reader, events: events.extend(reader.drain(2)), id="drain some"),
    pytest.param(lambda reader, events: events.extend(reader.drain()), id="drain"),
    pytest.param(lambda reader, _: reader.poll(0), id="poll"),
]


# Where it comes at the end of a loop, as the generator is closed, Python itself drops the exception.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("take", WAYS)
def test_ctrl_c_loses_nothing_and_repeats_nothing(
    ring: rawbpf.RingBufMap, producer: Producer, take: Callable[[Reader[bytes], list[bytes]], object]
) -> None:
    # One after the other of the calls that the package makes is interrupted.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for after in range(70):
            events: list[bytes] = []
            with ring.reader(callback=events.append) as reader:
                for n in range(4):
                    producer.output(bytes([n]))
                try:
                    with interrupted(after):
                        take(reader, events)
                except KeyboardInterrupt:
                    pass
                events += reader.drain()
                assert [event[0] for event in events] == [0, 1, 2, 3], after
            with ring.reader() as reader:
                assert reader.drain() == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_handler_may_close_the_reader_that_it_interrupted(ring: rawbpf.RingBufMap, polls: Polls) -> None:
    reader = ring.reader()
    before = signal.signal(signal.SIGUSR1, lambda *_: reader.close())
    try:
        polls.before = lambda: signal.raise_signal(signal.SIGUSR1)
        assert list(reader) == []
        assert reader.closed
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_two_threads_do_not_read_at_a_time(ring: rawbpf.RingBufMap, polls: Polls) -> None:
    reader = ring.reader()
    thread = Thread(reader.read)
    assert polls.waiting.wait(PATIENCE)
    with pytest.raises(RuntimeError, match="being read by another thread"):
        reader.read(0)
    reader.close()
    assert isinstance(thread.ended(), rawbpf.Closed)


def test_a_thread_does_not_read_beside_the_loop_of_another(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    for n in range(3):
        producer.output(bytes([n]))
    with ring.reader() as reader:
        loop = iter(reader)
        assert next(loop) == b"\0"
        for read in (reader.read, reader.drain, lambda: next(reader.batches(0)), reader.lease):
            refusal = Thread(read).ended()
            assert isinstance(refusal, RuntimeError)
            assert "being read by another thread" in str(refusal)
        assert next(loop) == b"\1"
        assert Thread(loop.__next__).ended() == b"\2"
        del loop
        producer.output(b"\3")
        assert Thread(lambda: reader.read(0)).ended() == b"\3"


def test_threads_that_read_one_reader_get_each_event_once_or_are_refused(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    count, got = 300, [list[bytes]() for _ in range(4)]
    done = threading.Event()

    def read(mine: list[bytes]) -> None:
        while not done.is_set():
            try:
                mine.extend(reader.drain(2))
                event = reader.read(0)
            except RuntimeError:
                continue
            mine.extend([event] if event is not None else [])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ring.reader() as reader:
            threads = [Thread(partial(read, mine)) for mine in got]
            for n in range(count):
                assert producer.output(struct.pack("=I", n)) == 0
                while reader.stats.available > 2 * PAGE // 3:
                    pass
            done.set()
            for thread in threads:
                assert thread.ended() is None
            got.append(reader.drain())
            assert reader.stats.records == count
    finally:
        done.set()
        sys.setswitchinterval(before)
    assert sorted(struct.unpack("=I", event)[0] for mine in got for event in mine) == list(range(count))


# Refused records and damaged memory -------------------------------------------------------


def test_a_record_that_is_too_short_raises_in_its_turn_and_is_passed_over(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    for value in (b"\1" * 8, b"\2" * 8, b"short", b"\3" * 8):
        producer.output(value)
    with ring.reader("u64") as reader:
        assert [reader.read(), reader.read()] == [0x0101010101010101, 0x0202020202020202]
        with pytest.raises(rawbpf.FormatError, match=r"a record of 5 bytes is too short for <codec u64, 8 bytes>"):
            reader.read()
        assert reader.drain() == [0x0303030303030303]
        for value in (b"\1" * 8, b"short", b"\3" * 8):
            producer.output(value)
        assert reader.drain() == [0x0101010101010101]
        with pytest.raises(rawbpf.FormatError):
            reader.drain()
        assert reader.drain() == [0x0303030303030303]
        assert not reader.closed


DAMAGE: list[Any] = [
    pytest.param(0, PAGE + 8, "producer's position", id="behind by more than the ring"),
    pytest.param(64, 0, "producer's position", id="producer behind consumer"),
    pytest.param(0, 12, "multiples of 8", id="no multiple of 8"),
    pytest.param(0, 24, r"a record of 32 bytes begins 24 bytes before", id="record beyond the producer"),
]


@pytest.mark.parametrize(("consumer", "end", "message"), DAMAGE)
@pytest.mark.parametrize(
    "way", [pytest.param(list, id="loop"), pytest.param(lambda reader: reader.drain(), id="drain")]
)
def test_damaged_memory_is_an_error_and_closes_the_reader(
    consumer: int, end: int, message: str, way: Callable[[Any], object]
) -> None:
    with (
        Simulator() as simulator,
        rawbpf.RingBufMap.create(max_entries=PAGE, name="events", backend=simulator) as ring,
        ring.memory() as memory,
        ring.reader() as reader,
    ):
        damaged = simulator.ringbuf(ring.fileno())._target.memory.view
        struct.pack_into("=II", damaged, 2 * PAGE, 32, 0)
        struct.pack_into("@L", damaged, PAGE, end)
        memory.consumer[0] = consumer
        reader._sources[0][0].rewind()
        with pytest.raises(
            rawbpf.FormatError, match=rf"'events' \(ringbuf\): the ring is corrupt.*{message}"
        ) as caught:
            way(reader)
        assert caught.value.offset == consumer
        assert reader.closed
        with pytest.raises(rawbpf.Closed, match="closed itself: the memory is corrupt"):
            reader.read(0)


def test_what_was_drained_before_damage_was_found_is_delivered_first() -> None:
    with (
        Simulator() as simulator,
        rawbpf.RingBufMap.create(max_entries=PAGE, backend=simulator) as good,
        rawbpf.RingBufMap.create(max_entries=PAGE, backend=simulator) as bad,
        good.reader().add(bad) as reader,
    ):
        damaged = simulator.ringbuf(bad.fileno())._target.memory.view
        struct.pack_into("@L", damaged, PAGE, 12)
        simulator.ringbuf(good.fileno()).output(b"good")
        assert reader.drain() == [b"good"]
        assert not reader.closed
        with pytest.raises(rawbpf.FormatError):
            reader.drain()
        assert reader.closed


# Sizes ------------------------------------------------------------------------------------


def test_the_largest_record_and_one_that_straddles_the_end_are_read(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    largest = bytes(range(256)) * (PAGE // 256)
    largest = largest[: PAGE - 16]
    with ring.reader() as reader:
        for _ in range(3):
            # Each begins 8 bytes before where the one before began.
            assert producer.output(largest) == 0
            assert producer.output(b"no room") < 0
            assert reader.read(0) == largest
            assert reader.stats.available == 0
        assert reader.stats.high_water == PAGE - 8


# Several rings, descriptors, statistics -----------------------------------------------------


def test_several_rings_take_turns_in_one_reader(backend: Backend) -> None:
    with ExitStack() as stack:
        rings = [stack.enter_context(rawbpf.RingBufMap.create(max_entries=PAGE)) for _ in range(3)]
        producers = [stack.enter_context(Producer(ring)) for ring in rings]
        reader: Reader[Any] = stack.enter_context(rings[0].reader())
        reader.fileno()
        assert reader.add(rings[1], "u32").add(rings[2]) is reader
        for n in range(4):
            for which, producer in enumerate(producers):
                producer.output(bytes([n, 0, 0, 0]) if which == 1 else bytes([which, n]))
        first = [reader.read() for _ in range(5)]
        events = first + reader.drain(3)
        events += reader.drain()
        assert [event[1] for event in events if isinstance(event, bytes) and event[0] == 0] == [0, 1, 2, 3]
        assert [event[1] for event in events if isinstance(event, bytes) and event[0] == 2] == [0, 1, 2, 3]
        number = [int.from_bytes(bytes([n, 0, 0, 0]), sys.byteorder) for n in range(4)]
        assert [event for event in events if isinstance(event, int)] == number
        assert reader.stats.records == 12
        assert reader.stats.available == 0
        producers[2].output(b"\2late")
        assert select.select([reader], [], [], PATIENCE)[0] == [reader]
        assert reader.read(0) == b"\2late"
        rings[1].close()
        with pytest.raises(rawbpf.Closed):
            reader.read(0)


def test_what_has_no_records_is_not_added(ring: rawbpf.RingBufMap, backend: Backend) -> None:
    with (
        ring.reader() as reader,
        rawbpf.ArrayMap.create(value="u32", max_entries=1) as array,
        Simulator() as other,
        rawbpf.RingBufMap.create(max_entries=PAGE, backend=other) as elsewhere,
    ):
        with pytest.raises(TypeError, match="has no records to be read"):
            reader.add(array)
        with pytest.raises(TypeError, match="a map of another kernel"):
            reader.add(elsewhere)


def test_a_type_that_there_is_not_leaves_nothing_open(ring: rawbpf.RingBufMap) -> None:
    for kind, error in (("nonesuch", rawbpf.SpecError), (-1, ValueError), (1.5, TypeError)):
        with pytest.raises(error):
            ring.reader(kind)  # type: ignore[arg-type]  # not even what it takes
    assert ring._handle.mapped == []


def test_statistics_tell_what_was_read_and_what_waits(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader:
        for n in range(5):
            producer.output(bytes([n]), discard=n == 3)
        assert (reader.stats.available, reader.stats.records, reader.stats.high_water) == (5 * SLOT, 0, 0)
        reader.read()
        assert (reader.stats.available, reader.stats.records, reader.stats.high_water) == (4 * SLOT, 1, 5 * SLOT)
        iterator = iter(reader)
        next(iterator)
        assert reader.stats.records == 2
        next(iterator)
        next(iterator)
        del iterator
        stats = reader.stats
        assert (stats.available, stats.records, stats.discarded, stats.lost) == (0, 4, 1, 0)
        assert repr(stats) == f"Stats(available=0, discarded=1, high_water={5 * SLOT}, lost=0, records=4)"
    assert reader.stats.records == 4
