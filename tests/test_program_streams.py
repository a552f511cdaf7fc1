"""What a program prints, and what the kernel writes about it, is read as text: all at once, or line by line."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import printers

import rawbpf
from rawbpf.sim import Simulator
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

RETURN = "r0 = 2\nexit"
ENDLESS = "again:\nmay_goto out\ngoto again\nout:\nr0 = 0\nexit"
NO_MEMORY = -errno.ENOMEM & 0xFFFFFFFF
needs_streams = pytest.mark.needs("btf_name:bpf_prog_stream_read")


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


@pytest.mark.real_kernel("programs run there only")
@needs_streams
@pytest.mark.parametrize("stream", [c.BPF_STDOUT, c.BPF_STDERR], ids=["stdout", "stderr"])
def test_what_a_program_prints_is_in_its_stream_unless_the_kernel_told_it_otherwise(
    backend: Backend, stream: int
) -> None:
    with printers.stream_printer("%d and more\n", stream) as printer:
        told = [printer.run(ctx=struct.pack("=Q", number)).retval for number in (7, 8)]
        found = list(printer.stdout), list(printer.stderr)
    # A kernel that initialises its memory late hands none out where locks may not be taken, and programs are told so.
    printed = [f"{number} and more" for number, answer in zip((7, 8), told, strict=True) if not answer]
    assert found == ((printed, []) if stream == c.BPF_STDOUT else ([], printed))
    assert set(told) <= {0, NO_MEMORY}


@pytest.mark.real_kernel("programs run there only")
@needs_streams
@pytest.mark.needs("btf_name:bpf_prog_report_may_goto_violation")
def test_why_the_kernel_stopped_a_program_is_in_its_stderr(backend: Backend) -> None:
    with printers.stream_printer("%d", c.BPF_STDERR) as printer:
        has_memory = printer.run(ctx=bytes(8)).retval != NO_MEMORY
    with rawbpf.Program.load("syscall", ENDLESS) as endless:
        endless.run(ctx=bytes(8))
        assert ("may_goto" in endless.stderr.read()) == has_memory
        assert endless.stdout.read() == ""


def test_text_is_taken_once_from_the_stream_that_it_was_written_to(sim: Simulator, program: rawbpf.Program) -> None:
    assert sim.print(program.fileno(), b"one\ntw") == 0
    assert sim.print(program.fileno(), b"o\n") == 0
    assert sim.print(program.fileno(), b"trouble", c.BPF_STDERR) == 0
    assert program.stdout.read() == "one\ntwo\n"
    assert program.stdout.read() == ""
    assert program.stderr.read_bytes() == b"trouble"


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
def test_lines_end_at_newlines_alone(sim: Simulator, program: rawbpf.Program, text: bytes, lines: list[str]) -> None:
    sim.print(program.fileno(), text)
    assert list(program.stdout) == lines


def test_a_character_written_in_two_pieces_is_one(sim: Simulator, program: rawbpf.Program) -> None:
    for piece in (b"\xc3", b"\xa4"):
        sim.print(program.fileno(), piece)
    assert program.stdout.read() == "ä"


def test_a_full_stream_takes_more_when_it_was_read(sim: Simulator, program: rawbpf.Program) -> None:
    line = b"x" * 999 + b"\n"
    written = 0
    while (answer := sim.print(program.fileno(), line)) == 0:
        written += 1
    assert (written, answer) == (99, -errno.ENOSPC)
    assert program.stdout.read_bytes() == written * line
    assert sim.print(program.fileno(), line) == 0
    assert sim.print(program.fileno(), bytes(1025)) == -errno.ENOMEM
    assert sim.print(program.fileno(), b"", 3) == -errno.ENOENT


def test_more_than_one_call_gives_is_read_by_several(
    sim: Simulator, program: rawbpf.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawbpf.program.stream._SIZE", 4)
    for text in (b"12345678", b"123", b""):
        sim.print(program.fileno(), text)
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
