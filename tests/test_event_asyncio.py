"""Events come to tasks of asyncio, which wait in the event loop and may be cancelled; others wait by the descriptor."""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import selectors
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.map_shapes import PAGE
from support.rings import Producer

import rawbpf
from rawbpf.sim.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.event.reader import Reader

pytestmark = pytest.mark.needs("map_type:ringbuf", "prog_type:syscall")

PATIENCE = 30


async def first(reader: Reader[bytes]) -> bytes:
    return await anext(aiter(reader))


async def turns(done: Callable[[], bool]) -> None:
    """Let the other tasks run until `done`."""
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110  # there is no event for what they have come to
            await asyncio.sleep(0)


def test_a_task_gets_events_while_others_run(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    async def produce() -> None:
        for n in range(20):
            for _ in range(n % 3):
                await asyncio.sleep(0)
            producer.output(bytes([n]))

    async def main() -> list[int]:
        task = asyncio.create_task(produce())
        events = []
        with ring.reader() as reader:
            async for event in reader:
                events.append(event[0])
                if len(events) == 20:
                    break
            assert reader.stats.available == 0
        await task
        return events

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == list(range(20))


def test_the_position_is_behind_the_last_event_when_a_loop_is_left(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    async def main() -> None:
        with ring.reader() as reader, ring.memory() as memory:
            async for event in reader:
                if event == b"\2":
                    break
            assert memory.consumer[0] == 3 * 16
            assert reader.read(0) == b"\3"

    for n in range(5):
        producer.output(bytes([n]))
    asyncio.run(main())


def test_a_cancelled_task_has_taken_nothing_and_leaves_nothing_in_the_loop(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    async def main() -> None:
        with ring.reader() as reader:
            for n in range(5):
                task = asyncio.create_task(first(reader))
                await turns(lambda: bool(reader._waiting))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not reader._waiting
                producer.output(bytes([n]))
                assert await anext(aiter(reader)) == bytes([n])

    asyncio.run(main())


def test_two_tasks_share_the_events_of_a_reader(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    async def take(reader: Reader[bytes], events: list[int]) -> None:
        async for event in reader:
            events.append(event[0])
            await asyncio.sleep(0)

    async def main() -> list[int]:
        events: list[int] = []
        with ring.reader() as reader:
            tasks = [asyncio.create_task(take(reader, events)) for _ in range(2)]
            await turns(lambda: len(reader._waiting) == 2)
            for n in range(30):
                producer.output(bytes([n]))
            await turns(lambda: len(events) == 30)
            reader.close()
            await asyncio.gather(*tasks)
        return events

    assert sorted(asyncio.run(asyncio.wait_for(main(), PATIENCE))) == list(range(30))


def test_closing_ends_a_task_that_waits(ring: rawbpf.RingBufMap) -> None:
    async def main() -> list[bytes]:
        reader = ring.reader()
        loop = asyncio.get_running_loop()

        async def take() -> list[bytes]:
            return [event async for event in reader]

        task = asyncio.create_task(take())
        await turns(lambda: bool(reader._waiting))
        await loop.run_in_executor(None, reader.close)
        return await task

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == []


def test_a_record_that_is_being_written_is_waited_for() -> None:
    async def main() -> None:
        with (
            Simulator() as simulator,
            rawbpf.RingBufMap.create(max_entries=PAGE, backend=simulator) as ring,
            ring.reader() as reader,
        ):
            record = simulator.ringbuf(ring.fileno()).reserve(4)
            assert record is not None
            record.data[:] = b"late"
            asyncio.get_running_loop().call_later(0.01, record.submit)
            assert await asyncio.wait_for(anext(aiter(reader)), PATIENCE) == b"late"

    asyncio.run(main())


def test_whoever_waits_for_the_descriptor_drains_what_is_there(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    with ring.reader() as reader, selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        for n in range(3):
            assert selector.select(0) == []
            producer.output(bytes([n]))
            assert len(selector.select(PATIENCE)) == 1
            assert reader.drain() == [bytes([n])]
            assert reader.drain() == []


def test_other_tasks_have_their_turn_where_events_come_faster_than_they_are_taken(
    ring: rawbpf.RingBufMap, producer: Producer
) -> None:
    async def main() -> int:
        taken = 0
        other = asyncio.create_task(asyncio.sleep(0))
        producer.output(b"first")
        with ring.reader() as reader:
            async for _ in reader:
                taken += 1
                if other.done() or taken > 1000:
                    break
                producer.output(b"next")
        return taken

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) < 10


def test_a_wake_of_another_process_is_passed_over(ring: rawbpf.RingBufMap, producer: Producer) -> None:
    async def main() -> bytes:
        with ring.reader() as reader:
            # A child has the descriptor, too, and its close of the reader makes it readable.
            os.eventfd_write(reader._wake.fd, 1)
            task = asyncio.create_task(first(reader))
            for _ in range(10):
                await asyncio.sleep(0)
            assert reader._backend.poll([reader._wake.fd], 0) == []
            producer.output(b"came")
            return await task

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == b"came"


def test_a_task_that_waits_does_nothing_until_an_event_comes(ring: rawbpf.RingBufMap) -> None:
    async def main() -> int:
        with ring.reader() as reader:
            waiting = asyncio.create_task(first(reader))
            await asyncio.sleep(0.1)  # it has begun to wait by then
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            done, _ = await asyncio.wait([waiting], timeout=2)
            woken = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
            assert not done
            waiting.cancel()
            return woken

    # Once for the event loop's own wait, and perhaps for the interpreter's lock.
    assert asyncio.run(main()) <= 3


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=pytest.mark.needs(f"module:{name}")) for name in ("trio", "anyio")]
)
def test_other_event_loops_wait_for_the_descriptor(ring: rawbpf.RingBufMap, producer: Producer, library: str) -> None:
    loops = importlib.import_module(library)
    wait = loops.lowlevel.wait_readable if library == "trio" else loops.wait_readable
    events: list[bytes] = []

    async def consume() -> None:
        with ring.reader() as reader, loops.fail_after(PATIENCE):
            while len(events) < 200:
                events.extend(reader.drain())
                if len(events) < 200:
                    await wait(reader.fileno())

    def produce() -> None:
        for n in range(200):
            while producer.output(bytes([n])):
                pass
            if n % 7 == 0:
                time.sleep(0.001)  # so that the reader comes to wait

    thread = threading.Thread(target=produce)
    thread.start()
    loops.run(consume)
    thread.join()
    assert events == [bytes([n]) for n in range(200)]
