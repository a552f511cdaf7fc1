"""Ring buffers of the simulator: the same records, positions and refusals as on the running kernel; and polling."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import rings

import rawbpf
from rawbpf.asm import build as b
from rawbpf.sim import Simulator
from rawbpf.syscall.current import using
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.event.ring_memory import RingMemory
    from rawbpf.sim.ring import RingBuf

RINGS = Path(__file__).parent / "objects/rings.bpf.o"
PAGE = 4096
SIZES = (0, 1, 7, 8, 9, 100, 1000, 2040, 4072, 4080, 4081, 4088, 4096)
FLAGS = (0, c.BPF_RB_NO_WAKEUP, c.BPF_RB_FORCE_WAKEUP)
needs_kernel = pytest.mark.needs("kernel", "map_type:user_ringbuf", "prog_type:syscall", "module:elftools")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(cpus=2) as simulator, rawbpf.using(simulator):
        yield simulator


def nesting(ring: rawbpf.RingBufMap) -> rawbpf.Program:
    """Load a program that reserves 2000 bytes, then as many again, and submits the second before the first."""
    return rawbpf.Program.load(
        "syscall",
        [
            *[b.ld_map_fd(b.R1, ring.fileno()), b.mov_imm(b.R2, 2000), b.mov_imm(b.R3, 0)],
            b.call(helper_number("ringbuf_reserve")),
            b.jump_imm(b.R0, "!=", 0, 2),
            b.mov_imm(b.R0, 1),
            b.exit_(),
            b.mov_reg(b.R7, b.R0),
            *[b.ld_map_fd(b.R1, ring.fileno()), b.mov_imm(b.R2, 2000), b.mov_imm(b.R3, 0)],
            b.call(helper_number("ringbuf_reserve")),
            b.jump_imm(b.R0, "!=", 0, 5),
            *[b.mov_reg(b.R1, b.R7), b.mov_imm(b.R2, 0), b.call(helper_number("ringbuf_discard"))],
            b.mov_imm(b.R0, 2),
            b.exit_(),
            *[b.mov_reg(b.R1, b.R0), b.mov_imm(b.R2, 0), b.call(helper_number("ringbuf_submit"))],
            *[b.mov_reg(b.R1, b.R7), b.mov_imm(b.R2, 0), b.call(helper_number("ringbuf_submit"))],
            b.mov_imm(b.R0, 0),
            b.exit_(),
        ],
    )


def asking(ring: rawbpf.RingBufMap) -> rawbpf.Program:
    """Load a program that replaces the question in its context by the answer of bpf_ringbuf_query."""
    return rawbpf.Program.load(
        "syscall",
        [
            b.mov_reg(b.R6, b.R1),
            b.ld_map_fd(b.R1, ring.fileno()),
            b.load_mem(b.R2, b.R6, 0),
            b.call(helper_number("ringbuf_query")),
            b.store_reg(b.R6, 0, b.R0),
            b.mov_imm(b.R0, 0),
            b.exit_(),
        ],
    )


def write(ring: RingBuf, size: int, first: int, flags: int, discard: bool) -> int:
    """Do what the program of `rings.writer` does."""
    record = ring.reserve(size)
    if record is None:
        return 1
    filled = min(size, 8)
    record.data[:filled] = struct.pack("=Q", first)[:filled]
    (record.discard if discard else record.submit)(flags)
    return 0


def write_two(ring: RingBuf) -> int:
    """Do what the program of `nesting` does."""
    first = ring.reserve(2000)
    if first is None:
        return 1
    second = ring.reserve(2000)
    if second is None:
        first.discard()
        return 2
    second.submit()
    first.submit()
    return 0


def record_ends(memory: RingMemory) -> list[int]:
    """Return the positions behind each record that was not read."""
    position, found = memory.consumer[0], []
    while position < memory.producer[0]:
        (length,) = struct.unpack_from("=I", memory.data, position % memory.size)
        position += (length & ~(c.BPF_RINGBUF_BUSY_BIT | c.BPF_RINGBUF_DISCARD_BIT)) + 15 & ~7
        found.append(position)
    return found


@needs_kernel
@pytest.mark.parametrize("seed", range(4), ids="seed {}".format)
def test_programs_and_the_simulators_ring_leave_the_same_memory(sim: Simulator, seed: int) -> None:
    chance = random.Random(seed)
    kernel = KernelBackend()
    with (
        using(kernel),
        rawbpf.RingBufMap.create(max_entries=PAGE) as real,
        rawbpf.RingBufMap.create(max_entries=PAGE, backend=sim) as simulated,
        real.memory() as here,
        simulated.memory() as there,
        asking(real) as query,
        nesting(real) as nested,
    ):
        programs = {size: rings.writer(real, size) for size in SIZES}
        ring = sim.ringbuf(simulated.fileno())
        results = set()
        try:
            for step in range(200):
                kind = chance.random()
                if kind < 0.3:
                    ends = record_ends(here)
                    if ends:
                        here.consumer[0] = there.consumer[0] = chance.choice(ends)
                elif kind < 0.4:
                    wanted = nested.run(ctx=bytes(8)).retval
                    assert write_two(ring) == wanted
                    results.add((2 * PAGE, wanted))
                else:
                    size = chance.choice(SIZES)
                    flags, discard = chance.choice(FLAGS), chance.random() < 0.3
                    wanted = rings.write(programs[size], struct.pack("=Q", step), flags, discard=discard)
                    assert write(ring, size, step, flags, discard) == wanted
                    results.add((size, wanted))
                assert (there.consumer[0], there.producer[0]) == (here.consumer[0], here.producer[0])
                assert bytes(there.data) == bytes(here.data)
                for what in range(5):
                    (answer,) = struct.unpack("=Q", query.run(ctx=struct.pack("=Q", what)).ctx)
                    assert ring.query(what) == answer
                ready = kernel.poll([real.fileno()], 0) != []
                assert (sim.poll([simulated.fileno()], 0) != []) == ready
        finally:
            for program in programs.values():
                program.close()
        assert {(8, 0), (1000, 0), (1000, 1), (4088, 1), (2 * PAGE, 0), (2 * PAGE, 1)} <= results


# The header of a record, and the position after it: as user space may leave them by mistake.
REQUESTS = [
    pytest.param([(8, 16)], id="one"),
    pytest.param([(8, 16), (8, 16), (100, 112)], id="several"),
    pytest.param([], id="none"),
    pytest.param([(8 | c.BPF_RINGBUF_DISCARD_BIT, 16), (8, 16)], id="discarded"),
    pytest.param([(8, 16), (8 | c.BPF_RINGBUF_BUSY_BIT, 16), (8, 16)], id="busy"),
    pytest.param([(8 | c.BPF_RINGBUF_BUSY_BIT | c.BPF_RINGBUF_DISCARD_BIT, 16), (8, 16)], id="busy and discarded"),
    pytest.param([(8, 12)], id="odd position"),
    pytest.param([(8, 16), (16, 16)], id="longer than the position says"),
    pytest.param([(9000, 9008)], id="longer than the ring"),
    pytest.param([(4, 16), (8, 16)], id="too short for the program, which stops"),
    pytest.param([(0, 8)], id="empty, and the program stops"),
    pytest.param([((1 << 24) + 8, (1 << 24) + 16)], id="longer than any record"),
]


@needs_kernel
@pytest.mark.parametrize("requests", REQUESTS)
def test_a_drain_takes_what_the_running_kernel_takes(sim: Simulator, requests: list[tuple[int, int]]) -> None:
    seen = []

    def answer(content: bytes) -> int:
        if len(content) < 8:
            return 1
        seen.append(2 * struct.unpack_from("=Q", content)[0])
        return 0

    with (
        using(KernelBackend()),
        rawbpf.load(RINGS) as obj,
        obj.maps["requests"].memory() as here,
        obj.maps["answers"].memory() as answers,
        rawbpf.UserRingBufMap.create(max_entries=here.size, backend=sim) as simulated,
        simulated.memory() as there,
    ):
        ring = sim.user_ringbuf(simulated.fileno())
        for _ in range(2):
            for header, room in requests:
                for memory in (here, there):
                    position = memory.producer[0]
                    struct.pack_into("=IIQ", memory.data, position % memory.size, header, 0, 21)
                    memory.producer[0] = position + room
            wanted = obj.programs["drain"].run(ctx=bytes(8)).retval
            assert ring.drain(answer) & 0xFFFFFFFF == wanted
            assert there.consumer[0] == here.consumer[0]
        assert len(seen) == len(record_ends(answers))
        assert ring.drain(answer, 4) == -22


def test_a_drain_within_a_drain_is_busy(sim: Simulator) -> None:
    with rawbpf.UserRingBufMap.create(max_entries=PAGE) as m, m.memory() as memory:
        ring = sim.user_ringbuf(m.fileno())
        struct.pack_into("=IIQ", memory.data, 0, 8, 0, 1)
        memory.producer[0] = 16
        inner = []

        def drain_again(content: bytes) -> int:
            inner.append(ring.drain(len))
            return 0

        assert ring.drain(drain_again) == 1
        assert inner == [-16]


def test_output_copies_and_says_why_not(sim: Simulator) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as m, m.memory() as memory:
        ring = sim.ringbuf(m.fileno())
        assert ring.output(b"content") == 0
        assert bytes(memory.data[8:15]) == b"content"
        assert ring.output(b"x", 4) == -22
        assert ring.output(bytes(PAGE)) == -11
        assert memory.producer[0] == 16


def test_an_open_record_holds_back_a_whole_ring(sim: Simulator) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as m, m.memory() as memory:
        ring = sim.ringbuf(m.fileno())
        record = ring.reserve(8)
        assert record is not None
        # Even where a reader went past it, which it must not.
        for _ in range(3):
            assert ring.output(bytes(1000)) == 0
            memory.consumer[0] = memory.producer[0]
        assert ring.output(bytes(1100)) == -11
        record.submit()
        assert ring.output(bytes(1100)) == 0
        with pytest.raises(ValueError, match="submitted or discarded before"):
            record.discard()


def test_a_reader_that_waits_is_woken(sim: Simulator) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as m, m.memory() as memory:
        found: list[list[int]] = []
        waiting = threading.Thread(target=lambda: found.append(sim.poll([m.fileno()], 10)))
        waiting.start()
        assert sim.ringbuf(m.fileno()).output(b"") == 0
        waiting.join(10)
        assert found == [[m.fileno()]]
        memory.consumer[0] = memory.producer[0]
        assert sim.poll([m.fileno()], 0) == []


def test_a_duplicate_is_readable_too_and_records_without_wakeup_are_found(sim: Simulator) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as m, rawbpf.Map.from_id(m.id) as other:
        assert sim.poll([m.fileno(), other.fileno()], 0) == []
        assert sim.ringbuf(m.fileno()).output(b"", c.BPF_RB_NO_WAKEUP) == 0
        assert sorted(sim.poll([m.fileno(), other.fileno()], 0)) == sorted([m.fileno(), other.fileno()])


@needs_kernel
def test_maps_that_cannot_be_polled_are_reported_at_once(sim: Simulator) -> None:
    for backend in (KernelBackend(), sim):
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=backend) as m:
            assert backend.poll([m.fileno()], None) == [m.fileno()]


def test_what_is_no_ring_has_no_programs_side(sim: Simulator) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as m:
        with pytest.raises(ValueError, match="is no ring buffer of this simulator"):
            sim.ringbuf(m.fileno())
        with pytest.raises(ValueError, match="is no user ring buffer of this simulator"):
            sim.user_ringbuf(m.fileno())


def test_a_ring_comes_back_from_a_snapshot(sim: Simulator) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as m, m.memory() as memory:
        assert sim.ringbuf(m.fileno()).output(b"before") == 0
        kept = sim.snapshot()
        assert sim.ringbuf(m.fileno()).output(b"after") == 0
        memory.consumer[0] = memory.producer[0]
        sim.restore(kept)
        assert (memory.consumer[0], memory.producer[0]) == (0, 16)
        assert sim.ringbuf(m.fileno()).output(b"again!") == 0
        assert bytes(memory.data[24:30]) == b"again!"
        assert sim.poll([m.fileno()], 0) == [m.fileno()]
