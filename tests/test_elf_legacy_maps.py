"""Maps defined before BTF, by struct bpf_map_def and by the struct bpf_elf_map of iproute2, are maps like others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from support.elf_writer import OBJECT, ElfWriter
from support.objects import OBJECTS, native

from rawbpf import ObjectSpec
from rawbpf.elf import parse
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.map import PIN_BY_NAME
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.spec.object import ObjectData
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest_byte_order

HASH, ARRAY, OUTER, JUMPS = 1, 2, c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_PROG_ARRAY


@pytest.fixture(scope="module", params=["bpf", "bpfeb"])
def legacy(request: pytest.FixtureRequest) -> ObjectData:
    path = OBJECTS / f"legacy.{request.param}.o"
    return parse(path.read_bytes(), path.name)


def test_five_numbers_define_a_map(legacy: ObjectData) -> None:
    first = legacy.maps["first"]
    assert (first.map_type, first.key_size, first.value_size, first.max_entries) == (HASH, 4, 8, 16)
    assert (first.map_flags, first.section, first.is_data) == (c.BPF_F_NO_PREALLOC, "maps", False)


def test_a_map_may_have_a_section_of_its_own(legacy: ObjectData) -> None:
    alone = legacy.maps["alone"]
    assert (alone.map_type, alone.max_entries, alone.section, alone.is_data) == (ARRAY, 1, "maps/alone", False)


def test_types_come_from_the_struct_that_the_old_macro_wrote(legacy: ObjectData) -> None:
    typed, first = legacy.maps["typed"], legacy.maps["first"]
    assert typed.value is not None
    assert (typed.value.name, typed.value_type_id) == ("pair", typed.value.id)
    assert (first.key, first.value, first.key_type_id) == (None, None, 0)


def test_an_outer_map_is_told_by_numbers_what_it_holds(legacy: ObjectData) -> None:
    outer = legacy.maps["outer"]
    assert outer.inner is not None
    assert (outer.inner.name, outer.inner.map_type, outer.inner.value_size) == ("outer.inner", ARRAY, 8)
    assert outer.values == {1: "inner"}
    assert outer.inner is not legacy.maps["inner"]


def test_a_section_of_two_numbers_puts_its_program_into_an_array(legacy: ObjectData) -> None:
    assert legacy.maps["jumps"].values == {2: "jumped_to"}
    assert legacy.programs["jumped_to"].prog_type == c.BPF_PROG_TYPE_UNSPEC


def test_any_of_iproute2s_pins_is_one_by_name(legacy: ObjectData) -> None:
    pins = {name for name, spec in legacy.maps.items() if spec.pinning == PIN_BY_NAME}
    assert pins == {"shared"}


def test_edits_are_saved_where_the_numbers_are(legacy: ObjectData) -> None:
    spec = ObjectSpec(legacy.copy())
    spec.maps["first"].max_entries = 77
    spec.maps["alone"].value_size = 64
    spec.programs["jumped_to"].autoload = False
    read = ObjectSpec.from_bytes(spec.to_bytes())
    assert (read.maps["first"].max_entries, read.maps["alone"].value_size) == (77, 64)
    assert read.maps["jumps"].values == {2: "jumped_to"}
    spec.maps["first"].max_entries = 1 << 32
    with pytest.raises(SpecError, match="map 'first': its definition takes numbers of 32 bits"):
        spec.to_bytes()


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
def test_a_program_finds_all_of_them(backend: Backend) -> None:
    spec = ObjectSpec.from_file(native("legacy"))
    spec.programs["jumped_to"].prog_type = c.BPF_PROG_TYPE_SCHED_CLS
    spec.maps["shared"].pinning = 0
    with spec.load(backend=backend) as obj:
        assert obj.programs["entry"].run(data=bytes(64)).retval == 42
        assert obj.maps["first"].raw[struct.pack("=I", 1)] == struct.pack("=Q", 3)
        assert obj.maps["inner"].raw[0] == struct.pack("=Q", 5)


def definitions(*contents: bytes, section: str = "maps", sizes: bool = True) -> bytes:
    # An object with maps m0, m1, ... of these definitions.
    elf = ElfWriter()
    index = elf.section(section, b"".join(contents))
    at = 0
    for number, content in enumerate(contents):
        elf.symbol(f"m{number}", index, at, len(content) if sizes else 0, type=OBJECT)
        at += len(content)
    return elf.build()


def numbers(*each: int) -> bytes:
    return struct.pack(f"<{len(each)}I", *each)


PLAIN = numbers(HASH, 4, 8, 16, 0)


def test_without_sizes_a_definition_ends_where_the_next_begins() -> None:
    found = parse(definitions(PLAIN, numbers(ARRAY, 4, 16, 1, 0), sizes=False), "x.o").maps
    assert {name: (spec.map_type, spec.value_size) for name, spec in found.items()} == {
        "m0": (HASH, 8),
        "m1": (ARRAY, 16),
    }


def test_a_longer_definition_is_taken_where_the_rest_is_zero() -> None:
    (spec,) = parse(definitions(PLAIN + bytes(8)), "x.o").maps.values()
    assert (spec.key_size, spec.max_entries) == (4, 16)


@pytest.mark.parametrize(
    ("contents", "error", "message"),
    [
        ([PLAIN[:12]], SpecError, "map 'm0': its definition in section 'maps' has 12 bytes, not 20"),
        ([PLAIN + bytes(5000)], SpecError, "has 5020 bytes"),
        ([PLAIN + numbers(0, 1)], SpecError, r"28 bytes, of which 20 are known .* define it in SEC"),
        ([numbers(OUTER, 4, 4, 1, 0)], SpecError, "map 'm0': no map has the id 0"),
        ([numbers(OUTER, 4, 4, 1, 0, 5, 0, 5, 0)], SpecError, "no map has the id 5 that its inner_id names"),
        (
            [numbers(OUTER, 4, 4, 1, 0, 5, 0, 6, 0), numbers(OUTER, 4, 4, 1, 0, 6, 0, 5, 0)],
            SpecError,
            "no map has the id 6",
        ),
    ],
    ids=["short", "long", "more than known", "no number", "only itself", "each in the other"],
)
def test_a_refusal_says_what_is_wrong(contents: list[bytes], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(definitions(*contents), "x.o")


def test_definitions_that_overlap_are_damage() -> None:
    elf = ElfWriter()
    index = elf.section("maps", PLAIN + PLAIN)
    elf.symbol("a", index, 0, 40, type=OBJECT)
    elf.symbol("b", index, 20, 20, type=OBJECT)
    with pytest.raises(FormatError, match="map 'a' is not alone at its place in 'maps'"):
        parse(elf.build(), "x.o")


def test_a_map_has_one_definition_only() -> None:
    elf = ElfWriter()
    for section in ("maps", "maps/m"):
        elf.symbol("m", elf.section(section, PLAIN), 0, 20, type=OBJECT)
    with pytest.raises(SpecError, match="map 'm' is defined twice"):
        parse(elf.build(), "x.o")
