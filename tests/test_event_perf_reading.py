"""Records of a perf event array are read as events: of every CPU in order, with losses counted, or the newest alone."""

from __future__ import annotations

import errno
import os
import struct
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from support.map_shapes import PAGE
from support.perf_buffers import MOST, Flood, Producer
from support.rings import Producer as RingProducer

import rawbpf
from rawbpf.sim.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.event.perf_reader import PerfReader
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:perf_event_array", "prog_type:raw_tracepoint")

CPUS = sorted(os.sched_getaffinity(0))
CPU = CPUS[0]
# Bytes that a record of 8 takes in a buffer, and how many such fit one of a page, of which a byte stays free.
STEP = 24
FITTING = (PAGE - 1) // STEP


@pytest.fixture
def events(backend: Backend) -> Iterator[rawbpf.PerfEventArrayMap]:
    with rawbpf.PerfEventArrayMap.create(name="events") as made:
        yield made


@pytest.fixture
def producer(events: rawbpf.PerfEventArrayMap) -> Iterator[Producer]:
    with Producer(events) as made:
        yield made


@pytest.fixture
def ring_pair(backend: Backend) -> Iterator[tuple[rawbpf.RingBufMap, rawbpf.RingBufMap]]:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as one, rawbpf.RingBufMap.create(max_entries=PAGE) as another:
        yield one, another


def number(n: int) -> bytes:
    return struct.pack("=Q", n)


def numbers(records: list[bytes]) -> list[int]:
    return [struct.unpack_from("=Q", record)[0] for record in records]


def is_padded(record: bytes, written: bytes) -> bool:
    """Tell whether `record` is what was written, and what is there up to 4 bytes before a multiple of 8."""
    return record.startswith(written) and len(record) - len(written) == (4 - len(written)) % 8


def are_padded(records: list[bytes], written: list[bytes]) -> bool:
    """Tell whether the records are those that were written, in order, each padded."""
    return all(is_padded(*both) for both in zip(records, written, strict=True))


# All of them ------------------------------------------------------------------------


