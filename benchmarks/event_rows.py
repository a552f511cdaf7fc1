"""What is measured of events: rows of contenders over one ring buffer, and the time from a program to its reader.

Each contender finds the ring filled by a program, which is not measured, and empties it. All read the first field of
every record, or have each record's bytes, as the row says.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import rawbpf
from benchmarks.harness import Contender, timed
from benchmarks.map_rows import Row, Target
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_c import PeerC

RING = 16 << 20
_NO_WAKEUP = 1
_COUNTING = """
  r1 = map[ring]
  r2 = {size}
  r3 = 0
  call bpf_ringbuf_reserve
  if r0 == 0 goto full
  r1 = map[count]+0
  r2 = *(u64 *)(r1 +0)
  *(u64 *)(r0 +0) = r2
  r2 += 1
  *(u64 *)(r1 +0) = r2
  r1 = r0
  r2 = {flags}
  call bpf_ringbuf_submit
full:
  r0 = 0
  exit
"""
_STAMPING = """
  call bpf_ktime_get_ns
  r2 = r10
  r2 += -8
  *(u64 *)(r10 -8) = r0
  r1 = map[ring]
  r3 = 8
  r4 = 0
  call bpf_ringbuf_output
  r0 = 0
  exit
"""


class Ring:
    """A ring buffer, and a program that fills it with `count` records of `size` bytes, each of which has its number.

    `kept`: what was read of them since.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.kept: list[bytes] = []
        self.map = rawbpf.RingBufMap.create(max_entries=RING)
        self._numbers = rawbpf.ArrayMap.create(value="u64", max_entries=1)
        code = _COUNTING.format(size=size, flags=_NO_WAKEUP)
        # An XDP program would change a dispatcher at each run, and wait for it.
        self._program = rawbpf.Program.load("sched_cls", code, maps={"ring": self.map, "count": self._numbers})

    def fill(self) -> None:
        self.kept.clear()
        self._program.run(bytes(64), repeat=self.count)

    def fields(self) -> dict[str, Any]:
        rest = {"rest": f"u8[{self.size - 16}]"} if self.size > 16 else {}
        return {"number": "u64", "other": "u64"} | rest

    def close(self) -> None:
        self._program.close()
        self._numbers.close()
        self.map.close()


def throughput(ring: Ring, c: PeerC | None, bcc: PeerBcc | None) -> Iterator[Row]:
    """Yield a row for each way to read all records that are there."""
    numbers = [(f"field_{at}", ctypes.c_uint64) for at in range(ring.size // 8)]
    event = type("Event", (ctypes.Structure,), {"_fields_": numbers})
    kind: Any = ctypes.POINTER(event)

    def contenders(
        type: Any,  # noqa: A002, ANN401  (what reader() takes)
        read: Callable[[rawbpf.Reader[Any]], object],
        each: Callable[[int, int], object],
    ) -> dict[str, Contender | None]:
        def ours() -> float:
            with ring.map.reader(type, callback=_ignore) as reader:
                return timed(lambda: read(reader), ring.count, ring.fill)()

        def by_c() -> float:
            assert c is not None
            c.open_ring(ring.map.fileno())
            try:
                return timed(c.consume_ring, ring.count, ring.fill)()
            finally:
                c.close_ring()

        def by_bcc() -> float:
            assert bcc is not None
            owner = bcc.ring(ring.map.fileno(), lambda _context, data, size: each(data, size))
            try:
                return timed(owner.ring_buffer_consume, ring.count, ring.fill)()
            finally:
                bcc.close_ring(owner)

        return {"rawbpf": ours, "C": by_c if c is not None else None, "BCC": by_bcc if bcc is not None else None}

    def row(what: str, peers: dict[str, Contender | None], *targets: Target) -> Row:
        # The targets are set for the smallest records, of which a reader has most to do.
        return Row(what, f"{ring.size} bytes", ring.count, peers, *(targets if ring.size == 16 else ()))

    def field(data: int, _size: int) -> None:
        _ = ctypes.cast(data, kind).contents.field_0

    kept: list[bytes] = []
    copied = contenders(
        None, lambda reader: reader.drain(), lambda data, size: kept.append(ctypes.string_at(data, size))
    )
    yield row("list of bytes", copied, Target(1 / 12, "BCC"))
    kept.clear()
    summed = contenders(ring.fields(), lambda reader: [sum(b.column("number")) for b in reader.batches(0)], field)
    yield row("one column, summed", summed, Target(1 / 60, "BCC"))
    arrays = contenders(ring.fields(), lambda reader: [b.to_numpy()["number"].sum() for b in reader.batches(0)], field)
    yield row("numpy column, summed", arrays, Target(1.6, "C"))
    yield row(
        "per record, bytes", contenders(None, lambda reader: _loop(reader, ring.count), field), Target(1 / 4, "BCC")
    )
    yield row("per record, struct", contenders(ring.fields(), lambda reader: _loop(reader, ring.count), field))
    yield row("callback, bytes", contenders(None, _called, field), Target(1 / 4, "BCC"))


def _ignore(event: object) -> None:
    pass


def _loop(reader: rawbpf.Reader[Any], count: int) -> None:
    for _ in islice(reader, count):
        pass


def _called(reader: rawbpf.Reader[Any]) -> None:
    while reader.poll(0):
        pass


def latency(count: int, c: PeerC | None, rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds from a program, at its clock, to whoever waits for its record: median and 99th percentile."""
    ways: dict[str, Callable[[rawbpf.RingBufMap], list[int]]] = {
        "rawbpf, blocking": lambda ring: _blocking(ring, count),
        "rawbpf, asyncio": lambda ring: asyncio.run(_asynchronous(ring, count)),
    }
    if c is not None:
        ways["C, epoll"] = lambda ring: _by_c(c, ring, count)
    delays: dict[str, list[int]] = {name: [] for name in ways}
    for nth in range(rounds):
        for name in reversed(ways) if nth % 2 else ways:
            with (
                rawbpf.RingBufMap.create(max_entries=1 << 16) as ring,
                rawbpf.Program.load("syscall", _STAMPING, maps={"ring": ring}) as program,
            ):
                child = _submitting(program, count)
                delays[name] += ways[name](ring)
                os.waitpid(child, 0)
    return {
        name: {"median_us": sorted(some)[len(some) // 2] / 1e3, "p99_us": sorted(some)[len(some) * 99 // 100] / 1e3}
        for name, some in delays.items()
    }


def _submitting(program: rawbpf.Program, count: int) -> int:
    # A process, as a thread would want the interpreter at the same time.
    child = os.fork()
    if not child:
        try:
            for _ in range(count):
                time.sleep(0.0005)  # by then the reader waits
                program.run()
        finally:
            os._exit(0)
    return child


def _blocking(ring: rawbpf.RingBufMap, count: int) -> list[int]:
    clock = time.monotonic_ns
    with ring.reader("u64") as reader:
        return [clock() - stamp for stamp in islice(reader, count)]


async def _asynchronous(ring: rawbpf.RingBufMap, count: int) -> list[int]:
    delays: list[int] = []
    clock = time.monotonic_ns
    with ring.reader("u64") as reader:
        async for stamp in reader:
            delays.append(clock() - stamp)
            if len(delays) == count:
                break
    return delays


def _by_c(c: PeerC, ring: rawbpf.RingBufMap, count: int) -> list[int]:
    c.open_ring(ring.fileno(), delays=True)
    try:
        return c.ring_delays(count)
    finally:
        c.close_ring()
