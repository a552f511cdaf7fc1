"""Types that only DWARF has are those that BTF would have; whatever the bytes, a look-up ends or raises FormatError."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import pytest
from support import dwarf_writer as dw
from support.dwarf_writer import DwarfWriter, elf, leb
from support.elf_writer import ElfWriter

from rawbpf.btf import Enum64, Struct, Typedef
from rawbpf.codec import codec_for
from rawbpf.elf import parse
from rawbpf.elf.container import read
from rawbpf.elf.debug import debug_section
from rawbpf.elf.dwarf_types import find_type, type_names
from rawbpf.errors import FormatError

OBJECTS = Path(__file__).parent / "objects"
LITTLE, BIG = ((OBJECTS / f"events.{target}.o").read_bytes() for target in ("bpf", "bpfeb"))


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("data", [LITTLE, BIG], ids=["little", "big"])
def test_a_struct_that_only_a_programs_inside_uses_is_found(data: bytes) -> None:
    btf = parse(data, "events.o").btf
    assert btf is not None
    assert "started" not in btf
    started = find_type(data, "events.o", "started")
    assert isinstance(started, Struct)
    assert started.size == 128
    assert [member.name for member in started.members[:4]] == ["header", "when", "comm", "small"]
    assert [member[2:] for member in started.members if member.bit_size] == [(336, 3), (352, 20), (372, 5), (384, 40)]
    assert isinstance(find_type(data, "events.o", "ended"), Typedef)
    assert {"started", "ended", "header", "__u32"} <= set(type_names(data, "events.o"))


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("name", ["", "start", "startedd", "tell", "events", "STARTED", "nul\0"])
def test_what_names_no_type_is_not_found(name: str) -> None:
    assert find_type(LITTLE, "events.o", name) is None


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(
    ("name", "word", "found"),
    [
        pytest.param("started", "struct", "struct", id="struct"),
        pytest.param("started", "union", None, id="no-union"),
        pytest.param("kind", "enum", "enum", id="enum"),
        pytest.param("kind", "struct", None, id="no-struct"),
        pytest.param("ended", "struct", None, id="typedef"),
    ],
)
def test_a_word_before_the_name_finds_that_kind_alone(name: str, word: str, found: str | None) -> None:
    type = find_type(LITTLE, "events.o", name, word)
    assert (type and type.kind_name) == found


@pytest.mark.guest_byte_order
def test_an_object_without_dwarf_has_no_types_in_it() -> None:
    data = (OBJECTS / "rings.bpf.o").read_bytes()
    assert find_type(data, "rings.o", "__u64") is None
    assert list(type_names(data, "rings.o")) == []


@pytest.mark.guest_byte_order
def test_a_struct_goes_before_a_typedef_of_its_name_and_a_definition_before_a_declaration() -> None:
    unit = DwarfWriter()
    number = unit.int()
    unit.entry(dw.TYPEDEF, name="event", type=number)
    unit.entry(dw.STRUCT, name="event", declaration=1)
    unit.entry(dw.STRUCT, name="event", byte_size=12)
    unit.entry(dw.STRUCT, name="event", byte_size=16)
    found = find_type(unit.build(), "x.o", "event")
    assert isinstance(found, Struct)
    assert found.size == 12


@pytest.mark.guest_byte_order
def test_relocations_are_applied_where_they_add_something() -> None:
    # A linked file has the strings of several: the section's symbol is not 0, and places are relative to it.
    elf_file = read(LITTLE, "events.o")
    plain = debug_section(elf_file, ".debug_str_offsets")
    table = elf_file.find(".symtab")
    strings = elf_file.find(".debug_str")
    assert table is not None
    assert strings is not None
    moved = bytearray(LITTLE)
    index = next(i for i, each in enumerate(elf_file.symbols) if each.type == 3 and each.section == strings.index)
    moved[table.offset + 24 * index + 8 : table.offset + 24 * index + 16] = (1000).to_bytes(8, "little")
    assert find_type(LITTLE, "events.o", "started") is not None
    offsets = debug_section(read(bytes(moved), "moved.o"), ".debug_str_offsets")
    assert [int.from_bytes(offsets[at : at + 4], "little") for at in range(8, len(offsets), 4)] == [
        int.from_bytes(plain[at : at + 4], "little") + 1000 for at in range(8, len(plain), 4)
    ]
    assert offsets[:8] == plain[:8]


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_bit_fields_as_old_compilers_describe_them(byteorder: Literal["little", "big"]) -> None:
    unit = DwarfWriter(byteorder)
    number = unit.int()
    unit.entry(dw.STRUCT, name="old", byte_size=8, children=True)
    place = b"\x23" + leb(4)  # DW_OP_plus_uconst
    unit.entry(dw.MEMBER, name="first", type=number, byte_size=4, bit_offset=29, bit_size=3, location=place)
    unit.entry(dw.MEMBER, name="last", type=number, bit_offset=0, bit_size=5, location=place)
    unit.end()
    old = find_type(unit.build(), "x.o", "old")
    assert isinstance(old, Struct)
    places = [(32, 3), (59, 5)] if byteorder == "little" else [(61, 3), (32, 5)]
    assert [member[2:] for member in old.members] == places


@pytest.mark.guest_byte_order
def test_arrays_have_a_bound_or_a_count_or_neither() -> None:
    unit = DwarfWriter()
    number = unit.int("char", 1)
    arrays = []
    bounds: list[dict[str, Any]] = [{"upper_bound": 3}, {"count": 2}, {}, {"upper_bound": -1}]
    for bound in bounds:
        arrays.append(unit.entry(dw.ARRAY, type=number, children=True))
        unit.entry(dw.SUBRANGE, **bound)
        unit.end()
    unit.entry(dw.STRUCT, name="arrays", byte_size=6, children=True)
    for at, array in zip((0, 4, 6, 6), arrays, strict=True):
        unit.entry(dw.MEMBER, name=f"at{at}", type=array, location=at)
    unit.end()
    found = find_type(unit.build(), "x.o", "arrays")
    assert isinstance(found, Struct)
    assert [getattr(member.type, "length", None) for member in found.members] == [4, 2, 0, 0]


@pytest.mark.guest_byte_order
def test_an_enumeration_of_64_bits_has_its_numbers() -> None:
    wide = find_type(LITTLE, "events.o", "wide")
    assert isinstance(wide, Enum64)  # clang 14 cuts it to 32 bits in BTF
    assert wide.values == (("SMALL", 1), ("LARGE", 0x1234567890))


@pytest.mark.guest_byte_order
def test_an_enumeration_with_a_negative_value_is_signed() -> None:
    unit = DwarfWriter()
    unit.entry(dw.ENUM, name="level", byte_size=4, children=True)
    unit.entry(dw.ENUMERATOR, name="LOW", const_value=-1)
    unit.entry(dw.ENUMERATOR, name="HIGH", const_value=70000)
    unit.end()
    found = find_type(unit.build(), "x.o", "level")
    assert found is not None
    assert codec_for(found).unpack((-1).to_bytes(4, "little", signed=True)) == -1


# Whatever the bytes ------------------------------------------------------------------------------------------


def look(data: bytes) -> None:
    for name in ("started", "ended"):
        try:
            found = find_type(data, "x.o", name)
            if found is not None:
                codec_for(found)
        except FormatError:
            pass


def debug_places(data: bytes) -> list[int]:
    sections = [each for each in read(data, "events.o").sections if ".debug_" in each.name]
    wanted = (".debug_info", ".debug_abbrev", ".debug_str", ".debug_str_offsets")
    return [at for each in sections if each.name.endswith(wanted) for at in range(each.offset, each.offset + each.size)]


@pytest.mark.parametrize("data", [LITTLE, BIG], ids=["little", "big"])
def test_any_byte_of_the_debug_information_may_be_wrong(data: bytes) -> None:
    places = debug_places(data)
    for place in places[:: 1 + len(places) // 300]:
        for value in (0, 0x7F, 0xFF):
            damaged = bytearray(data)
            damaged[place] = value
            look(bytes(damaged))


@pytest.mark.parametrize("seed", range(4))
def test_bytes_changed_at_random_never_surprise(seed: int) -> None:
    chance = random.Random(seed)
    places = debug_places(LITTLE)
    for _ in range(150):
        damaged = bytearray(LITTLE)
        for _ in range(chance.choice((1, 4, 16))):
            damaged[chance.choice(places)] = chance.randrange(256)
        look(bytes(damaged))


def small() -> DwarfWriter:
    unit = DwarfWriter()
    number = unit.int()
    unit.entry(dw.STRUCT, name="started", byte_size=4, children=True)
    unit.entry(dw.MEMBER, name="x", type=number, location=0)
    unit.end()
    return unit


def test_debug_information_cut_at_any_byte_is_refused() -> None:
    unit = small()
    info, abbreviations = unit.info(), bytes(unit.abbreviations) + b"\0"
    assert find_type(elf(debug_info=info, debug_abbrev=abbreviations), "x.o", "started") is not None
    for length in range(1, len(info)):
        with pytest.raises(FormatError):
            find_type(elf(debug_info=info[:length], debug_abbrev=abbreviations), "x.o", "started")
    for length in range(len(abbreviations)):
        with pytest.raises(FormatError):
            find_type(elf(debug_info=info, debug_abbrev=abbreviations[:length]), "x.o", "started")


def cycle() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.TYPEDEF, name="event", type=unit.here)
    return unit


def itself() -> DwarfWriter:
    unit = DwarfWriter()
    at = unit.entry(dw.STRUCT, name="event", byte_size=4, children=True)
    unit.entry(dw.MEMBER, name="x", type=at, location=0)
    unit.end()
    return unit


def chain() -> DwarfWriter:
    unit = DwarfWriter()
    at = unit.int()
    for _ in range(5000):
        at = unit.entry(dw.CONST, type=at)
    unit.entry(dw.TYPEDEF, name="event", type=at)
    return unit


def unended() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.STRUCT, name="event", byte_size=4, children=True)
    unit.entry(dw.STRUCT, byte_size=4, children=True)
    return unit


def nested() -> DwarfWriter:
    # Each struct lies within the one before it, and the last one has a member of each: 4000 times 4000 to read.
    unit = DwarfWriter()
    places = [unit.entry(dw.STRUCT, byte_size=0, children=True) for _ in range(4000)]
    for _ in places:
        unit.end()
    unit.entry(dw.STRUCT, name="event", byte_size=0, children=True)
    for at in places:
        unit.entry(dw.MEMBER, type=at, location=0)
    unit.end()
    return unit


def elsewhere() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.TYPEDEF, name="event", type=1 << 30)
    return unit


def between() -> DwarfWriter:
    unit = DwarfWriter()
    number = unit.int()
    unit.entry(dw.TYPEDEF, name="event", type=number + 1)
    return unit


def dimensions() -> DwarfWriter:
    unit = DwarfWriter()
    at = unit.entry(dw.ARRAY, type=unit.here, children=True)
    for _ in range(500):
        unit.entry(dw.SUBRANGE, count=2)
    unit.end()
    unit.entry(dw.TYPEDEF, name="event", type=at)
    return unit


def huge() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.STRUCT, name="event", byte_size=1 << 40)
    return unit


def many() -> DwarfWriter:
    unit = DwarfWriter()
    number = unit.int()
    unit.entry(dw.STRUCT, name="event", byte_size=4, children=True)
    for _ in range(70000):
        unit.entry(dw.MEMBER, type=number, location=0)
    unit.end()
    return unit


def computed() -> DwarfWriter:
    unit = DwarfWriter()
    number = unit.int()
    unit.entry(dw.STRUCT, name="event", byte_size=4, children=True)
    unit.entry(dw.MEMBER, type=number, location=b"\x06")  # DW_OP_deref
    unit.end()
    return unit


def odd() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.BASE, name="event", byte_size=3, encoding=5)
    return unit


def valueless() -> DwarfWriter:
    unit = DwarfWriter()
    unit.entry(dw.TYPEDEF, name="event", type=unit.here - unit.here)
    return unit


@pytest.mark.parametrize(
    "write",
    [
        cycle, itself, chain, unended, nested, elsewhere, between, dimensions, huge, many, computed, odd, valueless,
    ],
)  # fmt: skip
def test_types_without_end_or_sense_are_refused(write: object) -> None:
    assert callable(write)
    with pytest.raises(FormatError, match=r"\.debug_info|\.debug_abbrev"):
        find_type(write().build(), "x.o", "event")


def test_tables_of_abbreviations_that_lie_within_one_another_are_refused() -> None:
    # A unit of 12 bytes for each byte of a table that goes on to its end.
    table = b"".join(leb(n) + b"\x13\0\0\0" for n in range(1, 4000)) + b"\0"
    units = b"".join(
        (8).to_bytes(4, "little") + (4).to_bytes(2, "little") + (4 * n).to_bytes(4, "little") + b"\x08\0"
        for n in range(1000)
    )
    with pytest.raises(FormatError, match="abbrev"):
        find_type(elf(debug_info=units, debug_abbrev=table), "x.o", "event")


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(
    ("header", "because"),
    [
        pytest.param(b"\xf5\xff\xff\xff", "a unit of 0xfffffff5 bytes", id="length"),
        pytest.param(b"\xff\xff\xff\xff" + b"\xff" * 8, "ends at byte", id="64-bit-length"),
        pytest.param(b"\x08\0\0\0\x01\0" + bytes(6), "version 1 is unknown; 2 to 5 are known", id="version"),
        pytest.param(b"\x08\0\0\0\x04\0" + bytes(6), "addresses of 0 bytes", id="addresses"),
    ],
)
def test_a_unit_with_a_wrong_header_is_refused(header: bytes, because: str) -> None:
    with pytest.raises(FormatError, match=because):
        find_type(elf(debug_info=header, debug_abbrev=b"\0"), "x.o", "event")


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(
    ("head", "body", "because"),
    [
        pytest.param((2, 5), b"\x28\xb5\x2f\xfd", "compressed by zstd", id="zstd"),
        pytest.param((1, 1 << 40), b"x\x9c", "cannot have", id="bomb"),
        pytest.param((1, 5), b"nonsense", "is damaged", id="damaged"),
        pytest.param((1, 5), b"", "0 bytes instead of 5", id="empty"),
    ],
)
def test_a_section_compressed_in_another_way_or_badly_is_refused(
    head: tuple[int, int], body: bytes, because: str
) -> None:
    writer = ElfWriter()
    kind, size = head
    content = kind.to_bytes(8, "little") + size.to_bytes(8, "little") + bytes(8) + body
    writer.section(".debug_info", content, flags=1 << 11)
    with pytest.raises(FormatError, match=because):
        find_type(writer.build(), "x.o", "event")


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(
    ("kind", "offset", "symbol", "because"),
    [
        pytest.param(99, 0, 1, "relocation 99", id="kind"),
        pytest.param(3, 1 << 20, 1, "of byte 1048576", id="place"),
        pytest.param(3, 0, 77, "names symbol 77", id="symbol"),
    ],
)
def test_a_relocation_without_sense_is_refused(kind: int, offset: int, symbol: int, because: str) -> None:
    unit = small()
    writer = ElfWriter()
    section = writer.section(".debug_info", unit.info(), flags=0)
    writer.section(".debug_abbrev", bytes(unit.abbreviations) + b"\0", flags=0)
    writer.symbol("moved", section, 1)
    writer.relocate(section, offset, kind, symbol)
    with pytest.raises(FormatError, match=because):
        find_type(writer.build(), "x.o", "event")
