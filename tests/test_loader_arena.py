"""Global variables in an object's arena: programs and user space see the same, at the end of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.bpffs import bpffs
from support.clang import LIBBPF, compiled
from support.map_shapes import PAGE
from support.objects import OBJECTS, native

import rawbpf
from rawbpf.asm import MapReference
from rawbpf.elf import parse
from rawbpf.errors import SpecError
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

needs_arenas = pytest.mark.needs("map_type:arena", "prog_type:syscall", "file:/proc/sys/net/core/bpf_jit_enable")
pytestmark = pytest.mark.needs("module:elftools")

ADDRESS = 0x5EED_2000_0000
MAP = 'struct { int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[4]; } %s SEC(".maps");\n'


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(native("arena"))


@pytest.fixture
def obj(spec: rawbpf.ObjectSpec, backend: Backend) -> Iterator[rawbpf.Object]:
    with spec.load(backend=backend) as loaded:
        yield loaded


# Reading -------------------------------------------------------------------------


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("suffix", ["bpf", "bpfeb"])
def test_variables_of_the_arena_are_those_of_its_map(suffix: str) -> None:
    path = OBJECTS / f"arena.{suffix}.o"
    found = parse(path.read_bytes(), path.name)
    arena = found.maps["arena"]
    assert (arena.map_type, arena.max_entries, arena.map_extra) == (c.BPF_MAP_TYPE_ARENA, 4, ADDRESS)
    assert (arena.map_flags, arena.key_size, arena.value_size, arena.is_data) == (c.BPF_F_MMAPABLE, 0, 0, False)
    assert set(found.maps) == {"arena", ".bss"}
    places = {name: (v.map, v.offset, v.size) for name, v in found.variables.items() if name != "where"}
    assert places == {"step": (arena, 0, 8), "first": (arena, 8, 16), "zeros": (arena, 24, 32)}
    assert (found.variables["step"].value, found.variables["first"].value) == (40, (0, 2))


def test_code_refers_to_the_arenas_value(spec: rawbpf.ObjectSpec) -> None:
    loads = [i.reference for i in spec.programs["add"].instructions if isinstance(i.reference, MapReference)]
    assert {(r.name, r.offset) for r in loads} >= {("arena", 8), ("arena", 24), (".bss", 0)}


@pytest.mark.needs("tool:clang", "module:elftools")
def test_variables_need_an_arena_and_only_one_can_be(tmp_path: Path) -> None:
    variable = 'SEC(".addr_space.1") int x = 5;\n'
    with pytest.raises(SpecError, match=r"variables in '.addr_space.1' lie in an arena, and no map of type"):
        parse(compiled(tmp_path, variable, prelude=LIBBPF).read_bytes(), "it.o")
    with pytest.raises(SpecError, match="one arena at most, and here are 'one' and 'two'"):
        parse(compiled(tmp_path, MAP % "one" + MAP % "two", prelude=LIBBPF).read_bytes(), "it.o")
    found = parse(compiled(tmp_path, variable + MAP % "one", prelude=LIBBPF).read_bytes(), "it.o")
    assert (found.variables["x"].map, found.variables["x"].value) == (found.maps["one"], 5)


# Loading -------------------------------------------------------------------------


@needs_arenas
def test_variables_lie_at_the_end_with_their_values(obj: rawbpf.Object) -> None:
    memory = obj.maps["arena"].memory()
    assert struct.unpack_from("=QQQ", memory, 3 * PAGE) == (40, 0, 2)
    assert not any(memory[: 3 * PAGE])
    assert not any(memory[3 * PAGE + 24 :])
    step = obj.variables["step"]
    assert (step.value, step.offset, step.constant) == (40, 3 * PAGE, False)
    assert obj.variables["zeros"].value == (0,) * 8
    assert obj.maps["arena"].address == ADDRESS


@needs_arenas
def test_variables_are_read_and_written_in_the_memory_that_programs_use(obj: rawbpf.Object) -> None:
    step = obj.variables["step"]
    step.value = 7
    assert struct.unpack_from("=Q", obj.maps["arena"].memory(), 3 * PAGE) == (7,)
    view = obj.variables["zeros"].memory()
    view[2] = 9
    assert obj.variables["zeros"].value == (0, 0, 9, 0, 0, 0, 0, 0)
    view.release()
    obj.close()
    with pytest.raises(rawbpf.Closed):
        _ = step.value


@needs_arenas
def test_they_are_edited_before_loading_and_move_with_the_size(spec: rawbpf.ObjectSpec, backend: Backend) -> None:
    spec.variables["step"].value = 3
    spec.maps["arena"].max_entries = 2
    for _ in range(2):  # loading changes no specification
        with spec.load(backend=backend) as obj:
            assert (obj.variables["step"].value, obj.variables["step"].offset) == (3, PAGE)
    assert spec.variables["step"].offset == 0


@pytest.mark.real_kernel("programs run there only")
@needs_arenas
def test_a_program_and_its_subprogram_work_on_them(obj: rawbpf.Object) -> None:
    assert obj.programs["add"].run().retval == 42
    obj.variables["step"].value = 8
    assert obj.programs["add"].run().retval == 50
    assert (obj.variables["first"].value, obj.variables["zeros"].value[3]) == ((0, 50), 2)
    assert obj.variables["where"].value == ADDRESS + 3 * PAGE + 8


@pytest.mark.real_kernel("programs run there only")
@needs_arenas
def test_in_a_large_arena_they_lie_where_instructions_reach(spec: rawbpf.ObjectSpec, backend: Backend) -> None:
    spec.maps["arena"].max_entries = (1 << 30) // PAGE
    with spec.load(backend=backend) as obj:
        assert obj.variables["step"].offset == (1 << 29) - PAGE
        assert obj.programs["add"].run().retval == 42
        assert obj.variables["first"].value == (0, 42)


@needs_arenas
def test_an_arena_that_is_too_small_for_them_is_told(spec: rawbpf.ObjectSpec, backend: Backend) -> None:
    spec.maps["arena"].contents = bytearray(4 * PAGE + 1)
    with pytest.raises(SpecError, match=rf"map 'arena': 4 pages of {PAGE} bytes are too few for {4 * PAGE + 1} bytes"):
        spec.load(backend=backend)


@needs_arenas
def test_an_arena_that_was_given_keeps_what_is_in_it(spec: rawbpf.ObjectSpec, backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=4, map_extra=ADDRESS, backend=backend) as arena:
        struct.pack_into("=Q", arena.memory(), 3 * PAGE, 11)
        with spec.load(maps={"arena": arena}, backend=backend) as obj:
            assert (obj.variables["step"].value, obj.variables["first"].value) == (11, (0, 0))


@needs_arenas
def test_a_pinned_arena_is_filled_once(spec: rawbpf.ObjectSpec, backend: Backend) -> None:
    spec.maps["arena"].pinning = 1
    with bpffs(backend) as pins, spec.load(pin_dir=pins, backend=backend) as first:
        assert first.variables["step"].value == 40
        first.variables["step"].value = 41
        with spec.load(pin_dir=pins, backend=backend) as second:
            assert second.variables["step"].value == 41
