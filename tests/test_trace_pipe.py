"""trace_pipe is read line by line: what programs print comes out, and what the kernel says of it is taken apart."""

from __future__ import annotations

import asyncio
import os
import select
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support import printers

import rawbpf
from rawbpf.event.trace_pipe import TraceLine, TracePipe
from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.syscall.protocol import Backend

LONG = 30.0  # seconds, for what comes much sooner
needs_tracefs = pytest.mark.needs(
    "capability:CAP_SYS_ADMIN", "prog_type:syscall", "tracepoint:bpf_trace/bpf_trace_printk"
)

# What lines mean --------------------------------------------------------------------------

FIELDS = ("task", "pid", "tgid", "cpu", "flags", "timestamp_ns", "function", "message", "lost")
LINES = [
    pytest.param(
        b"            bash-4711    [001] d..31  1234.567890: bpf_trace_printk: hello: 1",
        ("bash", 4711, None, 1, "d..31", 1234567890000, "bpf_trace_printk", "hello: 1", 0),
        id="of a program",
    ),
    pytest.param(
        b"          <idle>-0       [000] .Ns4.     0.000001: sched_wakeup: comm=x pid=1",
        ("<idle>", 0, None, 0, ".Ns4.", 1000, "sched_wakeup", "comm=x pid=1", 0),
        id="of a tracepoint",
    ),
    pytest.param(
        b"           <...>-12345678 [127] ...1. 99999999.123456: bpf_trace_printk: ",
        ("<...>", 12345678, None, 127, "...1.", 99999999123456000, "bpf_trace_printk", "", 0),
        id="of a thread that is forgotten",
    ),
    pytest.param(
        b" a-1 [2] 3.4: b:-77      (     42) [003] .....    5.600000: f: m",
        ("a-1 [2] 3.4: b:", 77, 42, 3, ".....", 5600000000, "f", "m", 0),
        id="of a thread with a strange name, and its process",
    ),
    pytest.param(
        b"               x-77      (-------) [003]    5.600000: f: m",
        ("x", 77, None, 3, None, 5600000000, "f", "m", 0),
        id="without flags",
    ),
    pytest.param(
        b"               x-77      [003] ..... 5600000000: f: m",
        ("x", 77, None, 3, ".....", None, "f", "m", 0),
        id="by a clock that counts something else",
    ),
    pytest.param(
        b"               x-77      [003] .....     5.600000: do_exit <-do_group_exit",
        ("x", 77, None, 3, ".....", 5600000000, None, "do_exit <-do_group_exit", 0),
        id="of a tracer of functions",
    ),
    pytest.param(
        b"               \xff-77      [003] .....     5.600000: bpf_trace_printk: \xe4\xff\0",
        ("\\xff", 77, None, 3, ".....", 5600000000, "bpf_trace_printk", "\\xe4\\xff\0", 0),
        id="with bytes that are no text",
    ),
    pytest.param(
        b"CPU:3 [LOST 17 EVENTS]", (None, None, None, 3, None, None, None, "CPU:3 [LOST 17 EVENTS]", 17), id="lost"
    ),
    pytest.param(b"CPU:0 [LOST EVENTS]", (None, None, None, 0, *[None] * 3, "CPU:0 [LOST EVENTS]", 1), id="lost, some"),
    pytest.param(b"second line", (*[None] * 7, "second line", 0), id="the rest of a text"),
    pytest.param(b"", (*[None] * 7, "", 0), id="empty"),
    pytest.param(b"\xff", (*[None] * 7, "\\xff", 0), id="no text"),
]


@pytest.mark.parametrize(("raw", "fields"), LINES)
def test_a_line_is_taken_apart(raw: bytes, fields: tuple[object, ...]) -> None:
    line = TraceLine(raw)
    assert tuple(getattr(line, name) for name in FIELDS) == fields
    assert line.raw == raw
    assert str(line) == raw.decode("utf-8", "backslashreplace")


