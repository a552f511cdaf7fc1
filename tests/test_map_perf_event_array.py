"""Perf event arrays: what a program writes is in the ring of its CPU's event, and programs read counters."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs

import rawbpf
from rawbpf.asm import build as b
from rawbpf.event.perf_event import PerfEvent
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.uapi import constants as c
from rawbpf.uapi import perf
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

PAGE = os.sysconf("SC_PAGESIZE")
CPU = min(os.sched_getaffinity(0))
# struct perf_event_mmap_page: data_head, data_tail, data_offset, data_size. Source: linux/perf_event.h (v6.12)
POSITIONS = struct.Struct("=4Q")
POSITIONS_AT = 1024

pytestmark = [pytest.mark.guest, pytest.mark.needs("map_type:perf_event_array", "prog_type:raw_tracepoint")]


def writer(events: rawbpf.PerfEventArrayMap, key: int = c.BPF_F_CURRENT_CPU) -> rawbpf.Program:
    """Load a program that writes its first argument, 8 bytes, to the event of its CPU and returns what came of it."""
    instructions = [
        b.load_mem(b.R2, b.R1, 0),
        b.store_reg(b.R10, -8, b.R2),
        b.ld_map_fd(b.R2, events.fileno()),
        b.ld_imm64(b.R3, key),
        b.mov_reg(b.R4, b.R10),
        b.alu_imm(b.R4, "+=", -8),
        b.mov_imm(b.R5, 8),
        b.call(helper_number("perf_event_output")),
        b.exit_(),
    ]
    return rawbpf.Program.load("raw_tracepoint", instructions)


def write(program: rawbpf.Program, number: int, cpu: int = CPU) -> int:
    """Run `program` on `cpu`; return 0, or the errno with which it failed."""
    result = program.run(ctx=struct.pack("=Q", number), flags=c.BPF_F_TEST_RUN_ON_CPU, cpu=cpu)
    return -result.retval & 0xFFFFFFFF


def samples(ring: mmap.mmap) -> list[bytes]:
    """Return the raw bytes of every sample in a ring that was not read yet, and give the room back."""
    head, tail, start, size = POSITIONS.unpack_from(ring, POSITIONS_AT)
    data = ring[start : start + size] * 2
    found = []
    while tail < head:
        at = tail % size
        kind, _, length = struct.unpack_from("=IHH", data, at)
        assert kind == perf.PERF_RECORD_SAMPLE
        (raw,) = struct.unpack_from("=I", data, at + 8)
        found.append(data[at + 12 : at + 12 + raw])
        tail += length
    struct.pack_into("=Q", ring, POSITIONS_AT + 8, tail)
    return found


@pytest.mark.real_kernel("programs run there only")
def test_bytes_that_a_program_writes_are_in_the_ring_of_its_cpus_event(backend: Backend) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with rawbpf.PerfEventArrayMap.create() as events:
        rings = {}
        for cpu in cpus:
            with PerfEvent.bpf_output(cpu) as event:
                rings[cpu] = backend.mmap(event.fileno(), 2 * PAGE)
                events[cpu] = event  # the array holds it from here on
        with writer(events) as program:
            for cpu in cpus:
                assert [write(program, 100 * cpu + i, cpu) for i in range(3)] == [0, 0, 0]
        for cpu in cpus:
            # The kernel pads a sample to 8 bytes with its own length of 4 in front.
            assert [sample[:8] for sample in samples(rings[cpu])] == [
                struct.pack("=Q", 100 * cpu + i) for i in range(3)
            ]
            assert samples(rings[cpu]) == []
            rings[cpu].close()


@pytest.mark.real_kernel("programs run there only")
def test_a_ring_that_is_read_takes_more_than_it_holds(backend: Backend) -> None:
    with (
        rawbpf.PerfEventArrayMap.create() as events,
        writer(events) as program,
        PerfEvent.bpf_output(CPU) as event,
        backend.mmap(event.fileno(), 2 * PAGE) as ring,
    ):
        events[CPU] = event
        seen = []
        for number in range(500):
            assert write(program, number) == 0
            if number % 50 == 49:
                seen += [struct.unpack_from("=Q", sample)[0] for sample in samples(ring)]
        assert seen == list(range(500))


@pytest.mark.real_kernel("programs run there only")
def test_a_program_reads_the_counter_that_user_space_put_there(backend: Backend) -> None:
    with rawbpf.PerfEventArrayMap.create() as events:
        read = [
            b.mov_reg(b.R6, b.R1),
            b.ld_map_fd(b.R1, events.fileno()),
            b.ld_imm64(b.R2, c.BPF_F_CURRENT_CPU),
            b.mov_reg(b.R3, b.R10),
            b.alu_imm(b.R3, "+=", -24),
            b.mov_imm(b.R4, 24),  # struct bpf_perf_event_value: counter, enabled, running
            b.call(helper_number("perf_event_read_value")),
            b.jump_imm(b.R0, "!=", 0, 1),
            b.load_mem(b.R0, b.R10, -24),
            b.exit_(),
        ]
        with rawbpf.Program.load("raw_tracepoint", read) as program:
            assert write(program, 0) == errno.ENOENT
            with PerfEvent.software(perf.PERF_COUNT_SW_CPU_CLOCK, cpu=CPU) as event:
                events[CPU] = event
            # Nanoseconds since the event was opened: of 32 bits of them, two readings in a row differ.
            assert len({write(program, 0) for _ in range(3)}) == 3
            del events[CPU]
            assert write(program, 0) == errno.ENOENT


# How long an event stays ---------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize(
    ("flags", "after"), [(0, errno.ENOENT), (c.BPF_F_PRESERVE_ELEMS, 0)], ids=["as usual", "BPF_F_PRESERVE_ELEMS"]
)
def test_closing_the_descriptor_by_which_an_event_was_stored_removes_it(
    backend: Backend, flags: int, after: int
) -> None:
    with (
        rawbpf.PerfEventArrayMap.create(flags=flags) as events,
        writer(events) as program,
        PerfEvent.bpf_output(CPU) as event,
        backend.mmap(event.fileno(), 2 * PAGE),
    ):
        with rawbpf.Map.from_id(events.id) as other:
            other[CPU] = event
            assert write(program, 1) == 0
        assert write(program, 2) == after


@pytest.mark.real_kernel("programs run there only")
def test_a_deleted_event_takes_no_more(backend: Backend) -> None:
    with (
        rawbpf.PerfEventArrayMap.create() as events,
        writer(events) as program,
        PerfEvent.bpf_output(CPU) as event,
        backend.mmap(event.fileno(), 2 * PAGE) as ring,
    ):
        events[CPU] = event
        assert write(program, 1) == 0
        del events[CPU]
        assert write(program, 2) == errno.ENOENT
        assert [sample[:8] for sample in samples(ring)] == [struct.pack("=Q", 1)]
        with pytest.raises(rawbpf.KeyNotFound) as caught:
            del events[CPU]
        assert caught.value.key == CPU


# Creating ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_entries": 0}, {"max_entries": None, "key": "u32", "value": "s32"}])
def test_without_a_size_there_is_a_place_for_each_possible_cpu(backend: Backend, options: dict[str, Any]) -> None:
    spec = MapSpec("events", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4)
    cpus = backend.host.possible_cpus
    with (
        rawbpf.Map.create("perf_event_array", **options) as events,
        create_from_spec(backend, spec, name="events") as from_spec,
    ):
        assert events.max_entries == events.info.max_entries == cpus
        assert from_spec.max_entries == from_spec.info.max_entries == cpus
    assert spec.max_entries == 0


def test_a_size_that_is_given_is_kept(backend: Backend) -> None:
    with rawbpf.PerfEventArrayMap.create(max_entries=7) as events:
        assert events.info.max_entries == 7


# Refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        pytest.param(lambda m, _: m.__setitem__(0, 3), TypeError, r"expected a perf event.* got 3", id="an int"),
        pytest.param(lambda m, _: m.__setitem__(0, m), rawbpf.BpfError, "EBADF: it is no perf event", id="a map"),
        pytest.param(lambda m, e: m.__setitem__(-1, e), OverflowError, "-1", id="a negative index"),
        pytest.param(
            lambda m, e: m.__setitem__(m.max_entries, e), rawbpf.IndexOutOfRange, "max_entries is", id="no such index"
        ),
        pytest.param(
            lambda m, _: m.__delitem__(m.max_entries), rawbpf.IndexOutOfRange, "max_entries is", id="delete no index"
        ),
        pytest.param(lambda m, _: m[0], TypeError, "not subscriptable", id="read"),
        pytest.param(lambda m, _: list(m), TypeError, "not iterable", id="iterate"),
        pytest.param(lambda m, _: 0 in m, TypeError, "iterable", id="in"),
    ],
)
def test_what_cannot_be_done_is_said(
    backend: Backend, use: Callable[[Any, PerfEvent], object], error: type[Exception], message: str
) -> None:
    with (
        rawbpf.PerfEventArrayMap.create(name="events") as events,
        PerfEvent.bpf_output(CPU) as event,
        pytest.raises(error, match=message),
    ):
        use(events, event)


def test_closed_events_sockets_and_closed_maps_are_refused(backend: Backend) -> None:
    with rawbpf.PerfEventArrayMap.create(name="events") as events:
        event = PerfEvent.bpf_output(CPU)
        event.close()
        with pytest.raises(rawbpf.Closed, match=f"PerfEvent bpf_output of CPU {CPU}, closed"):
            events[0] = event
        with socket.socket() as unfit, pytest.raises(rawbpf.BpfError, match="EBADF"):
            events[0] = unfit
        with pytest.raises(ValueError, match="a perf event that is open"):
            events[0] = unfit
    with PerfEvent.bpf_output(CPU) as event:
        with pytest.raises(rawbpf.Closed, match="events"):
            events[0] = event
        with pytest.raises(rawbpf.Closed, match="events"):
            del events[0]


def test_a_map_opened_for_reading_takes_no_event(backend: Backend) -> None:
    with (
        bpffs(backend) as pins,
        rawbpf.PerfEventArrayMap.create(pin=pins / "events"),
        rawbpf.Map.from_pin(pins / "events", mode="r") as events,
        PerfEvent.bpf_output(CPU) as event,
        pytest.raises(rawbpf.PermissionDenied, match="read-only"),
    ):
        events[0] = event


@pytest.mark.parametrize(
    ("open_event", "number", "message"),
    [
        pytest.param(lambda: PerfEvent.bpf_output(1 << 20), errno.EINVAL, "no CPU of this number", id="cpu"),
        pytest.param(lambda: PerfEvent.software(999, cpu=CPU), errno.ENOENT, "no such event", id="event"),
        pytest.param(lambda: PerfEvent.software(1), errno.EINVAL, "neither a thread nor a CPU", id="nothing"),
        pytest.param(lambda: PerfEvent.software(1, pid=(1 << 22) + 1), errno.ESRCH, "No such process", id="thread"),
    ],
)
def test_an_event_that_does_not_exist_is_said(
    backend: Backend, open_event: Callable[[], PerfEvent], number: int, message: str
) -> None:
    with pytest.raises(rawbpf.BpfError, match=message) as caught:
        open_event()
    assert caught.value.errno == number


def test_a_dropped_event_warns(backend: Backend) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed <PerfEvent bpf_output.*test_map_perf_event_array"):
        PerfEvent.bpf_output(CPU)
