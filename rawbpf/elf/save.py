"""From a specification back to an object file: the file that it was read from, with the edits.

An edit goes where the compiler would have put it: values of variables into data sections, properties of maps into
their definitions in BTF, what a program is into its section's name. So whatever else reads the file (libbpf, bpftool)
sees it, too. Edits that such a file has no place for are refused: what was written is read back and compared.

Source: tools/lib/bpf/libbpf.c:parse_btf_map_def, tools/lib/bpf/bpf_helpers.h (v6.12).
"""

from __future__ import annotations

import struct

from rawbpf.btf import kind as kinds
from rawbpf.btf.extend import Extension, rename_sections
from rawbpf.btf.layout import strip
from rawbpf.btf.types import Array, Datasec, Int, Ptr, Struct, Var
from rawbpf.elf.container import SHT_NOBITS, SHT_REL, SHT_RELA
from rawbpf.elf.legacy_maps import NUMBERS, read_legacy
from rawbpf.elf.maps import MAPS
from rawbpf.elf.object import ARENA, parse
from rawbpf.elf.rewrite import Rewriter
from rawbpf.elf.struct_ops import read_tables
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.difference import differences
from rawbpf.spec.object import ObjectData
from rawbpf.spec.program import ProgramSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.spec.map import MapSpec

_NUMBERS = ("type", "max_entries", "map_flags", "numa_node", "pinning", "map_extra")


def saved(content: ObjectData) -> bytes:
    """Return the object file that says what `content` says.

    Raises: SpecError for what was not read from a file, and for an edit that a file has no place for, by its name.
    """
    if not content.file:
        raise SpecError(f"{content.name} was not read from an object file, so there is none to write it into")
    original = parse(content.file, content.name)
    if next(differences(content, original), None) is None:
        return content.file
    file = Rewriter(content.file, content.name)
    _save_data(file, content)
    _save_tables(file, content, original)
    _save_legacy(file, content)
    section = file.elf.find(".BTF")
    if section is not None and original.btf is not None:
        btf = Extension(bytes(section.content))
        _save_maps(btf, content, original)
        _save_sections(file, btf, content, original)
        file.replace(section, btf.to_bytes())
    out = file.to_bytes()
    try:
        lost = next(differences(content, parse(out, content.name)), None)
    except (FormatError, SpecError) as error:
        raise SpecError(f"{content.name}: its edits make no object file: {error}") from error
    if lost is not None:
        raise SpecError(f"{content.name}: an object file has no place for this edit: {lost}")
    return out


def _save_data(file: Rewriter, content: ObjectData) -> None:
    for spec in content.maps.values():
        section = file.elf.find(spec.section) if spec.is_data else None
        if section is None:
            continue
        start = bytes(spec.contents or b"")[: spec.value_size]
        if section.type == SHT_NOBITS and not any(start):
            file.resize(section, spec.value_size)
        else:
            file.replace(section, start + bytes(spec.value_size - len(start)))
    arena, section = content.find_arena(), file.elf.find(ARENA)
    if arena is not None and arena.contents is not None and section is not None:
        file.replace(section, bytes(arena.contents))


def _save_tables(file: Rewriter, content: ObjectData, original: ObjectData) -> None:
    for tables in read_tables(file.elf, ObjectData(btf=original.btf)):
        into = bytearray(tables.section.content)
        for start, old in zip(tables.starts, tables.specs, strict=True):
            spec = content.maps.get(old.name)
            if spec is not None and spec.contents is not None:
                new = spec.contents[: old.value_size]
                into[start : start + len(new)] = new
        file.replace(tables.section, bytes(into))


def _save_legacy(file: Rewriter, content: ObjectData) -> None:
    # Maps of before BTF are numbers.
    changed: dict[int, bytearray] = {}
    for legacy in read_legacy(file.elf, None):
        spec = content.maps.get(legacy.spec.name)
        if spec is None:
            continue
        index, at = legacy.place
        numbers = (getattr(spec, name) for name in NUMBERS)
        into = changed.setdefault(index, bytearray(file.elf.sections[index].content))
        try:
            struct.pack_into(f"{file.elf.order}{len(NUMBERS)}I", into, at, *numbers)
        except struct.error as error:
            raise SpecError(f"map {spec.name!r}: its definition takes numbers of 32 bits: {error}") from None
    for index, new in changed.items():
        file.replace(file.elf.sections[index], bytes(new))


# Maps ----------------------------------------------------------------------------


def _save_maps(btf: Extension, content: ObjectData, original: ObjectData) -> None:
    section = btf.btf.find(MAPS, Datasec)
    for variable, _, _ in section.variables if section is not None else ():
        spec, old = content.maps.get(variable.name), original.maps.get(variable.name)
        definition = strip(variable.type)
        if spec is None or old is None or not isinstance(variable, Var) or not isinstance(definition, Struct):
            continue
        if _properties(spec) != _properties(old):
            btf.retype(variable, _definition(btf, spec, definition))


def _properties(spec: MapSpec) -> tuple[object, ...]:
    own = (*(_number(spec, name) for name in _NUMBERS), *_side(spec, "key"), *_side(spec, "value"))
    return own if spec.inner is None else (*own, _properties(spec.inner))


