"""What clang compiled is read back by name, the same from both byte orders: maps, data, programs, references."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from support.elf_writer import ElfWriter

from rawbpf.asm import FunctionReference, Instruction, MapReference
from rawbpf.elf import parse
from rawbpf.spec.map import PIN_BY_NAME
from rawbpf.spec.object import ObjectData
from rawbpf.uapi import constants as c

pytestmark = pytest.mark.guest_byte_order

OBJECTS = Path(__file__).parent / "objects"
BPF = Path(__file__).resolve().parents[1] / "bpf"


@pytest.fixture(scope="module", params=["bpf", "bpfeb"])
def shapes(request: pytest.FixtureRequest) -> ObjectData:
    path = OBJECTS / f"shapes.{request.param}.o"
    return parse(path.read_bytes(), path.name)


def references(instructions: list[Instruction]) -> list[object]:
    return [instruction.reference for instruction in instructions if instruction.reference is not None]


def test_the_file_says_its_byte_order_and_license(shapes: ObjectData) -> None:
    assert shapes.byteorder == ("big" if "bpfeb" in shapes.name else "little")
    assert shapes.license == "Dual BSD/GPL"
    assert shapes.btf is not None
    assert shapes.btf.raw == shapes.btf_bytes


def test_a_map_has_the_sizes_and_types_of_its_definition(shapes: ObjectData) -> None:
    events = shapes.maps["events"]
    assert (events.map_type, events.key_size, events.value_size) == (c.BPF_MAP_TYPE_HASH, 4, 24)
    assert (events.max_entries, events.map_flags, events.pinning, events.section) == (1024, 0, 0, ".maps")
    assert events.key is not None
    assert events.key.name == "__u32"
    assert events.key.id == events.key_type_id
    assert events.value is not None
    assert events.value.name == "event"
    assert events.value.id == events.value_type_id


def test_a_map_may_be_defined_by_sizes_flags_and_pinning(shapes: ObjectData) -> None:
    shared = shapes.maps["shared"]
    assert (shared.key_size, shared.value_size, shared.key, shared.value) == (4, 16, None, None)
    assert (shared.map_flags, shared.pinning) == (c.BPF_F_MMAPABLE, PIN_BY_NAME)


def test_a_map_of_maps_knows_its_template_and_its_first_values(shapes: ObjectData) -> None:
    outer = shapes.maps["outer"]
    assert outer.inner is not None
    assert (outer.inner.map_type, outer.inner.value_size, outer.inner.max_entries) == (c.BPF_MAP_TYPE_ARRAY, 8, 1)
    assert outer.values == {1: "first", 3: "third"}
    assert outer.value_size == 4


def test_a_program_array_knows_its_first_programs(shapes: ObjectData) -> None:
    assert shapes.maps["jumps"].values == {2: "sum_up"}
    assert (shapes.maps["jumps"].key_size, shapes.maps["jumps"].value_size) == (4, 4)


def test_data_sections_are_maps_of_one_value(shapes: ObjectData) -> None:
    data = {name: spec for name, spec in shapes.maps.items() if spec.is_data}
    assert set(data) == {".rodata", ".data", ".data.custom", ".bss"}
    assert {(s.map_type, s.key_size, s.max_entries) for s in data.values()} == {(c.BPF_MAP_TYPE_ARRAY, 4, 1)}
    assert [name for name, spec in data.items() if spec.frozen] == [".rodata"]
    assert data[".rodata"].map_flags & c.BPF_F_RDONLY_PROG
    assert data[".bss"].contents is None
    order = shapes.byteorder
    assert bytes(data[".data"].contents or b"") == (3).to_bytes(4, order) + (0xFFFE).to_bytes(2, order)
    assert data[".rodata"].value is not None
    assert data[".rodata"].value.id == data[".rodata"].value_type_id


def test_only_a_section_that_has_variables_is_one_to_map(shapes: ObjectData) -> None:
    assert all(spec.map_flags & c.BPF_F_MMAPABLE for spec in shapes.maps.values() if spec.is_data)
    writer = ElfWriter()
    writer.section(".rodata.str1.1", b"a literal")
    assert parse(writer.build(), "it.o").maps[".rodata.str1.1"].map_flags == c.BPF_F_RDONLY_PROG


def test_variables_lie_where_the_linker_put_them(shapes: ObjectData) -> None:
    places = {name: (v.map.name, v.offset, v.size, v.constant) for name, v in shapes.variables.items()}
    assert places == {
        "min_uid": (".rodata", 0, 4, True),
        "tag": (".rodata", 4, 8, True),
        "hidden": (".rodata", 12, 4, True),
        "level": (".data", 0, 4, False),
        "local": (".data", 4, 2, False),
        "custom": (".data.custom", 0, 4, False),
        "lost": (".bss", 0, 32, False),
        "dropped": (".bss", 32, 8, False),
    }


def test_a_section_holds_several_programs(shapes: ObjectData) -> None:
    programs = {name: (p.section, p.prog_type, p.attach_target, p.autoload) for name, p in shapes.programs.items()}
    assert programs == {
        "count_execve": (
            "tp/syscalls/sys_enter_execve",
            c.BPF_PROG_TYPE_TRACEPOINT,
            "syscalls/sys_enter_execve",
            True,
        ),
        "sum_up": ("tp/syscalls/sys_enter_execve", c.BPF_PROG_TYPE_TRACEPOINT, "syscalls/sys_enter_execve", True),
        "on_request": ("?raw_tp/sys_enter", c.BPF_PROG_TYPE_RAW_TRACEPOINT, "sys_enter", False),
    }


def test_functions_of_text_are_no_programs(shapes: ObjectData) -> None:
    assert set(shapes.functions) == {"leveled", "twice", "count_up", "add_up"}


def test_references_are_by_name(shapes: ObjectData) -> None:
    assert references(shapes.programs["count_execve"].instructions) == [
        MapReference(".rodata", 0),
        MapReference("events"),
        FunctionReference("count_up"),
        MapReference(".data", 4),
        MapReference(".bss", 0),
        FunctionReference("leveled"),
        FunctionReference("twice"),
        MapReference(".rodata", 4),
    ]
    assert references(shapes.programs["sum_up"].instructions) == [
        MapReference("outer"),
        MapReference("events"),
        FunctionReference("add_up"),
        MapReference(".data.custom", 0),
        MapReference("jumps"),
        MapReference("shared"),
    ]
    # The compiler resolved the call within .text; the second half of a static variable's place is its addend.
    assert references(shapes.functions["leveled"]) == [FunctionReference("twice"), MapReference(".data", 0)]
    assert references(shapes.functions["twice"]) == [MapReference(".rodata", 12)]


def test_a_loads_source_register_says_what_it_refers_to(shapes: ObjectData) -> None:
    loads = [(i.reference, i.src, i.imm) for p in shapes.programs.values() for i in p.instructions if i.opcode == 0x18]
    for reference, src, imm in loads:
        if isinstance(reference, FunctionReference):
            assert src == c.BPF_PSEUDO_FUNC
        else:
            assert isinstance(reference, MapReference)
            assert src == (c.BPF_PSEUDO_MAP_FD if reference.offset is None else c.BPF_PSEUDO_MAP_VALUE)
        assert imm == 0


def test_instructions_know_their_function_and_line(shapes: ObjectData) -> None:
    assert shapes.btf is not None
    for name, body in {**shapes.functions, **{n: p.instructions for n, p in shapes.programs.items()}}.items():
        assert body[0].function is not None
        assert shapes.btf[body[0].function].name == name
        assert all(i.function is None for i in body[1:])
        assert body[0].line is not None
        assert body[0].line.file_name == "./shapes.bpf.c"
    line = shapes.functions["twice"][0].line
    assert line is not None
    assert (line.text, shapes.btf.string(line.text_offset)) == ("\treturn x * 2 + hidden;", line.text)
    assert line.column == 11
    assert str(line) == f"./shapes.bpf.c:{line.number}: return x * 2 + hidden;"


def test_a_hidden_function_is_static_for_the_verifier(shapes: ObjectData) -> None:
    from rawbpf.btf.types import Func

    assert shapes.btf is not None
    linkage = {name: f.linkage for name in shapes.functions if (f := shapes.btf.find(name, Func)) is not None}
    assert linkage == {"leveled": "global", "twice": "static", "count_up": "static", "add_up": "static"}


def test_both_byte_orders_say_the_same() -> None:
    little, big = (parse((OBJECTS / f"shapes.{target}.o").read_bytes(), "shapes") for target in ("bpf", "bpfeb"))
    assert list(little.maps) == list(big.maps)
    assert list(little.programs) == list(big.programs)
    for name, program in little.programs.items():
        assert program.instructions == big.programs[name].instructions
    for name, body in little.functions.items():
        assert body == big.functions[name]


def test_an_object_can_be_pickled_and_copied() -> None:
    shapes = parse((OBJECTS / "shapes.bpf.o").read_bytes(), "shapes")
    for twin in (pickle.loads(pickle.dumps(shapes)), shapes.copy()):
        assert isinstance(twin, ObjectData)
        assert {n: repr(m) for n, m in twin.maps.items()} == {n: repr(m) for n, m in shapes.maps.items()}
        assert twin.programs["sum_up"].instructions == shapes.programs["sum_up"].instructions
        assert twin.variables["level"].map is twin.maps[".data"]
        assert twin.maps[".data"] is not shapes.maps[".data"]


@pytest.mark.parametrize("path", sorted(BPF.glob("*.o")), ids=lambda path: path.name)
def test_every_object_of_the_project_is_read(path: Path) -> None:
    data = parse(path.read_bytes(), path.name)
    assert data.programs
    assert data.license
    assert all(program.definition is not None for program in data.programs.values())
    assert any(not spec.is_data for spec in data.maps.values())
