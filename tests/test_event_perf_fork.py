"""A forked child has not the memory of its parent's perf buffers: readers are closed there, and nothing ends it."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import struct
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import child
from support.map_shapes import PAGE
from support.perf_buffers import Producer

import rawbpf
from rawbpf.syscall.pages import map_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.event.perf_reader import PerfReader
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:perf_event_array", "prog_type:raw_tracepoint")

CPU = min(os.sched_getaffinity(0))


def number(n: int) -> bytes:
    return struct.pack("=Q", n)


@pytest.fixture(params=[False, True], ids=["all", "the newest"])
def overwrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def events(backend: Backend) -> Iterator[rawbpf.PerfEventArrayMap]:
    with rawbpf.PerfEventArrayMap.create(name="events") as made:
        yield made


@pytest.fixture
def producer(events: rawbpf.PerfEventArrayMap) -> Iterator[Producer]:
    with Producer(events) as made:
        yield made


@pytest.fixture
def reader(events: rawbpf.PerfEventArrayMap, producer: Producer, overwrite: bool) -> Iterator[PerfReader[int]]:
    """A reader for which numbers from 0 to 9 wait."""
    with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], overwrite=overwrite) as made:
        for n in range(10):
            producer.output(number(n), CPU)
        yield made


def told(use: Callable[[], object]) -> str:
    """Return what a use of a reader raises."""
    try:
        return f"there was {use()!r}"
    except rawbpf.Closed as error:
        return str(error)


READING: dict[str, Callable[[PerfReader[int]], object]] = {
    "read": lambda reader: reader.read(0),
    "drain": lambda reader: reader.drain(),
    "a loop": lambda reader: next(iter(reader)),
    "batches": lambda reader: next(reader.batches(0)),
    "a lease": lambda reader: reader.lease(0),
    "fileno": lambda reader: reader.fileno(),
    "pause": lambda reader: reader.pause(),
}


@pytest.mark.parametrize("begun", [False, True], ids=["", "begun"])
@pytest.mark.parametrize("way", READING)
def test_reading_in_a_child_says_whose_the_reader_is(reader: PerfReader[int], way: str, begun: bool) -> None:
    first = [reader.read(0)] if begun else []
    assert "it belongs to the process that forked this one" in child.run(lambda: told(lambda: READING[way](reader)))
    assert first + reader.drain() == list(range(10))


def test_a_reader_is_closed_in_a_child_and_can_be_looked_at(reader: PerfReader[int]) -> None:
    def look() -> str:
        told = f"{reader.closed} {reader!r} {reader.stats.available} {reader.lost} {reader.cpus}"
        reader.close()
        return told

    assert child.run(look).startswith("True <Reader of 'events' ")
    assert not reader.closed
    assert reader.stats.available == 240


def test_what_was_delivered_is_for_the_parent_to_store(
    reader: PerfReader[int], producer: Producer, overwrite: bool
) -> None:
    loop = iter(reader)
    assert [next(loop), next(loop)] == [0, 1]
    assert child.run(lambda: str(reader.stats.records)) == "2"
    assert reader.stats.available == 240
    assert next(loop) == 2
    loop.close()  # type: ignore[attr-defined]  # it is a generator
    assert reader.stats.available == 7 * 24
    assert producer.output(number(10), CPU) == 0
    assert reader.drain() == list(range(3, 11))


@pytest.mark.parametrize("way", ["a loop", "poll", "batches", "a lease"])
def test_a_child_that_is_forked_amid_events_may_leave(
    events: rawbpf.PerfEventArrayMap, producer: Producer, overwrite: bool, way: str
) -> None:
    found: list[int] = []

    def handle(event: int) -> None:
        if event == 1:
            statuses.append(os.fork())
            if not statuses[-1]:
                raise SystemExit
        found.append(event)

    statuses: list[int] = []
    with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], overwrite=overwrite, callback=handle) as reader:
        for n in range(4):
            producer.output(number(n), CPU)
        try:
            if way == "a loop":
                for event in reader:
                    handle(event)
                    if event == 3:
                        break
            elif way == "poll":
                reader.poll(0)
            elif way == "batches":
                for batch in reader.batches(0):
                    for event in batch.records():
                        handle(event)
            else:
                for _ in range(4):
                    with reader.lease(0) as view:
                        assert view is not None
                        handle(int.from_bytes(view[:8], "little" if number(1)[0] else "big"))
            forked = bool(statuses[0])
        except SystemExit:
            # Left as the interpreter would leave it, which ends with what the reader has.
            status = 1
            try:
                reader.close()
                status = 0 if told(lambda: reader.read(0)).endswith("m.reader() makes another") else 2
            finally:
                os._exit(status)
        assert forked
        assert os.waitpid(statuses[0], 0)[1] == 0
        assert found == [0, 1, 2, 3]
        assert reader.stats.records == 4


def test_a_loop_goes_no_further_in_a_child(reader: PerfReader[int]) -> None:
    loop = iter(reader)
    next(loop)
    assert "it belongs to the process that forked this one" in child.run(lambda: told(lambda: next(loop)))
    assert next(loop) == 1
    loop.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_batch_of_a_parent_cannot_be_read_in_a_child(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    def read() -> str:
        try:
            return repr(batch.bytes())
        except ValueError as error:
            return str(error)

    with events.reader(size_per_cpu=PAGE, cpus=[CPU]) as reader:
        producer.output(b"four", CPU)
        for batch in reader.batches(0):
            assert "released" in child.run(read)
            assert batch.bytes() == [b"four"]


@pytest.mark.real_kernel(
    "kernel/events/core.c:perf_mmap keeps the memory from children; simulated memory is theirs, too"
)
def test_a_view_that_a_child_drops_takes_nothing_away_that_lies_there_by_now(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    def drop() -> str:
        memory = os.memfd_create("something else")
        os.ftruncate(memory, end - start)
        taken = memoryview(map_pages(memory, end - start, start)).cast("B")
        held.clear()
        gc.collect()
        taken[0] = 1
        return "there"

    with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU]) as reader:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        (place,) = [line.split()[0] for line in lines if "perf_event" in line]
        start, end = (int(address, 16) for address in place.split("-"))
        producer.output(number(5), CPU)
        held: list[Any] = [reader.batches(0)]
        held.append(next(held[0]).column())
        assert child.run(drop) == "there"
        assert held.pop().tolist() == [5]
        held.pop().close()


def test_a_child_by_multiprocessing_is_told_and_drops_its_reader_without_a_warning(reader: PerfReader[int]) -> None:
    def read(reader: PerfReader[int], answer: Any) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            answer.send(told(partial(reader.read, 0)))
            del reader
            gc.collect()
        answer.send([str(each.message) for each in warned if "Reader" in str(each.message)])

    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=read, args=(reader, sending))
    process.start()
    sending.close()
    with receiving:
        assert "it belongs to the process that forked this one" in receiving.recv()
        assert receiving.recv() == []
    process.join()
    assert process.exitcode == 0
    assert reader.drain() == list(range(10))


def test_a_reader_of_a_ring_with_a_perf_buffer_is_closed_in_a_child_and_leaves_the_ring_as_it_is(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, ring.reader("u64") as reader:
        reader.add(events, "u64")
        producer.output(number(1), CPU)
        producer.output(number(2), CPU)
        loop = iter(reader)
        assert next(loop) == 1
        assert "it belongs to the process" in child.run(lambda: told(lambda: reader.read(0)))
        assert next(loop) == 2
        loop.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_fork_that_python_does_not_know_of_ends_nobody_either(reader: PerfReader[int], producer: Producer) -> None:
    def use() -> bool:
        said = [told(reader.drain), told(reader.pause), told(partial(reader.read, 0))]
        assert reader.stats.available == 0
        repr(reader)
        loop.close()  # type: ignore[attr-defined]  # it is a generator
        reader.close()
        return all("it belongs to the process that forked this one" in each for each in said)

    loop = iter(reader)
    assert next(loop) == 0
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        status = 1
        try:
            status = 0 if use() else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert next(loop) == 1
    loop.close()  # type: ignore[attr-defined]  # it is a generator
    assert producer.output(number(10), CPU) == 0
    assert reader.drain() == list(range(2, 11))
