"""Map definitions of before BTF: structs of numbers in sections `maps` and `maps/NAME`, told apart by their size.

`struct bpf_map_def` has five numbers: type, key size, value size, entries, flags. Longer ones are taken where what
follows is zero. iproute2's `struct bpf_elf_map` names maps by numbers: an outer map takes one whose id is its
`inner_id` for its template, and all of that id for its values, each at its `inner_idx`; a program in a section
`ID/INDEX` goes into the program array of that id.

Knows nothing of instructions. Source: tools/lib/bpf/libbpf.c:bpf_object__init_user_maps (v5.19); iproute2's
include/bpf_elf.h and lib/bpf_legacy.c (6.1).
"""

from __future__ import annotations

import struct

from rawbpf.btf.layout import size_of
from rawbpf.btf.types import Struct
from rawbpf.elf.container import STT_NOTYPE, STT_OBJECT
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.map import PIN_BY_NAME, PIN_NONE, MapSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.btf.btf import Btf
    from rawbpf.elf.container import Container, Section, Symbol

_LEGACY = "maps"
OUTER = (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)
"""The types of maps whose values are maps."""
NUMBERS = ("map_type", "key_size", "value_size", "max_entries", "map_flags")
"""The attributes of a map that each of the structs begins with, as u32."""
_PLAIN, _IPROUTE2 = 4 * len(NUMBERS), 36
_MOST = 4096  # bytes of a definition
_TYPES = "____btf_map_"  # of keys and values: libbpf's BPF_ANNOTATE_KV_PAIR


class LegacyMap:
    """A map, where it is defined, and by what numbers others name it: 0 for those that nobody does."""

    __slots__ = ("id", "index", "inner_id", "place", "spec")

    def __init__(self, spec: MapSpec, place: tuple[int, int], id: int = 0, inner_id: int = 0, index: int = 0) -> None:
        self.spec = spec
        self.place = place
        self.id = id
        self.inner_id = inner_id
        self.index = index


def read_legacy(elf: Container, btf: Btf | None) -> list[LegacyMap]:
    """Return the maps that the object defines by numbers, in the order of the file.

    Raises: SpecError for a definition of a struct that is not known, FormatError for damaged bytes.
    """
    found: list[LegacyMap] = []
    for section in elf.sections:
        if section.size and (section.name == _LEGACY or section.name.startswith(f"{_LEGACY}/")):
            found += [_definition(elf, section, *place, btf) for place in _places(elf, section)]
    _nest(found)
    return found


def _places(elf: Container, section: Section) -> Iterator[tuple[Symbol, int]]:
    # Each definition's symbol and where it ends: compilers before BTF often gave no size.
    symbols = [s for s in elf.symbols if s.section == section.index and s.type in (STT_OBJECT, STT_NOTYPE) and s.name]
    if not symbols:
        raise FormatError(f"section {section.name!r} holds maps, but no symbol says where one begins", section.offset)
    symbols.sort(key=lambda symbol: symbol.value)
    ends = [*(symbol.value for symbol in symbols[1:]), section.size]
    for symbol, end in zip(symbols, ends, strict=True):
        if symbol.value + symbol.size > end or symbol.value >= end:
            raise FormatError(f"map {symbol.name!r} is not alone at its place in {section.name!r}", section.offset)
        yield symbol, symbol.value + (symbol.size or end - symbol.value)


def _definition(elf: Container, section: Section, symbol: Symbol, end: int, btf: Btf | None) -> LegacyMap:
    name, start = symbol.name, symbol.value
    content = bytes(section.content[start : min(end, start + _MOST)])
    if end - start > _MOST or len(content) < _PLAIN:
        raise SpecError(f"map {name!r}: its definition in section {section.name!r} has {end - start} bytes, not 20")
    numbers = struct.unpack_from(f"{elf.order}{len(NUMBERS)}I", content)
    spec = MapSpec(name, section=section.name, **dict(zip(NUMBERS, numbers, strict=True)))
    _add_types(spec, btf)
    more = content[_PLAIN:]
    if len(content) == _IPROUTE2:
        id, pinning, inner_id, index = struct.unpack(elf.order + "4I", more)
        spec.pinning = PIN_BY_NAME if pinning else PIN_NONE
        return LegacyMap(spec, (section.index, start), id, inner_id, index)
    if any(more):
        raise SpecError(
            f"map {name!r}: its definition in section {section.name!r} has {len(content)} bytes, of which 20 are known "
            '(struct bpf_map_def) and the others not zero: define it in SEC(".maps"), or by iproute2\'s struct '
            "bpf_elf_map of 36 bytes"
        )
    return LegacyMap(spec, (section.index, start))


def _add_types(spec: MapSpec, btf: Btf | None) -> None:
    types = btf.find(_TYPES + spec.name, Struct) if btf is not None else None
    if types is None:
        return
    members = {member.name: member.type for member in types.members}
    for side in ("key", "value"):
        have = members.get(side)
        if have is None or size_of(have) != getattr(spec, f"{side}_size"):
            raise SpecError(f"map {spec.name!r}: struct {types.name} has no {side} of its definition's size")
        setattr(spec, side, have)
        setattr(spec, f"{side}_type_id", have.id)


def _nest(found: list[LegacyMap]) -> None:
    for outer in found:
        if outer.spec.map_type not in OUTER:
            continue
        held = [inner for inner in found if inner.id and inner.id == outer.inner_id and inner is not outer]
        if not held or held[0].spec.map_type in OUTER:
            raise SpecError(
                f"map {outer.spec.name!r}: no map has the id {outer.inner_id} that its inner_id names: maps of maps "
                'are defined by iproute2\'s struct bpf_elf_map or in SEC(".maps")'
            )
        template = held[0].spec.copy()
        template.name, template.pinning = f"{outer.spec.name}.inner", PIN_NONE
        outer.spec.inner = template
        outer.spec.values = {inner.index: inner.spec.name for inner in held}
