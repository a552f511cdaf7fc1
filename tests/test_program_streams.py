"""What a program prints, and what the kernel writes about it, is read as text: all at once, or line by line."""

from __future__ import annotations

import errno
import functools
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import printers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.sim import Simulator
from rawbpf.syscall.prog import prog_stream_read
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

RETURN = "r0 = 2\nexit"
ENDLESS = "again:\nmay_goto out\ngoto again\nout:\nr0 = 0\nexit"
STREAMS = "btf_name:bpf_prog_stream_read"
needs_streams = pytest.mark.needs(STREAMS)
needs_text = pytest.mark.needs(STREAMS, "streams:memory")

# In the kernel's buffer is room for 1024 bytes with the NUL, which takes the place of the last of a text that fills it.
LONG = [(1023, 0, "0"), (1024, 0, "\0"), (1025, -errno.ENOMEM, "")]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator, rawbpf.using(simulator):
        yield simulator


@pytest.fixture
def program(sim: Simulator) -> Iterator[rawbpf.Program]:
    with rawbpf.Program.load("xdp", RETURN, name="quiet") as loaded:
        yield loaded


@needs_streams
def test_what_nobody_wrote_to_is_empty(backend: Backend) -> None:
    with rawbpf.Program.load("xdp", RETURN) as loaded:
        for stream in (loaded.stdout, loaded.stderr):
            assert stream.read() == ""
            assert stream.read_bytes() == b""
            assert list(stream) == []


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@needs_streams
@pytest.mark.parametrize("stream", [c.BPF_STDOUT, c.BPF_STDERR], ids=["stdout", "stderr"])
def test_what_a_program_prints_is_in_its_stream_unless_the_kernel_told_it_otherwise(
    backend: Backend, stream: int
) -> None:
    with printers.stream_printer("%d and more\n", stream) as printer:
        told = [printers.signed(printer.run(ctx=struct.pack("=Q", number)).retval) for number in (7, 8)]
        found = list(printer.stdout), list(printer.stderr)
    # Some kernels hand out no memory where locks may not be taken, and programs are told so.
    printed = [f"{number} and more" for number, answer in zip((7, 8), told, strict=True) if not answer]
    assert found == ((printed, []) if stream == c.BPF_STDOUT else ([], printed))
    assert set(told) <= {0, -errno.ENOMEM}


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs(STREAMS, "streams:memory", "btf_name:bpf_prog_report_may_goto_violation")
def test_why_the_kernel_stopped_a_program_is_in_its_stderr(backend: Backend) -> None:
    with rawbpf.Program.load("syscall", ENDLESS) as endless:
        endless.run(ctx=bytes(8))
        lines = list(endless.stderr)
        assert "may_goto" in lines[0]
        # Where it was, function by function.
        assert any(f"bpf_prog_{endless.info.tag}" in line for line in lines[1:])
        assert endless.stdout.read() == ""


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs(STREAMS, "streams:memory", "map_type:arena", "btf_name:bpf_prog_report_arena_violation")
def test_the_address_that_an_arena_does_not_have_is_in_stderr(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=1) as arena:
        arena.memory()  # which gives it an address
        code = [
            b.ld_map_fd(b.R2, arena.fileno()),
            b.load_mem(b.R1, b.R1, 0),
            b.addr_space_cast(b.R1, b.R1, 0, 1),
            b.load_mem(b.R0, b.R1, 40),
            b.exit_(),
        ]
        with rawbpf.Program.load("syscall", code) as reading:
            assert reading.run(ctx=struct.pack("=Q", arena.address)).retval == 0
            assert f"{arena.address + 40:x}" in next(iter(reading.stderr))


@pytest.mark.guest
@needs_text
def test_text_is_taken_once_from_the_stream_that_it_was_written_to(backend: Backend) -> None:
    with printers.stream_writer(backend) as (program, write):
        assert write(b"one\ntw") == 0
        assert write(b"o\n") == 0
        assert write(b"trouble", c.BPF_STDERR) == 0
        assert program.stdout.read() == "one\ntwo\n"
        assert program.stdout.read() == ""
        assert program.stderr.read_bytes() == b"trouble"
        assert write(b"", c.BPF_STDERR) == 0
        assert program.stderr.read_bytes() == b""


@pytest.mark.guest
@needs_text
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"\n", [""], id="an empty one"),
        pytest.param(b"a\nb\n", ["a", "b"], id="two"),
        pytest.param(b"a\n\nb", ["a", "", "b"], id="no newline at the end"),
        pytest.param("ä\x85\x0cb\r\n".encode(), ["ä\x85\x0cb\r"], id="what else could end a line"),
        pytest.param(b"a\xffb\n", ["a\\xffb"], id="no UTF-8"),
    ],
)
def test_lines_end_at_newlines_alone(backend: Backend, text: bytes, lines: list[str]) -> None:
    with printers.stream_writer(backend) as (program, write):
        assert write(text) == 0
        assert list(program.stdout) == lines