def _number(spec: MapSpec, name: str) -> int | None:
    value: int | None = getattr(spec, "map_type" if name == "type" else name)
    return value


def _side(spec: MapSpec, side: str) -> tuple[int, int]:
    return getattr(spec, f"{side}_type_id"), getattr(spec, f"{side}_size")


def _definition(btf: Extension, spec: MapSpec, old: Struct) -> int:
    # The struct that defines the map; as large as it was, since variables lie behind it.
    values = next((member for member in old.members if member.name == "values"), None)
    members = [(name, _numeral(btf, number)) for name in _NUMBERS if (number := _number(spec, name))]
    if spec.numa_node == 0:
        members.append(("numa_node", _numeral(btf, 0)))
    for side in ("key", "value"):
        type_id, size = _side(spec, side)
        if type_id:
            members.append((side, btf.pointer(type_id)))
        elif size and (side == "key" or values is None):
            members.append((f"{side}_size", _numeral(btf, size)))
    # Where they lie means nothing, but for `values`, which initial values are found by.
    end = 8 * old.size if values is None else values.bit_offset
    places = [min(64 * index, max(end - 64, 0)) for index in range(len(members))]
    if values is not None:
        members.append(("values", values.type.id if spec.inner is None else _values(btf, spec.inner, values.type.id)))
        places.append(values.bit_offset)
    tail = [
        word for (name, type), place in zip(members, places, strict=True) for word in (btf.string(name), type, place)
    ]
    return btf.add(kinds.STRUCT, old.size, tail, name=btf.string(old.name), vlen=len(members))


def _numeral(btf: Extension, number: int) -> int:
    # As __uint() spells it, a pointer to an array so long; what is longer as __ulong(), an enumerator.
    if number >> 32:
        tail = (btf.string(f"__unique_value_{number}"), number & 0xFFFFFFFF, number >> 32)
        return btf.add(kinds.ENUM64, 8, tail, vlen=1)
    integer = next((type.id for type in btf.btf if isinstance(type, Int)), 0)
    if not integer:  # no compiler leaves it out
        integer = btf.add(kinds.INT, 4, (32,), name=btf.string("unsigned int"))
    return btf.pointer(btf.add(kinds.ARRAY, 0, (integer, integer, number)))


def _values(btf: Extension, inner: MapSpec, old: int) -> int:
    array = strip(btf.btf[old])
    pointer = strip(array.type) if isinstance(array, Array) else None
    definition = strip(pointer.type) if isinstance(pointer, Ptr) else None
    if not isinstance(array, Array) or not isinstance(definition, Struct):
        return old
    element = btf.pointer(_definition(btf, inner, definition))
    return btf.add(kinds.ARRAY, 0, (element, array.index_type.id, array.length))


# Programs ------------------------------------------------------------------------


def _save_sections(file: Rewriter, btf: Extension, content: ObjectData, original: ObjectData) -> None:
    wanted: dict[str, dict[str, list[str]]] = {}
    for name, old in original.programs.items():
        if name in content.programs:
            wanted.setdefault(old.section, {}).setdefault(_section_of(content.programs[name]), []).append(name)
    renamed = {}
    for section, new in wanted.items():
        if len(new) > 1:
            both = " and ".join(f"{names[0]!r} {to!r}" for to, names in new.items())
            raise SpecError(
                f"programs of section {section!r} would be of several: {both}. An edit that saving takes concerns all "
                "programs of a section; give them sections of their own in the source"
            )
        (to,) = new
        if to != section:
            renamed[section] = to
    for section, to in renamed.items():
        found = file.elf.find(section)
        assert found is not None
        file.rename(found, to)
        for table in file.elf.sections:
            if table.type in (SHT_REL, SHT_RELA) and table.info == found.index:
                file.rename(table, f"{'.rel' if table.type == SHT_REL else '.rela'}{to}")
    extension = file.elf.find(".BTF.ext")
    if renamed and extension is not None:
        names = {section: btf.string(to) for section, to in renamed.items()}
        file.replace(extension, rename_sections(bytes(extension.content), btf.btf, names))


def _section_of(spec: ProgramSpec) -> str:
    # The name of a section that says what the program is.
    start = "" if spec.autoload else "?"
    names = [spec.section.removeprefix("?")]
    if spec.definition is not None:
        stem = spec.definition.pattern.removesuffix("+")
        names += [f"{stem}/{spec.attach_target}", stem]
    for name in names:
        if _meaning(ProgramSpec.from_section(spec.name, start + name, [])) == _meaning(spec):
            return start + name
    raise SpecError(
        f"program {spec.name!r}: the name of a section says what a program is, and there is none for prog_type "
        f"{spec.prog_type}, expected_attach_type {spec.expected_attach_type}, prog_flags {spec.prog_flags:#x} and "
        f"attach_target {spec.attach_target!r}"
    )


def _meaning(spec: ProgramSpec) -> tuple[object, ...]:
    return spec.prog_type, spec.expected_attach_type, spec.prog_flags, spec.attach_target, spec.autoload
