"""A specification as text: what it has, a line each; its code below the C lines; whatever the object says."""

from __future__ import annotations

import re

import pytest
from support.elf_writer import ElfWriter
from support.objects import OBJECTS

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import encode
from rawbpf.asm.assembler import assemble
from rawbpf.asm.label import resolve

pytestmark = [pytest.mark.needs("module:elftools"), pytest.mark.guest_byte_order]


@pytest.fixture(params=["bpf", "bpfeb"])
def shapes(request: pytest.FixtureRequest) -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(OBJECTS / f"shapes.{request.param}.o")


def line(text: str, word: str) -> str:
    """Return the line of `text` that has `word`, its columns apart by one space."""
    return next(" ".join(each.split()) for each in text.splitlines() if re.search(rf"(?<!\S){re.escape(word)}", each))


def test_the_head_has_name_license_and_byte_order(shapes: rawbpf.ObjectSpec) -> None:
    assert str(shapes).splitlines()[0] == f"{shapes.name}: Dual BSD/GPL, {shapes.byteorder}-endian"
    assert repr(shapes) == f"<ObjectSpec {shapes.name!r}: 3 programs, 10 maps, 8 variables>"


@pytest.mark.parametrize(
    "shown",
    [
        "sum_up tracepoint tp/syscalls/sys_enter_execve 41 instructions, 1 subprogram",
        "on_request raw_tracepoint ?raw_tp/sys_enter 3 instructions, 2 subprograms, not loaded unless asked",
        "outer array_of_maps int (4 bytes) -> 4 bytes 4 entries, of array maps, 2 slots filled",
        "shared array 4 bytes -> 16 bytes 2 entries, flags 0x400, pinned by name",
        ".rodata array 16 bytes constant",
        "const volatile char tag[8] .rodata = 'abc'",
        "volatile short local .data = -2",
        "__u64 lost[4] .bss = (0, 0, 0, 0)",
    ],
)
def test_there_is_a_line_for_each(shapes: rawbpf.ObjectSpec, shown: str) -> None:
    assert shown in [" ".join(each.split()) for each in str(shapes).splitlines()]


def test_edits_are_shown(shapes: rawbpf.ObjectSpec) -> None:
    shapes.maps["events"].max_entries = 77
    shapes.variables["min_uid"].value = 4321
    shapes.programs["on_request"].autoload = True
    del shapes.programs["sum_up"]
    text = str(shapes)
    assert line(text, "events").endswith("77 entries")
    assert line(text, "const volatile __u32 min_uid").endswith("= 4321")
    assert line(text, "on_request").endswith("2 subprograms")
    assert "sum_up" not in text


def test_what_has_no_type_or_is_long_is_cut() -> None:
    writer = ElfWriter()
    body = encode([b.mov_imm(b.R0, 0), b.exit_()], "little")
    writer.symbol("main_prog", writer.code("nobody/knows/this", body), size=len(body))
    text = str(rawbpf.ObjectSpec.from_bytes(writer.build(), name="bare.o"))
    assert text == (
        "bare.o: no license, little-endian\nprograms\n  main_prog  unspec  nobody/knows/this  2 instructions"
    )


def test_no_name_moves_the_cursor(shapes: rawbpf.ObjectSpec) -> None:
    shapes._content.name = "\x1b[2J\n.o"
    shapes._content.programs = {"a\tb\udcff": shapes.programs["sum_up"]}
    head, _, program, *_ = str(shapes).splitlines()
    assert head.startswith("\\x1b[2J\\n.o: Dual BSD/GPL")
    assert program.split()[0] == "a\\tb\\udcff"
    assert str(shapes).isascii()


def test_a_program_is_listed_below_its_c_lines(shapes: rawbpf.ObjectSpec) -> None:
    lines = shapes.programs["on_request"].disassemble().splitlines()
    assert [re.sub(r"\S*/shapes", "shapes", each) for each in lines] == [
        "on_request():",
        "      ; shapes.bpf.c:129: return leveled(1);",
        "   0: r1 = 1",
        "   1: call leveled",
        "      ; shapes.bpf.c:129: return leveled(1);",
        "   2: exit",
    ]
    assert ";" not in shapes.programs["on_request"].disassemble(source=False)


def test_subprograms_follow_in_full_when_they_are_given(shapes: rawbpf.ObjectSpec) -> None:
    listing = shapes.programs["count_execve"].disassemble(shapes.functions)
    assert re.findall(r"^(\w+)\(\):$", listing, re.MULTILINE) == ["count_execve", "count_up", "leveled", "twice"]
    assert "r1 = map[events]" in listing
    assert "r2 = map[.rodata]+0" in listing


def test_a_listing_assembles_to_the_instructions_that_it_shows(shapes: rawbpf.ObjectSpec) -> None:
    program = shapes.programs["sum_up"]
    read = resolve(assemble(program.disassemble(shapes.functions))).instructions
    count = len(program.instructions)
    bare = [i.replace(line=False, function=False) for i in program.instructions]
    callbacks = [i for i in bare if i.reference is not None and i.src == 4]
    assert len(callbacks) == 1
    assert [i for i in read[:count] if i.src != 4] == [i for i in bare if i not in callbacks]