def test_lines_cut_anywhere_are_still_lines() -> None:
    whole = b" a-1 [2] 3.4: b:-77      (     42) [003] .....    5.600000: f: m"
    for end in range(len(whole)):
        for part in (whole[:end], whole[end:], whole[:end] + b"\xff" + whole[end:]):
            assert TraceLine(part).raw == part
            assert repr(TraceLine(part)).startswith("<TraceLine ")


# Reading, from a pipe that stands where the kernel's would ----------------------------------


class Piped(KernelBackend):
    """The kernel, but for a trace_pipe that tests write to."""

    def __init__(self) -> None:
        super().__init__()
        end, self.end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.host.trace_pipe = lambda: end  # type: ignore[method-assign]

    def write(self, text: bytes) -> None:
        os.write(self.end, text)


@pytest.fixture
def piped() -> Iterator[Piped]:
    backend = Piped()
    yield backend
    os.close(backend.end)


@pytest.fixture
def pipe(piped: Piped) -> Iterator[TracePipe]:
    with rawbpf.trace_pipe(backend=piped) as opened:
        yield opened


def messages(lines: list[TraceLine]) -> list[str]:
    return [line.message for line in lines]


def test_a_line_is_given_when_its_end_is_there(piped: Piped, pipe: TracePipe) -> None:
    assert pipe.drain() == []
    piped.write(b"one\ntwo\nthr")
    assert messages(pipe.drain()) == ["one", "two"]
    assert pipe.read(0) is None
    assert pipe.read(0.001) is None
    piped.write(b"ee\n\n")
    assert messages(pipe.drain(max=1)) == ["three"]
    assert messages(pipe.drain()) == [""]


def test_what_never_ends_is_given_as_well(piped: Piped, pipe: TracePipe) -> None:
    given = []
    for _ in range(10):
        piped.write(b"x" * (1 << 14))
        given += [len(line.raw) for line in pipe.drain()]
    assert given == [5 << 14, 5 << 14]


def test_a_thread_that_waits_gets_what_comes_and_ends_when_it_is_closed(piped: Piped, pipe: TracePipe) -> None:
    found: list[str] = []
    got = threading.Semaphore(0)

    def read() -> None:
        for line in pipe:
            found.append(line.message)
            got.release()

    reading = threading.Thread(target=read)
    reading.start()
    for text in ("first", "second"):
        piped.write(f"{text}\n".encode())
        assert got.acquire(timeout=LONG)
    pipe.close()
    reading.join()
    assert found == ["first", "second"]


def test_a_thread_that_reads_one_line_is_told_that_it_was_closed(pipe: TracePipe) -> None:
    caught: list[object] = []

    def read() -> None:
        try:
            pipe.read()
        except rawbpf.Closed as error:
            caught.append(type(error))

    reading = threading.Thread(target=read)
    reading.start()
    end = time.monotonic() + LONG
    while not pipe._handle._lent:
        assert time.monotonic() < end
    pipe.close()
    reading.join()
    assert caught == [rawbpf.Closed]


def test_lines_that_were_taken_are_given_after_closing(piped: Piped, pipe: TracePipe) -> None:
    piped.write(b"one\ntwo\n")
    lines = iter(pipe)
    assert next(lines).message == "one"
    pipe.close()
    assert next(lines).message == "two"
    assert next(lines, None) is None


def test_asyncio_reads_and_other_tasks_run_meanwhile(piped: Piped, pipe: TracePipe) -> None:
    async def main() -> list[str]:
        found: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            async for line in pipe:
                found.put_nowait(line.message)

        readers = [asyncio.create_task(read()) for _ in range(2)]
        cancelled = asyncio.create_task(anext(aiter(pipe)))
        await asyncio.sleep(0)
        cancelled.cancel()
        given = []
        for count in range(3):
            piped.write(b"%d\n" % count)
            given.append(await found.get())
        pipe.close()
        await asyncio.gather(*readers)
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return given

    assert asyncio.run(main()) == ["0", "1", "2"]


