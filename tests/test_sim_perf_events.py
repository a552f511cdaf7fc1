"""Simulated perf events: the memory that readers map has, byte for byte, what the running kernel writes there."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from errno import E2BIG, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest
from support.twin import RETURN_0, Side, agree, u32

from rawbpf.asm import build
from rawbpf.errors import errno_name
from rawbpf.sim import Simulator
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi import perf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_kernel = pytest.mark.needs("kernel")
PAGE = mmap.PAGESIZE
HEAD, TAIL = 1024, 1032
PERF_EVENT_OUTPUT = 25
PATTERN = 0x11223344
OUTPUT = {
    "type": perf.PERF_TYPE_SOFTWARE,
    "config": perf.PERF_COUNT_SW_BPF_OUTPUT,
    "sample_type": perf.PERF_SAMPLE_RAW,
    "sample_period": 1,
}


def _open(side: Side, *, pid: int = -1, cpu: int = 0, group: int = -1, open_flags: int = 8, **attr: int) -> int | str:
    try:
        return side.backend.perf_event_open(perf.perf_event_attr(**(OUTPUT | attr)), pid, cpu, group, open_flags)
    except OSError as error:
        return errno_name(error.errno or 0)


def _writer(side: Side, size: int) -> Callable[[], int]:
    # What writes `size` bytes to the event of CPU 0: a program, or who plays it. Returns what the helper does.
    data = struct.pack("=i", PATTERN) * (-(-size // 8) * 2)
    if isinstance(side.backend, Simulator):
        array = side.backend.perf_event_array(side.fds["m"])
        return lambda: array.output(data[:size])
    room = len(data)
    code = [
        *(build.store_imm(10, at - room, PATTERN, 4) for at in range(0, room, 4)),
        build.ld_map_fd(2, side.fds["m"]),
        build.mov32_imm(3, -1),
        build.mov_reg(4, 10),
        build.alu_imm(4, "+=", -room),
        build.mov_imm(5, size),
        build.call(PERF_EVENT_OUTPUT),
        build.exit_(),
    ]
    name = f"writer {size}"
    error, log, _ = side.load(name, c.BPF_PROG_TYPE_RAW_TRACEPOINT, code, log_level=1, log_size=1 << 16)
    assert not error, log.decode()

    def run() -> int:
        result, image = side.call(a.PROG_TEST_RUN, prog_fd=side.fds[name], flags=c.BPF_F_TEST_RUN_ON_CPU, cpu=0)
        assert result == 0
        return ctypes.c_int(a.PROG_TEST_RUN.integer(image, "retval")).value

    return run


def _records(memory: mmap.mmap, seen: int) -> tuple[int, bytes]:
    # The head, and the bytes from `seen` on, without the event's id in records of losses.
    size = len(memory) - PAGE
    head = struct.unpack_from("=Q", memory, HEAD)[0]
    data = bytes(memory[PAGE + at % size] for at in range(seen, head))
    at = 0
    while at < len(data):
        kind, _, length = struct.unpack_from("=IHH", data, at)
        if kind == perf.PERF_RECORD_LOST:
            data = data[: at + 8] + bytes(8) + data[at + 16 :]
        at += length
    return head, data


@needs_kernel
@pytest.mark.parametrize(
    "wakeup",
    [{"wakeup_events": 1}, {"wakeup_events": 3}, {}, {"wakeup_watermark": 512, "flags": perf.flag_word(watermark=1)}],
    ids=["each", "every third", "half full", "watermark"],
)
@pytest.mark.parametrize("size", [1, 4, 12, 13, 500])
def test_records_lie_in_memory_as_the_kernel_writes_them(wakeup: dict[str, int], size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("m", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY)
        opened = _open(side, **wakeup)
        yield side.keep("event", opened), side.update("m", u32(0), u32(side.fds["event"]))
        write = _writer(side, size)
        yield write()
        with side.backend.mmap(side.fds["event"], 2 * PAGE) as memory:
            yield memory[:8], memory[72:76], memory[1024:1056]
            seen = 0
            for turn in range(400):
                result = write()
                ready = side.backend.poll([side.fds["event"]], 0)
                head, data = _records(memory, seen)
                yield turn, result, bool(ready), head, data
                if result or turn % 50 == 49:
                    memory[TAIL : TAIL + 8] = struct.pack("=Q", head)
                seen = head

    answers = [each for each in agree(scenario) if isinstance(each, tuple)]
    assert any(each[1] == -ENOSPC for each in answers if len(each) == 5) == (size == 500)


@needs_kernel
def test_events_are_opened_on_the_same_terms() -> None:
    def scenario(side: Side) -> Iterator[object]:
        far = os.cpu_count() or 1
        gone = 0x3FFFFFFF
        for number, more in enumerate(
            (
                {},
                {"pid": 0},
                {"pid": 0, "cpu": -1},
                {"cpu": -1},
                {"pid": gone, "cpu": -1},
                {"cpu": far + 4000},
                {"group": 1 << 20},
                {"open_flags": 16},
                {"type": 77},
                {"config": 12},
                {"config": perf.PERF_COUNT_SW_CPU_CLOCK, "sample_type": 0, "sample_period": 0},
                {"sample_type": 1 << 25},
            )
        ):
            name = f"event {number}"
            opened = _open(side, **more)
            yield more, side.keep(name, opened)
        for length in (0, 1, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE):
            for offset in (0, PAGE):
                yield length, offset, _mapped(side, "event 0", length, offset)
        with side.backend.mmap(side.fds["event 0"], 3 * PAGE):
            yield [_mapped(side, "event 0", pages * PAGE, 0) for pages in (1, 2, 3, 5)]
        yield [_mapped(side, "event 0", pages * PAGE, 0) for pages in (1, 2, 3, 5)]

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("writable", [False, True], ids=["over the oldest", "up to the reader"])
@pytest.mark.parametrize("size", [4, 500])
def test_a_buffer_is_written_from_its_end_on_down_and_not_while_it_is_paused(size: int, writable: bool) -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("m", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY)
        opened = _open(side, wakeup_events=7, flags=perf.flag_word(write_backward=1))
        event = side.keep("event", opened), side.update("m", u32(0), u32(side.fds["event"]))
        write = _writer(side, size)
        yield event, _paused(side, True)
        with side.backend.mmap(side.fds["event"], 2 * PAGE, 0, writable) as memory:
            for turn in range(300):
                if turn % 60 in {20, 23}:
                    yield turn, _paused(side, turn % 60 == 20)
                result = write()
                ready = side.backend.poll([side.fds["event"]], 0)
                (head,) = struct.unpack_from("=Q", memory, HEAD)
                if writable and turn % 50 == 49:
                    memory[TAIL : TAIL + 8] = struct.pack("=Q", head)
                # The event's id is another, where records of losses are.
                yield turn, result, bool(ready), head, memory[PAGE:].count(struct.pack("=I", PATTERN))

    assert any(each[1] == -ENOSPC for each in agree(scenario) if isinstance(each, tuple) and len(each) == 5)


def _paused(side: Side, paused: bool) -> int | str:
    try:
        return side.backend.ioctl(side.fds["event"], perf.PERF_EVENT_IOC_PAUSE_OUTPUT, paused)
    except OSError as error:
        return errno_name(error.errno or 0)


def _mapped(side: Side, name: str, length: int, offset: int) -> str:
    try:
        with side.backend.mmap(side.fds[name], length, offset) as memory:
            return f"{len(memory)} bytes"
    except (OSError, ValueError) as error:
        return type(error).__name__


@needs_kernel
def test_ioctl_answers_alike() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.keep("event", _open(side, flags=perf.flag_word(disabled=1)))
        side.load("xdp")
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY)
        asked = [
            *((perf.PERF_EVENT_IOC_SET_BPF, side.fds[name]) for name in ("xdp", "m", "event")),
            (perf.PERF_EVENT_IOC_SET_BPF, 1 << 20),
            (perf.PERF_EVENT_IOC_ENABLE, 0),
            (perf.PERF_EVENT_IOC_DISABLE, 0),
            (0x24FF, 0),
        ]
        for request, argument in asked:
            for name in ("event", "m", "xdp"):
                try:
                    yield hex(request), name, side.backend.ioctl(side.fds[name], request, argument)
                except OSError as error:
                    yield hex(request), name, errno_name(error.errno or 0)

    agree(scenario)


def test_a_program_that_would_be_attached_is_refused() -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.keep("event", _open(side))
        side.load("p", c.BPF_PROG_TYPE_PERF_EVENT, RETURN_0)
        with pytest.raises(OSError, match="524"):
            simulator.ioctl(side.fds["event"], perf.PERF_EVENT_IOC_SET_BPF, side.fds["p"])


def test_the_helper_says_why_it_wrote_nothing() -> None:
    with Simulator(cpus=2) as simulator, Side(simulator) as side:
        side.make_map("m", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY)
        array = simulator.perf_event_array(side.fds["m"])
        assert array.output(b"x") == -ENOENT
        assert array.output(b"x", 4) == -E2BIG
        assert array.output(b"x", 1 << 32) == -EINVAL
        side.keep("event", _open(side, cpu=1))
        side.keep("clock", _open(side, cpu=0, config=perf.PERF_COUNT_SW_CPU_CLOCK))
        for index, name in enumerate(("event", "clock")):
            assert side.update("m", u32(index), u32(side.fds[name])) == ""
        assert array.output(b"x", 0, cpu=0) == -EOPNOTSUPP
        assert array.output(b"x", 1, cpu=0) == -EINVAL
        assert array.output(b"x", 0, cpu=1) == -ENOSPC
        with simulator.mmap(side.fds["event"], 2 * PAGE):
            assert array.output(b"x", 0, cpu=1) == 0
            simulator.ioctl(side.fds["event"], perf.PERF_EVENT_IOC_DISABLE)
            assert array.output(b"x", 0, cpu=1) == -EOPNOTSUPP
    with pytest.raises(ValueError, match="no perf event array"):
        Simulator().perf_event_array(0)


@pytest.mark.parametrize(
    ("sample_type", "size"),
    [
        (perf.PERF_SAMPLE_RAW | perf.PERF_SAMPLE_TID, 32),
        (perf.PERF_SAMPLE_RAW | perf.PERF_SAMPLE_TIME | perf.PERF_SAMPLE_CPU, 40),
        (perf.PERF_SAMPLE_RAW | perf.PERF_SAMPLE_ID | perf.PERF_SAMPLE_IP | perf.PERF_SAMPLE_PERIOD, 48),
        (perf.PERF_SAMPLE_CPU, 16),
    ],
)
def test_a_sample_has_the_fields_that_were_asked_for(sample_type: int, size: int) -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.make_map("m", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY)
        side.keep("event", _open(side, sample_type=sample_type, wakeup_events=1))
        side.update("m", u32(0), u32(side.fds["event"]))
        with simulator.mmap(side.fds["event"], 2 * PAGE) as memory:
            assert simulator.perf_event_array(side.fds["m"]).output(b"12345678") == 0
            assert struct.unpack_from("=IHH", memory, PAGE) == (perf.PERF_RECORD_SAMPLE, 1, size)
