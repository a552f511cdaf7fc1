"""Variables of a loaded object are live views of the memory that its programs use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support import mappings
from support.map_shapes import PAGE

import rawbpf
from rawbpf.asm.build import atomic_add, exit_, ld_map_value, mov_imm
from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.loader.spec import ObjectSpec
from rawbpf.spec.map import MapSpec
from rawbpf.spec.object import ObjectData
from rawbpf.spec.variable import VariableSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.loader.object import Object
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

SIZE = 3 * PAGE
"""Of .bss: the last variable ends with it, and one lies across pages."""


def content(flags: int = c.BPF_F_MMAPABLE) -> ObjectData:
    b = Builder(sys.byteorder)
    long, word, half = b.int("long", 8), b.int("unsigned int", 4), b.int("unsigned short", 2)
    kinds = {
        "counter": (0, long),
        "hist": (PAGE - 16, b.array(long, 64)),
        "grid": (16, b.array(b.array(half, 3), 2)),
        "comm": (32, b.array(b.int("char", 1, signed=True), 16)),
        "config": (48, b.struct("config", 16, [("limit", word, 0), ("total", long, 64)])),
        "points": (64, b.array(b.struct("point", 8, [("x", word, 0), ("y", word, 32)]), 3)),
        "last": (SIZE - 2, half),
        "limit": (4, word),
    }
    types = Btf.from_bytes(b.to_bytes())
    bss = MapSpec(".bss", c.BPF_MAP_TYPE_ARRAY, 4, SIZE, 1, map_flags=flags, section=".bss")
    rodata = MapSpec(".rodata", c.BPF_MAP_TYPE_ARRAY, 4, 8, 1, map_flags=flags, section=".rodata", frozen=True)
    rodata.contents = bytearray(8)
    variables = {}
    for name, (offset, number) in kinds.items():
        constant = name == "limit"
        variables[name] = VariableSpec(
            name, rodata if constant else bss, offset, 0, types[number], constant=constant, byteorder=sys.byteorder
        )
        variables[name].size = rawbpf.codec_for(types[number]).size
    variables["untyped"] = VariableSpec("untyped", bss, 128, 5)
    maps = {".bss": bss, ".rodata": rodata}
    return ObjectData("vars.o", byteorder=sys.byteorder, maps=maps, variables=variables, btf=types)


@pytest.fixture
def obj(backend: Backend) -> Iterator[Object]:
    spec = ObjectSpec(content())
    spec.variables["limit"].value = 77
    with spec.load() as loaded:
        yield loaded


def test_a_number_is_the_one_item_of_its_view(obj: Object) -> None:
    counter, last = obj.variables["counter"], obj.variables["last"]
    view = counter.memory()
    view[0] += 5
    assert (view.format, view.shape, counter.value) == ("q" if counter.value_type.format == "q" else "Q", (1,), 5)
    counter.value = 6
    assert view[0] == 6
    last.memory()[0] = 65535
    assert last.value == 65535
    assert obj.maps[".bss"].raw.lookup(0)[-2:] == b"\xff\xff"


def test_an_array_has_its_own_dimensions_also_across_pages(obj: Object) -> None:
    hist = obj.variables["hist"]
    view = hist.memory()
    assert view.shape == (64,)
    view[1] = 11
    view[2] = 22
    view[63] = 2**63
    assert hist.value == (0, 11, 22, *[0] * 60, 2**63)
    hist.value = tuple(range(64))
    assert view.tolist() == list(range(64))
    grid: Any = obj.variables["grid"].memory()
    grid[1, 2] = 5
    assert obj.variables["grid"].value == ((0, 0, 0), (0, 0, 5))


def test_what_is_no_number_is_bytes_and_structs_have_columns(obj: Object) -> None:
    obj.variables["comm"].memory()[:2] = b"ab"
    assert obj.variables["comm"].value == "ab"
    config = obj.variables["config"]
    memory = config.memory()
    assert memory.shape == (16,)
    config.value_type.column(memory, "total")[0] = 9
    assert config.value == (0, 9)
    points = obj.variables["points"]
    rows = points.memory()
    assert rows.shape == (3, 8)
    codec = rawbpf.codec_for({"x": "u32", "y": "u32"})
    codec.column(rows, "y")[2] = 4
    assert points.value == ((0, 0), (0, 0), (0, 4))
    assert obj.variables["untyped"].memory().tolist() == [0] * 5


def test_a_constant_can_be_read_only_and_lets_its_section_stay_frozen(obj: Object) -> None:
    limit = obj.variables["limit"]
    view = limit.memory()
    assert (view[0], view.readonly) == (77, True)
    with pytest.raises(TypeError):
        view[0] = 1
    assert limit.value == 77


@pytest.mark.real_kernel("programs run there only")
def test_a_view_shows_what_a_program_counts(obj: Object) -> None:
    hist = obj.variables["hist"]
    count = [
        ld_map_value(1, obj.maps[".bss"].fileno(), hist.offset + 8 * 40),
        mov_imm(2, 3),
        atomic_add(1, 0, 2),
        mov_imm(0, 0),
        exit_(),
    ]
    view = hist.memory()
    with rawbpf.Program.load("socket_filter", count) as program:
        program.run(data=bytes(64), repeat=5)
        assert view[40] == 15
        view[40] = 100
        program.run(data=bytes(64))
        assert view[40] == hist.value[40] == 103


def test_views_outlive_the_object_and_go_with_their_last_user(obj: Object) -> None:
    hist = obj.variables["hist"]
    hist.value = hist.value
    view = hist.memory()
    obj.close()
    view[3] = 4
    assert view[3] == 4
    del view
    assert mappings.of_maps() == []
    uses: list[Callable[[], object]] = [hist.memory, lambda: hist.value]
    for use in uses:
        with pytest.raises(rawbpf.Closed):
            use()


def test_a_view_that_can_write_keeps_the_section_from_being_frozen(obj: Object) -> None:
    counter, bss = obj.variables["counter"], obj.maps[".bss"]
    counter.value = 5
    view = counter.memory()
    with pytest.raises(rawbpf.BpfError, match=r"a view from memory\(\) or as_numpy\(\) can still write"):
        bss.freeze()
    del view
    bss.freeze()
    assert counter.value == 5
    uses: list[Callable[[], object]] = [counter.memory, lambda: setattr(counter, "value", 6)]
    for use in uses:
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            use()
    assert counter.value == 5


def test_where_sections_cannot_be_mapped_there_is_no_view(backend: Backend) -> None:
    with ObjectSpec(content(flags=0)).load() as obj:
        hist = obj.variables["hist"]
        assert hist.value == (0,) * 64
        with pytest.raises(rawbpf.NotSupported, match="BPF_F_MMAPABLE"):
            hist.memory()
        with pytest.raises(rawbpf.NotSupported, match="cannot map"):
            hist.value = (1,) * 64