@pytest.mark.guest
def test_records_of_each_cpu_come_in_their_order_and_padded(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with events.reader() as reader:
        assert set(CPUS) <= set(reader.cpus)
        written = {cpu: [bytes([cpu, n]) * (n + 1) for n in range(40)] for cpu in CPUS}
        for n in range(40):
            for cpu in CPUS:
                assert producer.output(written[cpu][n], cpu) == 0
        found = reader.drain()
        assert len(found) == 40 * len(CPUS)
        for cpu in CPUS:
            mine = [record for record in found if record[0] == cpu]
            assert are_padded(mine, written[cpu])
        assert reader.drain() == []
        assert reader.read(0) is None


@pytest.mark.parametrize("way", ["read", "loop", "drain", "some", "batches", "lease", "poll"])
def test_whatever_way_they_are_read_records_are_whole_through_many_laps(
    events: rawbpf.PerfEventArrayMap, producer: Producer, way: str
) -> None:
    taken: list[bytes] = []
    with events.reader(size_per_cpu=PAGE, cpus=[CPU], callback=taken.append) as reader:

        def take(count: int) -> None:
            match way:
                case "read":
                    taken.extend(record for _ in range(count) if (record := reader.read(0)) is not None)
                case "loop":
                    for taken_here, record in enumerate(reader, 1):
                        taken.append(record)
                        if taken_here == count:
                            break
                case "drain":
                    taken.extend(reader.drain())
                case "some":
                    while found := reader.drain(3):
                        taken.extend(found)
                case "batches":
                    for batch in reader.batches(0):
                        taken.extend(batch.bytes())
                case "lease":
                    for _ in range(count):
                        with reader.lease(0) as view:
                            assert view is not None
                            taken.append(bytes(view))
                case "poll":
                    while reader.poll(0):
                        pass

        written: list[bytes] = []
        for turn in range(60):
            part = [number(100 * turn + n) * (1 + (turn + 3 * n) % 9) for n in range(20)]
            for record in part:
                assert producer.output(record[: len(record) - turn % 8], CPU) == 0
            take(len(part))
            written += [record[: len(record) - turn % 8] for record in part]
        assert are_padded(taken, written)
        assert reader.stats.records == len(written)
        assert reader.stats.available == reader.stats.lost == 0


@pytest.mark.parametrize("before", [0, 3000])
def test_the_longest_record_is_read_wherever_it_lies(
    events: rawbpf.PerfEventArrayMap, producer: Producer, before: int
) -> None:
    longest = os.urandom(MOST)
    with events.reader(size_per_cpu=MOST + 20, cpus=[CPU]) as reader:
        for _ in range(before):
            assert producer.output(b"x", CPU) == 0
            assert len(reader.drain()) == 1
        assert producer.output(longest, CPU) == 0
        assert reader.read(0) == longest


@pytest.mark.real_kernel("programs run there only")
def test_a_longer_record_makes_the_buffer_corrupt(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with events.reader(cpus=[CPU]) as reader:
        assert producer.output(bytes(MOST + 12), CPU) == 0
        producer.output(b"x", CPU)
        with pytest.raises(rawbpf.FormatError, match=f"events of CPU {CPU} in 'events'.*corrupt at position 0"):
            reader.read(0)
        assert reader.closed


@pytest.mark.guest
def test_values_of_a_type_are_cut_to_its_size(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with events.reader({"pid": "u32", "comm": "char[5]"}, cpus=[CPU]) as reader:
        for n in range(50):
            producer.output(struct.pack("=I5s3x", n, b"init"), CPU)
        assert [(e.pid, e.comm) for e in reader.drain()] == [(n, "init") for n in range(50)]
        producer.output(bytes(4), CPU)
        producer.output(struct.pack("=I5s3x", 7, b"sh"), CPU)
        with pytest.raises(rawbpf.FormatError, match="a record of 4 bytes is too short"):
            reader.read(0)
        assert reader.drain()[0].pid == 7


@pytest.mark.guest
def test_columns_are_of_all_records_of_a_cpu(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with events.reader({"pid": "u32", "ns": "u64"}, cpus=[CPU]) as reader:
        for n in range(100):
            producer.output(struct.pack("=IxxxxQ", n, n * n), CPU)
        for batch in reader.batches(0):
            columns = {name: list(column) for name, column in batch.columns().items()}
            assert columns == {"pid": list(range(100)), "ns": [n * n for n in range(100)]}
        assert reader.stats.records == 100


def test_two_arrays_are_read_by_one_reader(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with rawbpf.PerfEventArrayMap.create() as others, Producer(others) as elsewhere, events.reader() as reader:
        reader.add(others, "u64")
        producer.output(b"four", CPU)
        elsewhere.output(number(8), CPU)
        assert sorted(reader.drain(), key=str) == [8, b"four"]
        assert reader.cpus == list(reader.lost)


@pytest.mark.needs("map_type:ringbuf", "prog_type:syscall")
def test_the_losses_of_an_array_that_was_added_to_a_ring_are_told(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    told: list[tuple[int, int]] = []
    with (
        rawbpf.RingBufMap.create(max_entries=PAGE) as ring,
        RingProducer(ring) as elsewhere,
        ring.reader(on_lost=lambda cpu, count: told.append((cpu, count))) as reader,
    ):
        reader.add(events, "u64")
        elsewhere.output(b"of a ring")
        while producer.output(number(1), CPU) == 0:
            pass
        found = reader.drain()
        assert found[0] == b"of a ring"
        producer.output(number(2), CPU)
        later: list[Any] = reader.drain()
        assert later == [2]
        assert told == [(CPU, 1)]
        assert reader.stats.lost == 1
        assert reader.stats.records == len(found) + 1


@pytest.mark.parametrize("way", ["read", "loop", "poll", "lease", "batches", "drain one by one"])
def test_the_reader_tells_the_cpu_of_the_event_that_was_delivered_last(
    events: rawbpf.PerfEventArrayMap, producer: Producer, way: str
) -> None:
    found: list[tuple[Any, int | None]] = []

    def called(event: int) -> None:
        found.append((event, reader.cpu))

    reader: PerfReader[Any]
    with events.reader("u64", callback=called) as reader:
        assert reader.cpu is None
        for _ in range(3):
            for cpu in CPUS:
                producer.output(number(cpu), cpu)
        for _ in range(3 * len(CPUS)):
            match way:
                case "read":
                    found.append((reader.read(0), reader.cpu))
                case "loop":
                    for event in reader:
                        found.append((event, reader.cpu))
                        break
                case "poll":
                    reader.poll(0)
                case "lease":
                    with reader.lease(0) as view:
                        assert view is not None
                        found.append((struct.unpack_from("=Q", view)[0], reader.cpu))
                case "batches":
                    for batch in reader.batches(0):
                        assert batch.cpu == reader.cpu
                        found += [(event, batch.cpu) for event in batch.records()]
                case _:
                    found.append((*reader.drain(1), reader.cpu))
        assert sorted(found) == sorted([(cpu, cpu) for cpu in CPUS] * 3)
        last = reader.cpu
        assert reader.read(0) is None
        assert reader.drain() == []
        assert reader.cpu == last


def test_events_of_a_ring_are_of_no_cpu(events: rawbpf.PerfEventArrayMap, producer: Producer) -> None:
    with (
        rawbpf.RingBufMap.create(max_entries=PAGE) as ring,
        RingProducer(ring) as ring_producer,
        ring.reader("u64") as reader,
    ):
        reader.add(events, "u64")
        producer.output(number(1), CPU)
        assert (reader.read(0), reader.cpu) == (1, CPU)
        ring_producer.output(number(2))
        assert (reader.read(0), reader.cpu) == (2, None)
        ring_producer.output(number(3))
        assert [(batch.records(), batch.cpu) for batch in reader.batches(0)] == [([3], None)]


def test_an_array_that_is_added_has_the_buffers_that_were_asked_for(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, ring.reader("u64") as reader:
        with pytest.raises(ValueError, match="never has more"):
            reader.add(events, "u64", size_per_cpu=PAGE, wakeup_watermark=PAGE)
        assert producer.output(number(0), CPU) == -errno.ENOENT
        reader.add(events, "u64", size_per_cpu=PAGE, overwrite=True, cpus=[CPU])
        for n in range(1000):
            assert producer.output(number(n), CPU) == 0
        for cpu in set(CPUS) - {CPU}:
            assert producer.output(number(0), cpu) == -errno.ENOENT
        assert reader.drain() == list(range(1000 - PAGE // STEP, 1000))


def test_a_ring_that_is_added_has_no_buffers_to_ask_for(ring_pair: tuple[Any, Any]) -> None:
    ring, other = ring_pair
    with ring.reader() as reader:
        with pytest.raises(TypeError, match=r"cpus, overwrite: of perf event arrays alone, which .* is not"):
            reader.add(other, cpus=[0], overwrite=True)
        assert reader.add(other) is reader


# Losses -----------------------------------------------------------------------------


@pytest.mark.guest
def test_losses_are_counted_by_cpu_and_told_behind_what_came_before_them(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    told: list[Any] = []
    with events.reader(
        "u64", size_per_cpu=PAGE, callback=told.append, on_lost=lambda cpu, count: told.append((cpu, count))
    ) as reader:
        for cpu in CPUS:
            for n in range(FITTING):
                assert producer.output(number(n), cpu) == 0
            for _ in range(5 + cpu):
                assert producer.output(number(0), cpu) == -errno.ENOSPC
        while reader.poll(0):
            pass
        assert sorted(told, key=str) == sorted([*range(FITTING)] * len(CPUS), key=str)
        assert reader.lost == dict.fromkeys(reader.cpus, 0)
        told.clear()
        for cpu in CPUS:
            assert producer.output(number(99), cpu) == 0
        while reader.poll(0):
            pass
        assert [each for each in told if each == 99] == [99] * len(CPUS)
        assert sorted(each for each in told if each != 99) == [(cpu, 5 + cpu) for cpu in CPUS]
        assert reader.lost == dict.fromkeys(reader.cpus, 0) | {cpu: 5 + cpu for cpu in CPUS}
        assert reader.stats.lost == sum(5 + cpu for cpu in CPUS)
        assert reader.stats.records == (FITTING + 1) * len(CPUS)


@pytest.mark.parametrize("before", range(0, PAGE, 304))
def test_a_loss_counts_once_wherever_its_record_lies(
    events: rawbpf.PerfEventArrayMap, producer: Producer, before: int
) -> None:
    # The record of a loss and the sample behind it lie across the end of the buffer, for some distances from it.
    with events.reader(size_per_cpu=PAGE, cpus=[CPU]) as reader:
        for _ in range(before // STEP):
            producer.output(number(0), CPU)
        reader.drain()
        lost, seen = 0, []
        for turn in range(5):
            while producer.output(number(turn), CPU) == 0:
                pass
            lost += 1 + (producer.output(number(turn), CPU) != 0)
            seen += reader.drain(5) + [each for batch in reader.batches(0) for each in batch.bytes()]
            assert producer.output(number(turn), CPU) == 0
            assert len(reader.drain()) == 1
            assert reader.lost == {CPU: lost}
        assert len(seen) == 5 * FITTING


def test_a_loss_that_was_seen_counts_once_and_not_before_what_is_ahead_of_it_was_delivered(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    told: list[tuple[int, int]] = []
    with events.reader(
        "u64", size_per_cpu=PAGE, cpus=[CPU], on_lost=lambda cpu, count: told.append((cpu, count))
    ) as reader:
        # So that the record of the loss lies behind others, and not at the end of the buffer.
        for n in range(50):
            producer.output(number(n), CPU)
        reader.drain()
        for n in range(FITTING + 3):
            producer.output(number(n), CPU)
        assert reader.drain(150) == list(range(150))
        for n in range(5):
            assert producer.output(number(n), CPU) == 0
        assert [reader.read(0) for _ in range(10)] == list(range(150, 160))
        assert (told, reader.lost) == ([], {CPU: 0})
        assert reader.drain() == [*range(160, FITTING), *range(5)]
        assert (told, reader.lost) == ([(CPU, 3)], {CPU: 3})


def test_what_on_lost_raises_comes_out_and_no_event_is_lost_by_it(
    events: rawbpf.PerfEventArrayMap, producer: Producer
) -> None:
    def fail(cpu: int, count: int) -> None:
        raise RuntimeError(f"{count} lost on {cpu}")

    with events.reader("u64", size_per_cpu=PAGE, cpus=[CPU], on_lost=fail) as reader:
        for n in range(FITTING + 3):
            producer.output(number(n), CPU)
        assert reader.drain() == list(range(FITTING))
        for n in range(3):
            producer.output(number(n), CPU)
        seen: list[object] = []
        for _ in range(5):
            try:
                seen.append(reader.read(0))
            except RuntimeError as error:
                seen.append(str(error))
        assert [each for each in seen if not isinstance(each, str)] == [0, 1, 2, None]
        assert f"3 lost on {CPU}" in seen[1:]
        assert reader.stats.records == FITTING + 3


@pytest.mark.parametrize("size", [PAGE, 64 * PAGE], ids=["too small", "wide"])
def test_on_all_cpus_at_once_each_record_arrives_unchanged_or_is_counted(
    events: rawbpf.PerfEventArrayMap, backend: Backend, size: int
) -> None:
    count, part = (3_000 if isinstance(backend, Simulator) else 60_000), 500
    floods = {cpu: Flood(events) for cpu in CPUS}
    found: dict[int, list[int]] = {cpu: [] for cpu in CPUS}

    def flood(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        for _ in range(count // part):
            floods[cpu].write(part)

    def read(reader: PerfReader[bytes]) -> None:
        for batch in reader.batches(0):
            cpu = batch.cpu
            assert cpu is not None
            for record in batch.bytes():
                (n,) = struct.unpack_from("=Q", record)
                assert is_padded(record, (number(n) * 33)[: Flood.size_of(n)])
                found[cpu].append(n)

    def flood_last() -> None:
        for cpu in CPUS:
            os.sched_setaffinity(0, {cpu})
            floods[cpu].write(1)

    threads = [threading.Thread(target=flood, args=(cpu,)) for cpu in CPUS]
    try:
        with events.reader(size_per_cpu=size) as reader:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                read(reader)
            for thread in threads:
                thread.join()
            read(reader)
            # The last losses are told with a record that finds room.
            last = threading.Thread(target=flood_last)
            last.start()
            last.join()
            read(reader)
            for cpu in CPUS:
                mine = found[cpu]
                assert all(before < after for before, after in pairwise(mine))
                assert mine[-1] == count
                assert reader.lost[cpu] == floods[cpu].refused == count + 1 - len(mine)
            assert size > PAGE or reader.stats.lost > 0
    finally:
        for thread in threads:
            thread.join()
        for each in floods.values():
            with each:
                pass
