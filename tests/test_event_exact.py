"""Every record that a program writes arrives once, whole and in order, in whichever ways a reader goes about it."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from support.map_shapes import PAGE
from support.numbered import Numbered, record, states

import rawbpf
from rawbpf.sim.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.event.reader import Reader
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:ringbuf", "prog_type:sched_cls")

PATIENCE = 60


class Stop(Exception):
    pass


def by_loop(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    for nth, event in enumerate(reader, 1):
        yield event
        if nth == most:
            return


def by_read(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    for _ in range(min(most, 50)):
        event = reader.read(PATIENCE)
        assert event is not None
        yield event


def by_drain(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    yield from reader.drain(most)


def by_lease(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    for _ in range(min(most, 20)):
        with reader.lease(PATIENCE) as view:
            assert view is not None
            yield bytes(view)


def by_batches(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    for nth, batch in enumerate(reader.batches(PATIENCE), 1):
        records = batch.bytes()
        assert len(records) == len(batch)
        yield from records
        if nth == most % 3 + 1:
            return


def by_cancelled_task(reader: Reader[bytes], most: int) -> Iterator[bytes]:
    events = []

    async def take() -> None:
        async for event in reader:
            events.append(event)
            if len(events) == most:
                return

    async def cancel() -> None:
        task = asyncio.create_task(take())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    yield from events


WAYS: list[Callable[[Reader[bytes], int], Iterator[bytes]]] = [
    by_loop,
    by_read,
    by_drain,
    by_lease,
    by_batches,
    by_cancelled_task,
]


def some(ring: rawbpf.RingBufMap, chance: random.Random) -> Iterator[bytes]:
    """Yield records by readers that start and stop, each of which is used in several ways."""
    while True:
        called: list[bytes] = []

        def callback(event: bytes, called: list[bytes] = called) -> None:
            called.append(event)
            if chance.random() < 0.001:
                raise Stop

        with ring.reader(callback=callback) as reader:
            for _ in range(chance.randrange(1, 8)):
                yield from chance.choice(WAYS)(reader, chance.choice([1, 5, 200, 5000]))
                try:
                    reader.poll(0)
                except Stop:
                    pass
                yield from called
                called.clear()


def producing(producer: Numbered, count: int, room: threading.Event) -> threading.Thread:
    def produce() -> None:
        while producer.made < count:
            refused = producer.refused
            producer.run(min(500, count - producer.made))
            if producer.refused > refused:
                # Not at once again: a simulated program would keep the interpreter from the reader.
                room.clear()
                room.wait(0.002)

    return threading.Thread(target=produce)


@pytest.mark.guest
@pytest.mark.parametrize("pages", [1, 64])
def test_all_records_arrive_once_and_in_order(backend: Backend, pages: int) -> None:
    exact(3_000 if isinstance(backend, Simulator) else 20_000, pages)


def test_a_million_records_arrive_once_and_in_order(backend: Backend) -> None:
    exact(1_000_000, 64)


def exact(count: int, pages: int) -> None:
    with rawbpf.RingBufMap.create(max_entries=pages * PAGE) as ring, Numbered(ring) as producer:
        room = threading.Event()
        thread = producing(producer, count, room)
        thread.start()
        try:
            arrived = islice(some(ring, random.Random(pages)), count)
            for number, (event, state) in enumerate(zip(arrived, states(), strict=False)):
                assert event == record(number, state), number
                if number % 16 == 0:
                    room.set()
            assert number == count - 1
        finally:
            thread.join()
        with ring.reader() as reader:
            assert reader.read(0) is None


@pytest.mark.guest
def test_what_finds_no_room_is_counted_and_nothing_else_is_missing(backend: Backend) -> None:
    count = 2_000 if isinstance(backend, Simulator) else 20_000
    with (
        rawbpf.RingBufMap.create(max_entries=PAGE) as ring,
        Numbered(ring, dropping=True) as producer,
        ring.reader() as reader,
    ):
        events = []
        while producer.made < count:
            producer.run(min(100, count - producer.made))
            events += reader.drain()
        assert 0 < producer.refused < count
        assert len(events) == count - producer.refused == reader.stats.records
        expected = islice(states(), count)
        written = {number: record(number, state) for number, state in enumerate(expected)}
        numbers = [int.from_bytes(event[:8], sys.byteorder) for event in events]
        assert numbers == sorted(set(numbers))
        assert events == [written[number] for number in numbers]