@pytest.mark.guest
@needs_text
@pytest.mark.parametrize("size", [1, 2, 1 << 17], ids=["one byte", "two bytes", "all"])
def test_a_character_written_in_two_pieces_is_one(backend: Backend, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("rawbpf.program.stream._SIZE", size)
    with printers.stream_writer(backend) as (program, write):
        for piece in (b"a\xc3", b"\xa4"):
            assert write(piece) == 0
        assert program.stdout.read() == "aä"


@pytest.mark.guest
@needs_text
def test_a_full_stream_takes_more_when_it_was_read(backend: Backend) -> None:
    line = b"x" * 499 + b"\n"
    with printers.stream_writer(backend) as (program, write):
        written = 0
        while (answer := write(line)) == 0:
            written += 1
        assert (written, answer) == (199, -errno.ENOSPC)
        assert write(line[1:]) == 0
        assert write(b"x") == -errno.ENOSPC
        assert write(b"x", c.BPF_STDERR) == 0
        assert program.stdout.read_bytes() == written * line + line[1:]
        assert write(line) == 0
        assert program.stdout.read_bytes() == line


@pytest.mark.guest
@needs_text
def test_what_was_read_of_a_text_gives_no_room_before_all_of_it_was(backend: Backend) -> None:
    line = b"x" * 500
    with printers.stream_writer(backend) as (program, write):
        while write(line) == 0:
            pass
        take = functools.partial(prog_stream_read, backend, program.fileno(), c.BPF_STDOUT)
        assert take(0) == b""
        assert take(499) == line[:499]
        assert write(line) == -errno.ENOSPC
        assert take(1) == b"x"
        assert write(line) == 0


@pytest.mark.guest
@needs_text
def test_there_is_no_third_stream(backend: Backend) -> None:
    with printers.stream_writer(backend) as (program, write):
        for number in (0, 3):
            assert write(b"text", number) == -errno.ENOENT
            with pytest.raises(rawbpf.BpfError) as refused:
                prog_stream_read(backend, program.fileno(), number, 10)
            assert refused.value.errno == errno.ENOENT


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@needs_text
@pytest.mark.parametrize(("width", "answer", "end"), LONG)
def test_a_text_longer_than_the_kernel_formats_is_not_printed(
    backend: Backend, width: int, answer: int, end: str
) -> None:
    with printers.stream_printer(f"%{width}d", c.BPF_STDOUT) as printer:
        assert printers.signed(printer.run(ctx=bytes(8)).retval) == answer
        assert printer.stdout.read() == (end.rjust(width) if end else "")


@pytest.mark.parametrize(("width", "answer", "end"), LONG)
def test_a_text_longer_than_a_kernel_formats_is_not_printed_by_a_simulated_one(
    sim: Simulator, program: rawbpf.Program, width: int, answer: int, end: str
) -> None:
    assert sim.print(program.fileno(), b"0".rjust(width)) == answer
    assert program.stdout.read() == (end.rjust(width) if end else "")


@pytest.mark.guest
@needs_text
def test_more_than_one_call_gives_is_read_by_several(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawbpf.program.stream._SIZE", 4)
    with printers.stream_writer(backend) as (program, write):
        for text in (b"12345678", b"123", b""):
            assert write(text) == 0
            assert program.stdout.read_bytes() == text


def test_streams_come_back_from_a_snapshot(sim: Simulator, program: rawbpf.Program) -> None:
    sim.print(program.fileno(), b"kept")
    kept = sim.snapshot()
    assert program.stdout.read() == "kept"
    sim.restore(kept)
    assert program.stdout.read() == "kept"


def test_what_is_no_program_prints_nothing(sim: Simulator) -> None:
    with (
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as m,
        pytest.raises(ValueError, match="is no program of this simulator"),
    ):
        sim.print(m.fileno(), b"text")


def test_an_older_kernel_says_that_it_has_no_streams() -> None:
    with (
        Simulator(release="6.12") as old,
        rawbpf.using(old),
        rawbpf.Program.load("xdp", RETURN, name="old") as loaded,
        pytest.raises(rawbpf.NotSupported, match=r"stdout of program 'old' \[sim\]: EINVAL: .*since Linux 6\.17"),
    ):
        loaded.stdout.read()


@pytest.mark.guest
def test_the_streams_of_a_closed_program_are_closed(backend: Backend) -> None:
    loaded = rawbpf.Program.load("xdp", RETURN, name="gone")
    stream = loaded.stderr
    assert repr(stream) == "<Stream stderr of program 'gone'>"
    loaded.close()
    with pytest.raises(rawbpf.Closed, match="gone"):
        list(stream)
