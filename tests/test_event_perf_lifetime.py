"""Readers of perf event arrays: the newest alone, who is woken, what is left behind, and what corrupt memory does."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.interrupts import interrupted
from support.map_shapes import PAGE
from support.perf_buffers import Producer

import rawbpf
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.current import current, using
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import perf

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

    from rawbpf.event.perf_reader import PerfReader
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:perf_event_array", "prog_type:raw_tracepoint")

CPUS = sorted(os.sched_getaffinity(0))
CPU = CPUS[0]
STEP = 24
FITTING = (PAGE - 1) // STEP
WAIT = 30.0


@pytest.fixture
def events(backend: Backend) -> Iterator[rawbpf.PerfEventArrayMap]:
    with rawbpf.PerfEventArrayMap.create(name="events") as made:
        yield made


@pytest.fixture
def producer(events: rawbpf.PerfEventArrayMap) -> Iterator[Producer]:
    with Producer(events) as made:
        yield made


def number(n: int) -> bytes:
    return struct.pack("=Q", n)


# The newest -------------------------------------------------------------------------


@pytest.mark.parametrize("written", [0, 1, 100, 170, 171, 1000, 1234])
def test_the_newest_records_are_kept_and_read_oldest_first(
    events: rawbpf.PerfEventArrayMap, producer: Producer, written: int
) -> None:
    with events.reader("u64", size_per_cpu=PAGE, overwrite=True) as reader:
        for n in range(written):
            for cpu in CPUS:
                assert producer.output(number(n), cpu) == 0
        kept = min(written, PAGE // STEP)
        assert reader.drain() == list(range(written - kept, written)) * len(CPUS)
        assert reader.drain() == []
        for n in range(3):
            producer.output(number(n), CPU)
        assert reader.stats.available == 3 * STEP
        assert [reader.read(0) for _ in range(4)] == [0, 1, 2, None]
        assert reader.stats.lost == reader.stats.available == 0
        assert reader.stats.records == kept * len(CPUS) + 3


def test_of_records_of_many_lengths_the_newest_whole_ones_are_kept(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with events.reader(size_per_cpu=PAGE, cpus=[CPU], overwrite=True) as reader:
        written = [number(n) * (1 + n % 30) for n in range(500)]
        for record in written:
            assert producer.output(record, CPU) == 0
        found = [record[:-4] for record in reader.drain()]
        assert found == written[-len(found) :]
        assert PAGE - 256 < sum(len(record) + 16 for record in found) <= PAGE


def test_what_was_copied_and_not_read_stays_when_newer_records_come(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], overwrite=True) as reader:
        for n in range(10):
            producer.output(number(n), CPU)
        assert reader.drain(4) == [0, 1, 2, 3]
        for event in reader:
            assert event == 4
            break
        for n in range(10, 500):
            producer.output(number(n), CPU)
        newest = list(range(500 - PAGE // STEP, 500))
        assert reader.drain() == [5, 6, 7, 8, 9, *newest]


def test_a_paused_reader_takes_nothing_and_counts_what_it_missed(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    for overwrite in (False, True):
        with events.reader("u64", overwrite=overwrite) as reader:
            producer.output(number(1), CPU)
            reader.pause()
            assert [producer.output(number(2), cpu) for cpu in CPUS] == [-errno.ENOSPC] * len(CPUS)
            assert reader.drain() == [1]
            assert producer.output(number(2), CPU) == -errno.ENOSPC, "reading ended the pause"
            reader.resume()
            producer.output(number(3), CPU)
            assert reader.drain() == [3]
            assert reader.lost[CPU] == 2


# Who is woken -----------------------------------------------------------------------


def woken(reader: PerfReader[Any]) -> bool:
    return bool(current().poll(reader._fds[1:], 0))


@pytest.mark.parametrize(
    ("options", "records"),
    [
        pytest.param({}, 1, id="each"),
        pytest.param({"wakeup_events": 5}, 5, id="every fifth"),
        pytest.param({"wakeup_watermark": 10 * STEP}, 11, id="more than so many bytes"),
    ],
)
def test_who_waits_is_woken_when_it_was_asked_for_and_all_is_read_then(
    events: rawbpf.PerfEventArrayMap, producer: Producer, options: dict[str, Any], records: int
) -> None:
    with events.reader("u64", cpus=[CPU], **options) as reader:
        for n in range(records):
            assert not woken(reader)
            producer.output(number(n), CPU)
        assert woken(reader)
        producer.output(number(records), CPU)
        assert reader.drain() == list(range(records + 1))


def test_a_watermark_may_be_as_large_as_the_buffer_that_was_rounded_up(events: rawbpf.PerfEventArrayMap) -> None:
    with events.reader(size_per_cpu=PAGE + 1, wakeup_watermark=2 * PAGE - 8) as reader:
        assert reader.read(0) is None


def test_records_that_wake_nobody_are_there_for_who_looks(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with events.reader("u64", cpus=[CPU], wakeup_events=1000) as reader:
        producer.output(number(7), CPU)
        assert reader.read() == 7
        assert reader.read(0.01) is None


@pytest.mark.parametrize("cpu", CPUS)
def test_a_thread_that_waits_is_woken_by_records_of_any_cpu(
    events: rawbpf.PerfEventArrayMap, producer: Producer, cpu: int
) -> None:
    with events.reader("u64") as reader:
        found: list[int | None] = []
        thread = threading.Thread(target=lambda: found.append(reader.read(WAIT)))
        thread.start()
        try:
            producer.output(number(cpu), cpu)
        finally:
            thread.join()
        assert found == [cpu]


def test_closing_wakes_a_thread_that_waits(events: rawbpf.PerfEventArrayMap) -> None:
    reader = events.reader()
    loop = iter(reader)
    found: list[list[bytes]] = []
    thread = threading.Thread(target=lambda: found.append(list(loop)))
    thread.start()
    reader.close()
    thread.join()
    assert found == [[]]


@pytest.mark.real_kernel("epoll looks at a simulated descriptor as at any eventfd")
def test_a_record_that_comes_while_a_task_begins_to_wait_is_seen(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    # To look at a perf event takes its wake-up away: whoever waits by epoll has to look at the buffer once more.
    async def first(reader: PerfReader[int]) -> int | None:
        loop = asyncio.get_running_loop()
        add_reader = loop.add_reader

        def late(fd: int, *args: Any) -> None:
            producer.output(number(5), CPU)
            add_reader(fd, *args)

        loop.add_reader = late  # type: ignore[method-assign,assignment]  # the moment that matters
        async for event in reader:
            return event
        return None

    with events.reader("u64") as reader:
        assert asyncio.run(asyncio.wait_for(first(reader), WAIT)) == 5


@pytest.mark.parametrize("overwrite", [False, True], ids=["all", "the newest"])
def test_ctrl_c_loses_nothing_and_counts_nothing_twice(
    events: rawbpf.PerfEventArrayMap, producer: Producer, overwrite: bool
) -> None:
    # Four records of 1000 bytes fill a buffer; the fifth that is kept goes on at the beginning, behind that of a loss.
    ways: list[Callable[[PerfReader[bytes]], list[bytes]]] = [
        lambda reader: [record for record in [reader.read(0)] if record is not None],
        lambda reader: reader.drain(2),
        lambda reader: reader.drain(),
    ]
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for way in ways:
            for after in range(60):
                with events.reader(size_per_cpu=PAGE, cpus=[CPU], overwrite=overwrite) as reader:
                    for n in range(6):
                        producer.output(bytes([n]) * 1000, CPU)
                    found = reader.drain(2)
                    producer.output(bytes([9]) * 1000, CPU)
                    try:
                        with interrupted(after):
                            taken = way(reader)
                            found += taken
                    except KeyboardInterrupt:
                        pass
                    found += reader.drain()
                    kept = [2, 3, 4, 5, 9] if overwrite else [0, 1, 2, 3, 9]
                    assert [record[0] for record in found] == kept, (way, after)
                    assert reader.lost == {CPU: 0 if overwrite else 2}
                    assert producer.output(b"four", CPU) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("paused", [False, True], ids=["", "paused"])
def test_ctrl_c_while_the_newest_are_copied_leaves_the_buffer_as_it_was(
    events: rawbpf.PerfEventArrayMap, producer: Producer, paused: bool
) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts = 0
    try:
        with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], overwrite=True) as reader:
            for after in range(60):
                reader.resume()
                assert producer.output(number(after), CPU) == 0
                if paused:
                    reader.pause()
                try:
                    with interrupted(after):
                        reader.drain()
                except KeyboardInterrupt:
                    interrupts += 1
                assert producer.output(number(after), CPU) == (-errno.ENOSPC if paused else 0), after
                reader.drain()
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupts > 20


class Clumsy(Wrapper):
    """A kernel of which so many ioctls that let records in are interrupted before they are made."""

    interrupts = 0

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        if self.interrupts and not arg:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return super().ioctl(fd, request, arg)


def test_a_buffer_that_two_interrupts_left_without_records_has_them_again_when_it_is_read(backend: Backend) -> None:
    with (
        using(clumsy := Clumsy(backend)),
        rawbpf.PerfEventArrayMap.create() as events,
        using(backend),
        Producer(events) as producer,
        events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], overwrite=True) as reader,
    ):
        producer.output(number(1), CPU)
        clumsy.interrupts = 2
        with pytest.raises(KeyboardInterrupt):
            reader.drain()
        assert producer.output(number(2), CPU) == -errno.ENOSPC
        assert reader.drain() == [1]
        assert reader.drain() == []
        assert producer.output(number(3), CPU) == 0
        assert reader.drain() == [3]
        assert reader.lost == {CPU: 1}


# What is opened, and left behind ---------------------------------------------------


def test_closing_takes_the_events_out_of_the_array(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with events.reader() as reader:
        assert producer.output(b"x", CPU) == 0
        assert reader.lost == dict.fromkeys(reader.cpus, 0)
    reader.close()
    assert reader.closed
    assert producer.output(b"x", CPU) == -errno.ENOENT
    for use in (reader.read, reader.drain, reader.pause, reader.resume, lambda: iter(reader)):
        with pytest.raises(rawbpf.Closed, match="the reader was closed"):
            use()
    with events.reader() as another:
        assert producer.output(b"four", CPU) == 0
        assert another.drain() == [b"four"]


def test_a_map_that_is_closed_ends_its_reader(backend: Backend) -> None:
    events = rawbpf.PerfEventArrayMap.create(name="events")
    with events.reader() as reader:
        events.close()
        with pytest.raises(rawbpf.Closed, match=r"the map 'events' .* was closed"):
            reader.read()


def test_only_the_cpus_that_were_asked_for_are_read(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    last = CPUS[-1]
    with events.reader(cpus=[last, last]) as reader:
        assert reader.cpus == [last]
        assert producer.output(b"four", last) == 0
        for cpu in CPUS[:-1]:
            assert producer.output(b"four", cpu) == -errno.ENOENT
        assert reader.drain() == [b"four"]


class Offline(Wrapper):
    """A kernel of which CPU `cpu` is offline."""

    def __init__(self, inner: Backend, cpu: int) -> None:
        super().__init__(inner)
        self.cpu = cpu

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        if cpu == self.cpu:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return super().perf_event_open(attr, pid, cpu, group_fd, flags)


def test_a_cpu_that_is_offline_is_left_out_unless_it_was_asked_for(backend: Backend) -> None:
    with using(Offline(backend, 0)), rawbpf.PerfEventArrayMap.create() as events:
        with events.reader() as reader:
            assert set(CPUS) - {0} <= set(reader.cpus) <= set(range(1, backend.host.possible_cpus))
        with pytest.raises(rawbpf.BpfError, match="ENODEV: the CPU is offline"):
            events.reader(cpus=[1, 0])


def test_an_array_with_more_slots_than_there_are_cpus_has_readers_too(backend: Backend) -> None:
    cpus = backend.host.possible_cpus
    with rawbpf.PerfEventArrayMap.create(max_entries=cpus + 60) as events, events.reader() as reader:
        assert set(CPUS) <= set(reader.cpus) <= set(range(cpus))
    with rawbpf.PerfEventArrayMap.create(max_entries=1) as events, events.reader() as reader:
        assert reader.cpus == [0]


@pytest.mark.parametrize(("asked", "pages"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (5 * PAGE, 8), (64 * PAGE, 64)])
def test_a_buffer_has_the_next_power_of_two_pages(backend: Backend, asked: int, pages: int) -> None:
    with (
        rawbpf.PerfEventArrayMap.create() as events,
        Producer(events) as producer,
        events.reader(size_per_cpu=asked, cpus=[CPU]) as reader,
    ):
        fitting = (pages * PAGE - 1) // STEP
        assert [producer.output(b"12345678", CPU) for _ in range(fitting + 1)] == [0] * fitting + [-errno.ENOSPC]
        assert len(reader.drain()) == fitting
        assert reader.stats.high_water == fitting * STEP


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"size_per_cpu": 0}, ValueError, "size_per_cpu=0: expected at least 1", id="no size"),
        pytest.param({"size_per_cpu": 4096.0}, TypeError, "size_per_cpu=4096.0: expected a number", id="a float"),
        pytest.param({"wakeup_events": 0}, ValueError, "wakeup_events=0", id="never"),
        pytest.param({"wakeup_watermark": -1}, ValueError, "wakeup_watermark=-1", id="a negative watermark"),
        pytest.param({"wakeup_events": 2, "wakeup_watermark": 9}, ValueError, "one of them", id="records and bytes"),
        *(
            pytest.param(
                {"size_per_cpu": size, "wakeup_watermark": watermark},
                ValueError,
                rf"wakeup_watermark={watermark}: a buffer of {rounded} bytes never has more",
                id=f"a watermark of {watermark} in {rounded} bytes",
            )
            for size, watermark, rounded in ((PAGE, PAGE, PAGE), (PAGE + 1, 2 * PAGE, 2 * PAGE), (1, 1 << 40, PAGE))
        ),
        pytest.param({"type": 3.5}, TypeError, "3.5", id="no type"),
        pytest.param({"cpus": [0, 1 << 20]}, rawbpf.BpfError, "EINVAL: there is no CPU", id="no such CPU"),
        pytest.param({"cpus": 5}, TypeError, "cpus: expected the numbers of CPUs, .* got 5", id="a CPU"),
        pytest.param({"cpus": [0, "1"]}, TypeError, "cpus: expected the numbers of CPUs", id="a CPU's name"),
        pytest.param({"cpus": [1 << 40]}, OverflowError, "cpus: 1099511627776 is no number", id="a huge CPU"),
        *(
            pytest.param(
                {"size_per_cpu": size},
                ValueError,
                f"size_per_cpu={size}: a buffer of {mebibytes} MiB for each CPU; the kernel makes none of more than "
                rf"{PAGE >> 2} MiB \(262144 pages\)",
                id=f"{mebibytes} MiB",
            )
            for size, mebibytes in ((1 << 40, 1 << 20), (1 << 63, 1 << 43), ((PAGE << 18) + 1, PAGE >> 1))
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing_open(
    events: rawbpf.PerfEventArrayMap, producer: Producer, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        events.reader(**options)
    assert producer.output(b"x", CPU) == -errno.ENOENT


class Exhausted(Wrapper):
    """A kernel that has no memory for buffers."""

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> mmap.mmap:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_buffer_that_the_kernel_has_no_memory_for_is_said(backend: Backend) -> None:
    with (
        using(Exhausted(backend)),
        rawbpf.PerfEventArrayMap.create() as events,
        pytest.raises(rawbpf.BpfError, match="ENOMEM: there is no memory for that much: take a smaller size_per_cpu"),
    ):
        events.reader(size_per_cpu=PAGE << 18)  # the largest that may be asked for


# Corrupt memory ---------------------------------------------------------------------


def written(producer: Producer, lap: int, reader: PerfReader[bytes]) -> None:
    """Write five records of 24 bytes at the beginning of a one-page buffer, in its first or second lap."""
    for _ in range(PAGE // 8 * lap):
        producer.output(b"12345678", CPU)
        reader.drain()
    for _ in range(5):
        producer.output(b"12345678", CPU)


@pytest.mark.parametrize("lap", [0, 3])
@pytest.mark.parametrize("ahead", [20, PAGE + 8, 1 << 40, -8])
def test_a_position_that_cannot_be_closes_the_reader(
    events: rawbpf.PerfEventArrayMap, producer: Producer, lap: int, ahead: int
) -> None:
    with events.reader(size_per_cpu=PAGE, cpus=[CPU]) as reader:
        written(producer, lap, reader)
        (source,) = reader._buffers()
        source._control[1024 >> 3] = (3 * PAGE * lap + ahead) % (1 << 64)
        with pytest.raises(rawbpf.FormatError, match=rf"events of CPU {CPU} in 'events' .*corrupt.*is not behind it"):
            reader.read(0)
        assert reader.closed
        with pytest.raises(rawbpf.Closed, match="the memory is corrupt"):
            reader.drain()


@pytest.mark.parametrize("lap", [0, 3])
@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        pytest.param(0, bytes(8), "type 0 has 0 bytes", id="a header of nothing"),
        pytest.param(0, struct.pack("=IHH", 9, 1, 13), "has 13 bytes", id="no multiple of 8"),
        pytest.param(STEP, struct.pack("=IHH", 9, 1, 512), "512 bytes of the 96", id="beyond the newest"),
        pytest.param(0, struct.pack("=IHH", 9, 1, 65535), "has 65535 bytes", id="beyond the end"),
        pytest.param(8, struct.pack("=I", 99), "24 bytes has 99 raw ones", id="another number of raw bytes"),
    ],
)
def test_records_that_cannot_be_close_the_reader(at: int, value: bytes, message: str, lap: int) -> None:
    # The kernel lets nobody write there.
    with (
        Simulator() as simulator,
        using(simulator),
        rawbpf.PerfEventArrayMap.create() as events,
        Producer(events) as producer,
        events.reader(size_per_cpu=PAGE, cpus=[CPU]) as reader,
    ):
        written(producer, lap, reader)
        with simulator.mmap(reader._fds[1], 2 * PAGE) as memory:
            memory[PAGE + at : PAGE + at + len(value)] = value
        with pytest.raises(rawbpf.FormatError, match=f"corrupt at position {3 * PAGE * lap}: .*{message}"):
            reader.read(0)
        assert reader.closed


headers = st.builds(
    lambda kind, size: struct.pack("=IHH", kind, 1, size),
    st.sampled_from([perf.PERF_RECORD_SAMPLE, perf.PERF_RECORD_LOST, 5]),
    st.one_of(st.integers(2, 20).map(lambda n: 8 * n), st.integers(0, 0xFFFF)),
)
changes = st.lists(st.tuples(st.integers(0, PAGE // 8 - 1), st.one_of(headers, st.binary(min_size=8, max_size=8))))


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 400),
    st.integers(0, 200),
    changes,
    st.one_of(st.none(), st.integers(0, 2 * PAGE), st.integers(0, (1 << 64) - 1)),
    st.booleans(),
    st.sampled_from(["read", "drain", "batches", "lease"]),
)
def test_whatever_the_memory_holds_it_is_read_or_it_is_said_why_not(
    read: int, unread: int, changes: list[tuple[int, bytes]], head: int | None, overwrite: bool, way: str
) -> None:
    # Invariant: a reader of any memory raises FormatError and is closed, or comes to an end.
    with (
        Simulator(cpus=1) as simulator,
        using(simulator),
        rawbpf.PerfEventArrayMap.create() as events,
        Producer(events) as producer,
        events.reader(size_per_cpu=PAGE, overwrite=overwrite) as reader,
    ):
        for n in range(read):
            producer.output(bytes(n % 40))
            reader.drain()
        for n in range(unread):
            producer.output(bytes(n % 70))
        with simulator.mmap(reader._buffers()[0].fds[0], 2 * PAGE) as memory:
            for at, value in changes:
                memory[PAGE + 8 * at : PAGE + 8 * at + 8] = value
            if head is not None:
                memory[1024:1032] = struct.pack("=Q", head)
        try:
            # There are no more records than places for their headers.
            for _ in range(PAGE // 8):
                if not taken(reader, way):
                    return
            raise AssertionError("there is no end of records")
        except rawbpf.FormatError:
            assert reader.closed


def taken(reader: PerfReader[bytes], way: str) -> bool:
    """Read in one of the ways; return whether there was anything."""
    if way == "read":
        return reader.read(0) is not None
    if way == "drain":
        return bool(reader.drain())
    if way == "batches":
        return any(len(batch.bytes()) for batch in reader.batches(0))
    with reader.lease(0) as view:
        return view is not None


@pytest.mark.parametrize(
    "several", [False, True], ids=["where they lie", "some of which reach beyond the buffer's end"]
)
@pytest.mark.parametrize("overwrite", [False, True], ids=["all", "the newest"])
def test_what_is_handed_out_of_a_buffer_cannot_be_written(
    events: rawbpf.PerfEventArrayMap, producer: Producer, overwrite: bool, several: bool
) -> None:
    # The kernel would end whoever tried with SIGBUS.
    def views(reader: PerfReader[Any]) -> Iterator[memoryview]:
        for _ in range(3):
            producer.output(number(7), CPU)
        for batch in reader.batches(0):
            yield from [batch.column("a"), *batch.columns().values()]
        for _ in range(3):
            producer.output(number(7), CPU)
        with reader.lease(0) as view:
            assert view is not None
            yield view

    with events.reader({"a": "u64"}, size_per_cpu=PAGE, cpus=[CPU], overwrite=overwrite) as reader:
        for _ in range(FITTING - 1 if several else 0):
            producer.output(number(7), CPU)
            reader.drain()
        found = 0
        for view in views(reader):
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
            found += 1
        assert found >= 3


def test_an_array_of_what_is_in_a_buffer_cannot_be_written(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    pytest.importorskip("numpy")
    with events.reader({"a": "u64"}, cpus=[CPU]) as reader:
        producer.output(number(7), CPU)
        for batch in reader.batches(0):
            array: Any = batch.to_numpy()
            with pytest.raises(ValueError, match="read-only"):
                array["a"] -= 1
            assert array["a"].tolist() == [7]


# More readers than one -----------------------------------------------------------------


def test_a_second_reader_of_the_same_slots_is_refused_and_leaves_the_first_as_it_is(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with events.reader("u64") as reader:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"another reader of 'events'.*close it first"):
                events.reader("u64")
        with pytest.raises(ValueError, match="being read by this reader already"):
            reader.add(events)
        producer.output(number(5), CPU)
        assert reader.read(WAIT) == 5
    with events.reader("u64") as reader:
        producer.output(number(6), CPU)
        assert reader.read(WAIT) == 6


def test_a_second_reader_by_another_object_of_the_same_map_is_refused_where_it_wants_the_same_slots(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    first, last = CPUS[0], CPUS[-1]
    same = rawbpf.Map.from_id(events.id)
    assert isinstance(same, rawbpf.PerfEventArrayMap)
    with same, rawbpf.PerfEventArrayMap.create() as other:
        with events.reader("u64", cpus=[first]) as reader:
            with pytest.raises(RuntimeError, match=rf"another reader of 'events'.*has the slots of CPUs {first}:"):
                same.reader("u64")
            producer.output(number(5), first)
            assert reader.drain() == [5]
            with other.reader(cpus=[first]):
                pass
            if last != first:
                with same.reader("u64", cpus=[last]) as second:
                    producer.output(number(6), last)
                    assert (reader.drain(), second.drain()) == ([], [6])
            producer.output(number(7), first)
            assert reader.drain() == [7]
        with same.reader("u64") as reader:
            producer.output(number(8), first)
            assert reader.drain() == [8]


def test_a_reader_of_no_cpu_is_refused(events: rawbpf.PerfEventArrayMap) -> None:
    with pytest.raises(ValueError, match="cpus: expected at least one"):
        events.reader(cpus=[])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_reader_that_was_closed_holds_no_buffer(
    events: rawbpf.PerfEventArrayMap, backend: Backend, overwrite: bool
) -> None:
    def held() -> tuple[int, int]:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        return len(os.listdir("/proc/self/fd")), sum("perf_event" in line or "memfd" in line for line in mapped)

    before = held()
    reader = events.reader("u64", overwrite=overwrite)
    assert held() > before
    reader.close()
    gc.collect()  # a simulated event goes with what the simulator knows of it
    assert held() == before
    assert reader.stats.available == 0
