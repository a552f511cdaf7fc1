"""`rawbpf object show`: what `print(spec)` and `disassemble()` say, on a terminal that nothing in a file can move."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import run
from support.elf_writer import ElfWriter
from support.objects import native

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import encode

pytestmark = pytest.mark.needs("module:elftools")


def test_the_command_shows_the_same() -> None:
    shapes = rawbpf.ObjectSpec.from_file(native("shapes"))
    status, out, err = run("show", native("shapes"), command="object")
    assert (status, out, err) == (0, f"{shapes}\n", "")
    status, out, err = run("show", native("shapes"), "--program", "on_request", command="object")
    listing = shapes.programs["on_request"].disassemble(shapes.functions)
    assert (status, out, err) == (0, f"{shapes}\n\n{listing}", "")
    status, out, err = run("show", native("shapes"), "--disassemble", command="object")
    assert out.count("sum_up():") == out.count("count_execve():") == 1
    status, out, err = run("show", native("shapes"), "--program", "nope", command="object")
    assert (status, out) == (1, "")
    assert err == (
        "rawbpf: --program nope: the object has no such program; its programs are sum_up, count_execve, on_request\n"
    )


def test_no_name_in_an_object_moves_the_cursor(tmp_path: Path) -> None:
    writer = ElfWriter()
    body = encode([b.mov_imm(b.R0, 0), b.exit_()], "little")
    writer.symbol("a\x1b[2J", writer.code("xdp", body), size=len(body))
    path = tmp_path / "hostile.o"
    path.write_bytes(writer.build())
    status, out, err = run("show", path, "--disassemble", command="object")
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert "a\\x1b[2J" in out
