"""What is measured of perf buffers: rows of contenders that read what a program wrote, all of it in one buffer.

Reading alone counts. What writes is a program on the CPU of this thread, before the clock starts; every contender has
a buffer of its own, since an array holds one event for each CPU.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import rawbpf
from benchmarks.harness import Contender
from benchmarks.map_rows import Row, Target
from benchmarks.peer_bcc import PeerBcc
from rawbpf.asm import build as b
from rawbpf.event.perf_reader import PerfReader
from rawbpf.uapi.constants import BPF_F_CURRENT_CPU

SIZE = 24
# With the header, the number of bytes, and what pads them.
_STRIDE = 40
_EVENT = {"at": "u64", "pid": "u32", "cpu": "u32", "value": "u64"}
_ROOM = 16 << 20


def perf_rows(count: int, bcc: PeerBcc | None) -> Iterator[Row]:
    """Yield a row for each way to read `count` records of 24 bytes, at most 400 thousand."""
    cpu = min(os.sched_getaffinity(0))
    with rawbpf.PerfEventArrayMap.create(name="speed") as m, _writer(m) as program:

        def written(read: Callable[[], int]) -> float:
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {cpu})
            try:
                program.run(data=bytes(64), repeat=count)
            finally:
                os.sched_setaffinity(0, before)
            start = time.thread_time_ns()
            found = read()
            spent = time.thread_time_ns() - start
            assert found == count
            return spent / count

        def rawbpf_reads(read: Callable[[PerfReader[Any]], int], type: Any = None) -> Contender:  # noqa: ANN401
            def contender() -> float:
                with m.reader(type, size_per_cpu=_ROOM, cpus=[cpu], callback=_nothing) as reader:
                    return written(lambda: read(reader))

            return contender

        def bcc_reads(call: Callable[[list[Any]], Callable[[int, Any, int], object]]) -> Contender | None:
            if bcc is None:
                return None

            def contender() -> float:
                found: list[Any] = []
                table, poll = _bcc_buffer(bcc, m, cpu, call(found))
                try:
                    return written(lambda: poll(found))
                finally:
                    del table[table.Key(cpu).value]

            return contender

        def row(what: str, contenders: dict[str, Contender | None], *targets: Target) -> Row:
            return Row(f"perf, {what}", f"{SIZE} bytes", count, contenders, *targets)

        copied = bytes(_STRIDE * count)
        cut = struct.Struct(f"=12x{SIZE}s{_STRIDE - 12 - SIZE}x")

        def floor() -> float:
            start = time.thread_time_ns()
            kept = [record for (record,) in cut.iter_unpack(copied)]
            spent = time.thread_time_ns() - start
            return spent / len(kept)

        to_bytes = bcc_reads(lambda found: lambda _, data, size: found.append(ctypes.string_at(data, size)))
        to_number = bcc_reads(
            lambda found: lambda _, data, __: found.append(ctypes.cast(data, ctypes.POINTER(ctypes.c_uint64))[0])
        )
        yield row(
            "list of bytes",
            {"rawbpf": rawbpf_reads(lambda reader: len(reader.drain())), "floor": floor, "BCC": to_bytes},
            Target(1.3, "floor"),
            Target(1 / 6, "BCC"),
        )
        yield row(
            "one column",
            {
                "rawbpf": rawbpf_reads(
                    lambda reader: sum(len(batch.column("at").tolist()) for batch in reader.batches(0)), _EVENT
                ),
                "BCC": to_number,
            },
            Target(1 / 60, "BCC"),
        )
        yield row(
            "per record, bytes",
            {"rawbpf": rawbpf_reads(lambda reader: _looped(reader, count)), "BCC": to_bytes},
            Target(1 / 4, "BCC"),
        )
        yield row(
            "callback, bytes",
            {"rawbpf": rawbpf_reads(_called), "BCC": to_bytes},
            Target(1 / 4, "BCC"),
        )
        yield row(
            "per record, struct",
            {"rawbpf": rawbpf_reads(lambda reader: _looped(reader, count), _EVENT)},
        )


def _looped(reader: PerfReader[Any], count: int) -> int:
    for seen, _ in enumerate(reader, 1):
        if seen == count:
            return seen
    return 0


def _called(reader: PerfReader[Any]) -> int:
    seen = 0
    while called := reader.poll(0):
        seen += called
    return seen


def _nothing(_: object) -> None:
    pass


def _writer(m: rawbpf.PerfEventArrayMap) -> rawbpf.Program:
    return rawbpf.Program.load(
        "xdp",
        [
            *(b.store_imm(b.R10, at, 7) for at in range(-SIZE, 0, 8)),
            b.ld_map_fd(b.R2, "events"),
            b.ld_imm64(b.R3, BPF_F_CURRENT_CPU),
            b.mov_reg(b.R4, b.R10),
            b.alu_imm(b.R4, "+=", -SIZE),
            b.mov_imm(b.R5, SIZE),
            b.call("bpf_perf_event_output"),
            b.mov_imm(b.R0, 2),
            b.exit_(),
        ],
        maps={"events": m},
    )


def _bcc_buffer(
    bcc: PeerBcc, m: rawbpf.PerfEventArrayMap, cpu: int, callback: Callable[[int, Any, int], object]
) -> tuple[Any, Callable[[list[Any]], int]]:
    """Return BCC's table over the map with a buffer for `cpu`, and what reads that buffer and counts it."""
    library = bcc._table.lib
    table: Any = bcc._made(bcc._table.PerfEventArray, m.fileno(), ctypes.c_int, ctypes.c_int, m.max_entries)
    table.bpf, table._open_key_fds = SimpleNamespace(perf_buffers={}), {}
    table._open_perf_buffer(cpu, callback, _ROOM // os.sysconf("SC_PAGESIZE"), None, 1)
    readers = (ctypes.c_void_p * 1)(*table.bpf.perf_buffers.values())

    def poll(found: list[Any]) -> int:
        library.perf_reader_poll(1, readers, 0)
        return len(found)

    return table, poll