def test_the_descriptor_is_readable_when_there_are_lines(piped: Piped, pipe: TracePipe) -> None:
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    assert not poller.poll(0)
    piped.write(b"x\n")
    assert poller.poll(0)


def test_a_closed_pipe_raises_closed(pipe: TracePipe) -> None:
    assert repr(pipe) == f"<TracePipe, fd {pipe.fileno()}>"
    pipe.close()
    pipe.close()
    assert pipe.closed
    assert repr(pipe) == "<TracePipe, closed>"
    for use in (pipe.fileno, pipe.read, pipe.drain, lambda: iter(pipe), lambda: aiter(pipe)):
        with pytest.raises(rawbpf.Closed, match=r"trace_pipe: EBADF: it was closed; rawbpf\.trace_pipe\(\)"):
            use()


def test_a_pipe_that_is_dropped_open_is_warned_about(piped: Piped) -> None:
    opened = rawbpf.trace_pipe(backend=piped)
    with pytest.warns(ResourceWarning, match=r"unclosed <TracePipe, fd \d+>, opened at .*test_trace_pipe\.py"):
        del opened


# The kernel's own ---------------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@needs_tracefs
def test_what_a_program_prints_comes_out(backend: Backend) -> None:
    token = os.getpid() << 8
    with printers.the_trace_pipe() as pipe, printers.trace_printer("number %d") as program:
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        found: list[TraceLine] = []
        reading = threading.Thread(
            target=lambda: found.extend(line for _, line in zip(range(3), _with(pipe, token), strict=False))
        )
        reading.start()
        for number in range(3):
            program.run(ctx=struct.pack("=Q", token + number))
        reading.join()
    assert messages(found) == [f"number {token + number}" for number in range(3)]
    for line in found:
        assert (line.function, line.pid, line.lost) == ("bpf_trace_printk", threading.get_native_id(), 0)
        assert line.cpu in os.sched_getaffinity(0)
        assert line.timestamp_ns is not None
        assert abs(line.timestamp_ns - before) < LONG * 10**9
    assert pipe.closed


def _with(pipe: TracePipe, token: int) -> Iterator[TraceLine]:
    # The trace is the whole machine's.
    for line in pipe:
        if line.message.startswith("number ") and int(line.message.split()[1]) >> 8 == token >> 8:
            yield line


@pytest.mark.real_kernel("programs run there only")
@needs_tracefs
def test_a_text_with_newlines_is_several_lines(backend: Backend) -> None:
    token = os.getpid() % 100000
    with printers.the_trace_pipe() as pipe, printers.trace_printer(f"{token}\nx%d") as program:
        program.run(ctx=struct.pack("=Q", 5))
        for line in pipe:
            if line.message == str(token):
                break
        following = pipe.read(LONG)
    assert line.function == "bpf_trace_printk"
    assert following is not None
    assert (following.message, following.pid) == ("x5", None)


@pytest.mark.real_kernel("it asks about the running kernel")
@needs_tracefs
@pytest.mark.needs("btf_name:pipe_cpumask")
def test_a_second_reader_is_told_that_there_is_one(backend: Backend) -> None:
    mounts = _mounts()
    with (
        printers.the_trace_pipe(),
        pytest.raises(rawbpf.BpfError, match=r"open trace_pipe: EBUSY: something else reads it"),
    ):
        rawbpf.trace_pipe()
    assert _mounts() == mounts


def _mounts() -> bytes:
    with open("/proc/self/mountinfo", "rb") as file:
        return file.read()


def test_a_simulated_kernel_has_no_trace() -> None:
    with (
        Simulator() as simulator,
        pytest.raises(rawbpf.NotSupported, match=r"open trace_pipe \[sim\]: ENOENT: .*traces"),
    ):
        rawbpf.trace_pipe(backend=simulator)
