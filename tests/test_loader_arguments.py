"""Wrong values in a specification and wrong arguments are refused by name, before any system call with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.loader.relocate import targets
from rawbpf.map.module import Modules
from rawbpf.spec import register_section
from rawbpf.spec.section import sections

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

EXECCOUNT = Path(__file__).resolve().parents[1] / "bpf" / "execcount.bpf.o"
SHAPES = Path(__file__).parent / "objects" / "shapes.bpf.o"

pytestmark = pytest.mark.needs("module:elftools")


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(EXECCOUNT)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_entries", "x", TypeError),
        ("max_entries", None, TypeError),
        ("max_entries", 2.5, TypeError),
        ("max_entries", -1, OverflowError),
        ("key_size", 1 << 40, OverflowError),
        ("map_type", "hash", TypeError),
        ("map_flags", "x", TypeError),
        ("map_extra", 1 << 64, OverflowError),
        ("numa_node", "x", TypeError),
        ("pinning", "by name", TypeError),
        ("pinning", 2, rawbpf.SpecError),
    ],
)
def test_a_number_of_a_map_is_named_with_its_map(
    backend: Backend, spec: rawbpf.ObjectSpec, field: str, value: object, error: type[Exception]
) -> None:
    setattr(spec.maps["exec_count"], field, value)
    with pytest.raises(error, match=f"map 'exec_count': {field}"):
        spec.load()


def test_a_number_of_an_inner_map_is_named_as_well(backend: Backend) -> None:
    shapes = rawbpf.ObjectSpec.from_file(SHAPES)
    inner: Any = shapes.maps["outer"].inner
    inner.max_entries = "x"
    with pytest.raises(TypeError, match="map 'outer': inner: max_entries: expected an int, got 'x'"):
        shapes.load()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("prog_type", "xdp", TypeError),
        ("prog_flags", None, TypeError),
        ("expected_attach_type", "x", TypeError),
        ("expected_attach_type", -1, OverflowError),
    ],
)
def test_a_number_of_a_program_is_named_with_its_program(
    backend: Backend, spec: rawbpf.ObjectSpec, field: str, value: object, error: type[Exception]
) -> None:
    setattr(spec.programs["count_execve"], field, value)
    with pytest.raises(error, match=f"program 'count_execve': {field}"):
        spec.load()


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        pytest.param({"exec_count": 3}, r"maps\['exec_count'\]: expected an open map.*got 3 \(int\)", id="a number"),
        pytest.param({"exec_count": None}, r"maps\['exec_count'\]: expected an open map", id="nothing"),
        pytest.param(3, "maps=: expected a dict of open maps", id="no dict"),
        pytest.param([], "maps=: expected a dict of open maps", id="an empty list"),
    ],
)
def test_what_is_no_map_replaces_none(backend: Backend, spec: rawbpf.ObjectSpec, maps: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        spec.load(maps=maps)


def test_a_path_may_be_bytes(backend: Backend) -> None:
    with rawbpf.load(os.fsencode(EXECCOUNT)) as obj:
        assert obj.name == "execcount.bpf.o"


def test_a_path_is_no_descriptor() -> None:
    number: Any = 0
    with pytest.raises(TypeError, match="not int"):
        rawbpf.load(number)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("only", 5),
        ("log_size", "big"),
        ("log_size", 1.5),
        ("backend", "sim"),
        ("backend", rawbpf.sim.Simulator),
    ],
)
def test_an_argument_of_another_type_is_named(
    backend: Backend, spec: rawbpf.ObjectSpec, argument: str, value: Any
) -> None:
    with pytest.raises(TypeError, match=f"{argument}=: expected "):
        spec.load(**{argument: value})


@pytest.mark.parametrize("value", ["vmlinux", b"\x9f\xeb", 5, [None]])
def test_types_to_relocate_against_are_no_path(backend: Backend, value: Any) -> None:
    with pytest.raises(TypeError, match="target_btf=: expected a Btf"):
        list(targets(backend, Modules(backend), value))


@pytest.mark.parametrize("objects", ["a.o", b"a.o", EXECCOUNT, rawbpf.ObjectSpec.from_file(EXECCOUNT)])
def test_one_object_is_not_taken_for_several(objects: Any) -> None:
    with pytest.raises(TypeError, match="expected a list of objects to link"):
        rawbpf.ObjectSpec.link(objects)


def test_a_name_is_not_registered_for_a_section() -> None:
    wrong: Any = "mine"
    with pytest.raises(TypeError, match="expected a Section"):
        register_section(wrong)
    assert wrong not in sections()
