"""Whatever bytes it is given, `parse` returns an object or raises FormatError or SpecError; it never hangs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import pytest
from support.elf_writer import LOCAL, NOBITS, OBJECT, RELA, ElfWriter

from rawbpf.asm import Instruction, build, encode
from rawbpf.btf.build import Builder
from rawbpf.elf import parse
from rawbpf.elf.container import R_BPF_64_32, R_BPF_64_64, R_BPF_64_ABS64
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.object import ObjectData

SHAPES = (Path(__file__).parent / "objects" / "shapes.bpf.o").read_bytes()
CODE = encode([build.mov_imm(0, 0), build.exit_()], "little")


def read(data: bytes) -> ObjectData | None:
    try:
        return parse(data, "x.o")
    except (FormatError, SpecError):
        return None


def small(byteorder: Literal["little", "big"] = "little") -> bytes:
    elf = ElfWriter(byteorder)
    code = [build.ld_imm64(1, 4), build.call_slot(2), build.mov_imm(0, 0), build.exit_()]
    section = elf.code("xdp", encode([*code, build.exit_()], byteorder))
    data = elf.section(".data", bytes(8))
    elf.section("license", b"GPL\0")
    elf.symbol("main", section, 0, 40)
    elf.symbol("other", section, 32 + 8, 8, bind=LOCAL)
    elf.relocate(section, 0, R_BPF_64_64, elf.symbol("counter", data, 0, 8, type=OBJECT))
    return elf.build()


def test_a_small_object_without_types_is_read() -> None:
    for byteorder in ("little", "big"):
        data = parse(small("big" if byteorder == "big" else "little"), "small.o")
        assert data.byteorder == byteorder
        assert [str(i) for i in data.programs["main"].instructions] == [
            "r1 = map[.data]+4",
            "call other",
            "r0 = 0",
            "exit",
        ]
        assert list(data.functions) == ["other"]
        assert data.btf is None


def test_a_file_cut_at_any_byte_is_refused() -> None:
    whole = small()
    for length in range(len(whole)):
        with pytest.raises((FormatError, SpecError)):
            parse(whole[:length], "cut.o")


def test_an_object_of_clang_cut_anywhere_is_refused() -> None:
    for length in range(0, len(SHAPES), 61):
        with pytest.raises((FormatError, SpecError)):
            parse(SHAPES[:length], "cut.o")


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_any_byte_of_a_small_object_may_be_wrong(byteorder: Literal["little", "big"]) -> None:
    whole = small(byteorder)
    for place in range(len(whole)):
        for value in (0, 0xFF):
            damaged = bytearray(whole)
            damaged[place] = value
            read(bytes(damaged))


@pytest.mark.parametrize("seed", range(4))
def test_an_object_of_clang_with_bytes_changed_at_random_never_surprises(seed: int) -> None:
    generator = random.Random(seed)
    survived = 0
    for _ in range(150):
        damaged = bytearray(SHAPES)
        for _ in range(generator.choice((1, 1, 2, 8, 64))):
            damaged[generator.randrange(len(damaged))] = generator.choice((0, 1, 0x80, 0xFF, generator.randrange(256)))
        data = read(bytes(damaged))
        if data is not None:
            survived += 1
            for program in data.programs.values():
                assert all(map(str, program.instructions))
    assert survived


def aliases(count: int) -> bytes:
    elf = ElfWriter()
    section = elf.code("xdp", encode([build.exit_()] * 1000, "little"))
    for number in range(count):
        elf.symbol(f"f{number}", section, 0, 8000)
    return elf.build()


def hostile_sections(kind: Literal["code", "data"]) -> bytes:
    elf = ElfWriter()
    if kind == "code":
        for count in range(200):
            elf.symbol(f"f{count}", elf.code(f"xdp{count}", CODE), 0, 16)
    else:
        elf.section(".bss", type=NOBITS, size=(1 << 31) - 1)
    return elf.build()


def test_a_function_has_a_few_names_but_not_so_many_that_a_small_file_fills_memory() -> None:
    programs = parse(aliases(16), "aliases.o").programs
    assert {len(program.instructions) for program in programs.values()} == {1000}
    assert len(programs) == 16
    with pytest.raises(SpecError, match="has more than 16 names"):
        parse(aliases(17), "aliases.o")


def test_a_large_bss_costs_nothing_until_it_is_written() -> None:
    data = parse(hostile_sections("data"), "large.o")
    assert data.maps[".bss"].contents is None
    assert data.maps[".bss"].value_size == (1 << 31) - 1


def test_sections_that_overlap_are_refused_before_each_costs_as_much_as_the_file() -> None:
    elf = ElfWriter()
    for count in range(8):
        elf.symbol(f"f{count}", elf.section(f"xdp{count}", CODE, flags=6, size=1000), 0, 16)
    with pytest.raises(FormatError, match="together exceed the file"):
        parse(elf.build(), "x.o")


def test_many_sections_of_code_are_read() -> None:
    assert len(parse(hostile_sections("code"), "many.o").programs) == 200


def elf_with(change: str) -> bytes:
    elf = ElfWriter(machine=62 if change == "machine" else 247)
    code = CODE
    if change == "half an instruction":
        code = CODE[:12]
    if change == "a call of nothing":
        code = encode([build.call_slot(5), build.exit_()], "little")
    if change in ("strings", "map"):
        code = encode([build.ld_imm64(1, 0), build.exit_()], "little")
    section = elf.code("xdp", code)
    if change == "static half":
        elf.symbol("main", section, 4, 8)
    elif change == "overlap":
        elf.symbol("main", section, 0, 16)
        elf.symbol("inside", section, 8, 8)
    elif change != "no symbol":
        elf.symbol("main", section, 0, len(code) & ~7)
    if change == "strings":
        elf.relocate(section, 0, R_BPF_64_64, elf.symbol("text", elf.section("strings", b"abc\0"), type=OBJECT))
    if change == "relocated exit":
        elf.relocate(section, 8, R_BPF_64_64, elf.symbol("text", elf.section(".data", b"abc\0"), type=OBJECT))
    if change == "relocated nothing":
        elf.relocate(section, 4, R_BPF_64_32, elf.symbol("text", elf.section(".data", b"abc\0"), type=OBJECT))
    if change == "relocated outside":
        elf.relocate(section, 400, R_BPF_64_64, elf.symbol("text", elf.section(".data", b"abc\0"), type=OBJECT))
    if change == "rela":
        elf.relocation_type = RELA
        elf.relocate(section, 0, R_BPF_64_64, elf.symbol("text", elf.section(".data", b"abc\0"), type=OBJECT))
    if change == "no BTF":
        elf.section(".maps", bytes(32))
    if change == "namesakes":
        elf.symbol("again", elf.code("xdp", CODE), 0, 16)
    if change == "two data":
        elf.section(".data", bytes(4))
        elf.section(".data", bytes(4))
    if change == "huge bss":
        elf.section(".bss", type=NOBITS, size=1 << 40)
    if change == "version":
        elf.section("version", bytes(3))
    return elf.build()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("machine", FormatError, "x.o: not a BPF object: machine is x86-64: compile with clang"),
        ("half an instruction", FormatError, "section 'xdp': 12 bytes of code"),
        ("a call of nothing", FormatError, "section 'xdp', byte 0: a call of byte 48"),
        ("strings", SpecError, "refers to 'text' in section 'strings'"),
        ("static half", FormatError, "function 'main' .*whole instructions"),
        ("overlap", FormatError, "function 'main' .*of its own"),
        ("no symbol", SpecError, "section 'xdp' holds code, but no symbol"),
        ("relocated exit", FormatError, "relocation of type 1 at 'exit'"),
        ("relocated nothing", FormatError, "byte 4: a relocation that is at no instruction"),
        ("relocated outside", FormatError, "relocates byte 400 of 16"),
        ("rela", FormatError, "RELA"),
        ("no BTF", SpecError, "no .BTF section: compile with -g"),
        ("namesakes", FormatError, "two sections of code are called 'xdp'"),
        ("two data", SpecError, "two data sections are called '.data'"),
        ("huge bss", FormatError, "too large for a map"),
        ("version", FormatError, "'version' has 3 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_a_refusal_says_what_and_where(change: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(elf_with(change), "x.o")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not an ELF file", id="empty"),
        pytest.param(b"#!/bin/sh\n", r"not an ELF file \(it begins with b'#!/b'\): compile with clang", id="script"),
        pytest.param(b"\x7fELF", "too few", id="magic only"),
        pytest.param(b"\x7fELF" + bytes(60), "damaged", id="zero header"),
    ],
)
def test_what_is_no_elf_file_is_told_so(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(data, "x.o")


# Map definitions ----------------------------------------------------------------------------------


def maps_object(**fields: int | str) -> bytes:
    """An object with one map `m`; a number is an `__uint`, "key:4" a `__type` of so many bytes, other words kinds."""
    types = Builder()
    number = types.int("int", 4, signed=True)
    members = []
    for offset, (name, value) in enumerate(fields.items()):
        if isinstance(value, int):
            type_id = types.ptr(types.array(number, value))
        elif value.startswith("type:"):
            type_id = types.ptr(types.array(types.int("char", 1), int(value[5:])))
        elif value == "type declared":
            type_id = types.ptr(types.fwd("later"))
        elif value.startswith("ulong:"):
            type_id = types.enum("", [("unique", int(value[6:]))], signed=value[6] == "-")
        elif value == "inner":
            inner = types.struct("", 8, [("type", types.ptr(types.array(number, 2)), 0)])
            type_id = types.array(types.ptr(inner), 0)
        elif value == "pinned inner":
            one = types.ptr(types.array(number, 1))
            inner = types.struct("", 16, [("type", one, 0), ("pinning", one, 64)])
            type_id = types.array(types.ptr(inner), 0)
        else:
            type_id = number
        members.append((name, type_id, offset * 64))
    size = 8 * len(members)
    variable = types.var("m", types.struct("", size, members), "global")
    types.datasec(".maps", size, [(variable, 0, size)])
    elf = ElfWriter()
    section = elf.section(".maps", bytes(size))
    elf.symbol("m", section, 0, size, type=OBJECT)
    elf.section(".BTF", types.to_bytes(), flags=0)
    if "values" in fields:
        elf.relocate(section, 8 * list(fields).index("values"), R_BPF_64_ABS64, elf.symbol("x", 0, type=OBJECT))
    return elf.build()


def test_a_map_takes_numbers_from_an_enum() -> None:
    negative = parse(maps_object(type=30, map_extra="ulong:-1"), "x.o").maps["m"]
    assert negative.map_extra == (1 << 64) - 1
    spec = parse(maps_object(type=30, map_extra="ulong:5", value="type:3", numa_node=1), "x.o").maps["m"]
    assert (spec.map_type, spec.map_extra, spec.value_size, spec.numa_node, spec.max_entries) == (30, 5, 3, 1, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"max_entries": 1}, "map 'm': no type is given", id="no type"),
        pytest.param({"type": 1, "entries": 5}, "unknown field 'entries'; known are type", id="unknown"),
        pytest.param({"type": 1, "max_entries": "int"}, r"is a int: use __uint\(max_entries", id="no uint"),
        pytest.param({"type": 1, "key": "int"}, r"is a int: use __type\(key", id="no type"),
        pytest.param({"type": 1, "key": "type declared"}, "its key is of 'struct later', which has no", id="no size"),
        pytest.param({"type": 1, "key": "type:8", "key_size": 4}, "key_size is 4, but its key type has 8", id="sizes"),
        pytest.param({"type": 1, "pinning": 3}, "pinning 3", id="pinning"),
        pytest.param({"type": 1, "values": "inner"}, "'values' is for maps of maps", id="values of a hash"),
        pytest.param({"type": 12, "value_size": 8, "values": "inner"}, "have 4 bytes, not 8", id="value size"),
        pytest.param({"type": 12, "values": "pinned inner"}, "inner map cannot be pinned", id="pinned inner"),
        pytest.param({"type": 12, "values": "inner"}, "its value 'x' is no map of this object", id="foreign value"),
    ],
)
def test_a_definition_that_contradicts_itself_is_named(fields: dict[str, int | str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(maps_object(**fields), "x.o")


def test_a_program_with_an_unknown_section_is_read_and_has_no_type() -> None:
    elf = ElfWriter()
    elf.symbol("main", elf.code("hello/world", CODE), 0, 16)
    program = parse(elf.build(), "x.o").programs["main"]
    assert (program.definition, program.prog_type, program.attach_target) == (None, 0, "")
    assert program.instructions == [Instruction(0xB7), Instruction(0x95)]


def test_a_static_function_beside_a_program_is_a_function() -> None:
    elf = ElfWriter()
    section = elf.code("xdp", encode([build.call_slot(1), build.exit_()], "little") + CODE)
    elf.symbol("main", section, 0, 16)
    elf.symbol("local", section, 16, 0, bind=LOCAL)
    data = parse(elf.build(), "x.o")
    assert (list(data.programs), list(data.functions)) == (["main"], ["local"])
    assert len(data.functions["local"]) == 2


def test_a_program_that_is_called_is_a_function_too() -> None:
    elf = ElfWriter()
    section = elf.code("xdp", encode([build.call_slot(1), build.exit_()], "little") + CODE)
    elf.symbol("main", section, 0, 16)
    elf.symbol("other", section, 16, 16)
    data = parse(elf.build(), "x.o")
    assert (list(data.programs), list(data.functions)) == (["main", "other"], ["other"])


def test_static_functions_of_one_name_are_told_apart() -> None:
    elf = ElfWriter()
    calls = encode([build.call_slot(1), build.call_slot(2), build.exit_()], "little")
    section = elf.code(".text", CODE + CODE)
    main = elf.code("xdp", calls)
    same = [elf.symbol("same", section, place, 16, bind=LOCAL) for place in (0, 16)]
    elf.symbol("main", main, 0, 24)
    elf.relocate(main, 0, R_BPF_64_32, same[0])
    elf.relocate(main, 8, R_BPF_64_32, same[1])
    source = bytearray(elf.build())
    place = bytes(source).find(calls)
    source[place + 4 : place + 8] = source[place + 12 : place + 16] = b"\xff\xff\xff\xff"
    data = parse(bytes(source), "x.o")
    assert [str(i) for i in data.programs["main"].instructions] == ["call same", "call same.2", "exit"]


@pytest.mark.parametrize("text", ["GPL", "Dual MIT/GPL\0junk", ""], ids=["bare", "junk", "empty"])
def test_the_license_ends_at_its_nul(text: str) -> None:
    elf = ElfWriter()
    elf.section("license", text.encode())
    assert parse(elf.build(), "x.o").license == text.partition("\0")[0]


def test_the_version_is_read_in_the_files_byte_order() -> None:
    for byteorder in ("little", "big"):
        order: Literal["little", "big"] = "big" if byteorder == "big" else "little"
        elf = ElfWriter(order)
        elf.section("version", (0x60C00).to_bytes(4, order))
        assert parse(elf.build(), "x.o").kernel_version == 0x60C00
