"""Variables are typed windows on their section's contents; edits change what is loaded and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawbpf.elf import parse
from rawbpf.errors import SpecError
from rawbpf.spec.map import MapSpec
from rawbpf.spec.object import ObjectData
from rawbpf.spec.variable import VariableSpec
from rawbpf.uapi import constants as c

pytestmark = pytest.mark.guest_byte_order

OBJECTS = Path(__file__).parent / "objects"


@pytest.fixture(params=["bpf", "bpfeb"])
def shapes(request: pytest.FixtureRequest) -> ObjectData:
    path = OBJECTS / f"shapes.{request.param}.o"
    return parse(path.read_bytes(), path.name)


def test_variables_start_with_what_the_source_says(shapes: ObjectData) -> None:
    assert {name: variable.value for name, variable in shapes.variables.items()} == {
        "min_uid": 1000,
        "tag": "abc",
        "hidden": 7,
        "level": 3,
        "local": -2,
        "custom": 9,
        "lost": (0, 0, 0, 0),
        "dropped": 0,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_uid", 4242), ("tag", "wxyz"), ("local", -32768), ("lost", (1, 2, 3, 4)), ("dropped", (1 << 64) - 1)],
)
def test_a_value_that_is_set_is_read_back_and_lies_in_the_sections_contents(
    shapes: ObjectData, name: str, value: object
) -> None:
    variable = shapes.variables[name]
    before = {other: v.value for other, v in shapes.variables.items() if other != name}
    variable.value = value
    assert variable.value == value
    assert {other: v.value for other, v in shapes.variables.items() if other != name} == before
    if isinstance(value, int):
        content = variable.map.read(variable.offset, variable.size)
        assert int.from_bytes(content, shapes.byteorder, signed=value < 0) == value


def test_a_bss_gets_its_bytes_on_the_first_write(shapes: ObjectData) -> None:
    before = shapes.maps[".bss"].contents
    shapes.variables["dropped"].value = 1
    after = shapes.maps[".bss"].contents
    assert before is None
    assert after is not None
    assert len(after) == 40


def test_an_edit_of_a_copy_leaves_the_original(shapes: ObjectData) -> None:
    twin = shapes.copy()
    twin.variables["level"].value = 8
    twin.maps["events"].max_entries = 1
    twin.maps["outer"].values.clear()
    assert twin.maps["outer"].inner is not None
    twin.maps["outer"].inner.max_entries = 9
    assert shapes.variables["level"].value == 3
    assert shapes.maps["events"].max_entries == 1024
    assert shapes.maps["outer"].values
    assert shapes.maps["outer"].inner is not None
    assert shapes.maps["outer"].inner.max_entries == 1


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("min_uid", -1, OverflowError),
        ("min_uid", 1 << 32, OverflowError),
        ("min_uid", "x", TypeError),
        ("lost", (1, 2), ValueError),
        ("tag", "more than eight", ValueError),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_and_changes_nothing(
    shapes: ObjectData, name: str, value: object, error: type[Exception]
) -> None:
    before = shapes.variables[name].value
    with pytest.raises(error, match=f"variable '{name}': "):
        shapes.variables[name].value = value
    assert shapes.variables[name].value == before


def data_map(size: int) -> MapSpec:
    return MapSpec(".data", c.BPF_MAP_TYPE_ARRAY, 4, size, 1, section=".data")


def test_a_variable_without_a_type_is_bytes() -> None:
    variable = VariableSpec("v", data_map(8), 4, 4)
    variable.value = bytearray(b"abcd")
    assert variable.value == b"abcd"
    assert variable.map.contents == bytearray(b"\0\0\0\0abcd")
    with pytest.raises(ValueError, match="takes 4 bytes, not 3"):
        variable.value = b"abc"
    with pytest.raises(TypeError, match="has no type in BTF"):
        variable.value = 5


@pytest.mark.parametrize(("offset", "size"), [(6, 4), (-1, 4), (9, 0)], ids=["end", "start", "behind"])
def test_a_variable_outside_its_section_is_a_contradiction(offset: int, size: int) -> None:
    variable = VariableSpec("v", data_map(8), offset, size)
    with pytest.raises(SpecError, match="outside its 8 bytes"):
        _ = variable.value
    with pytest.raises(SpecError, match="outside its 8 bytes"):
        variable.value = bytes(size)


def test_a_size_that_is_not_the_types_is_a_contradiction(shapes: ObjectData) -> None:
    level = shapes.variables["level"]
    wrong = VariableSpec("level", level.map, 0, 2, level.type, byteorder=shapes.byteorder)
    with pytest.raises(SpecError, match=r"takes 2 bytes, but its type .* 4"):
        _ = wrong.value


def test_specs_read_well(shapes: ObjectData) -> None:
    assert repr(shapes.variables["min_uid"]) == "VariableSpec(constant 'min_uid': 4 bytes at .rodata+0)"
    assert repr(shapes.maps["shared"]) == (
        "MapSpec('shared': array, key 4 bytes, value 16 bytes, max_entries 2, flags 0x400, pinned by name)"
    )
    assert repr(shapes.maps["outer"]) == (
        "MapSpec('outer': array_of_maps, key int (4 bytes), value 4 bytes, max_entries 4, "
        "of MapSpec('outer.inner': array, key int (4 bytes), value __u64 (8 bytes), max_entries 1))"
    )
    assert repr(shapes).endswith("-endian, 3 programs, 10 maps, 8 variables)")
