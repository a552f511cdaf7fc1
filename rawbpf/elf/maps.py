"""Map definitions: the `.maps` section's variables, whose BTF types spell a map's properties.

Those of before BTF are read by `legacy_maps`.

`__uint(max_entries, 16)` is a pointer to an array of 16, `__type(key, __u32)` a pointer to the type,
`__ulong(map_extra, 3)` an enum of one value, `__array(values, ...)` a flexible array of pointers.
Knows nothing of instructions.

Source: tools/lib/bpf/libbpf.c:parse_btf_map_def, tools/lib/bpf/bpf_helpers.h (v6.12).
"""

from __future__ import annotations

from bisect import bisect

from rawbpf.btf.layout import size_of, strip
from rawbpf.btf.types import Array, Datasec, Enum, FuncProto, Fwd, Ptr, Struct, Void
from rawbpf.elf.container import R_BPF_64_ABS64, STT_FUNC, STT_SECTION
from rawbpf.elf.legacy_maps import OUTER, read_legacy
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.map import PIN_BY_NAME, MapSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.btf import Btf
    from rawbpf.btf.types import Member, Type
    from rawbpf.elf.container import Container, Section

MAPS = ".maps"
_POINTER = 8
_MASK64 = (1 << 64) - 1
_NUMBERS = ("type", "max_entries", "map_flags", "numa_node", "key_size", "value_size", "map_extra", "pinning")
_FIELDS = (*_NUMBERS, "key", "value", "values")


class Definitions:
    """The maps that an object defines, by name; `at`: their names by (section's index, byte) of the definition.

    `arrays`: program arrays by the number that sections of programs name them by. `declared`: what other objects are
    to define.
    """

    __slots__ = ("arrays", "at", "declared", "maps", "slots")

    def __init__(self) -> None:
        self.maps: dict[str, MapSpec] = {}
        self.at: dict[tuple[int, int], str] = {}
        self.arrays: dict[int, MapSpec] = {}
        self.declared: dict[str, MapSpec] = {}
        # (first byte, end, name) of each definition's `values`, which relocations fill.
        self.slots: list[tuple[int, int, str]] = []


def read_definitions(elf: Container, btf: Btf | None) -> Definitions:
    """Return the maps that the object defines.

    Raises: SpecError for a definition that contradicts itself or that has no BTF, FormatError for
    damaged bytes.
    """
    out = Definitions()
    for legacy in read_legacy(elf, btf):
        _add(out, legacy.spec, legacy.place)
        if legacy.id and legacy.spec.map_type == c.BPF_MAP_TYPE_PROG_ARRAY:
            out.arrays.setdefault(legacy.id, legacy.spec)
    section = elf.find(MAPS)
    definitions = btf.find(MAPS, Datasec) if btf is not None else None
    if section is None or not section.size:
        _declared(elf, definitions, out)
        return out
    if btf is None:
        raise SpecError("section '.maps' needs types, but there is no .BTF section: compile with -g")
    if definitions is None:
        raise SpecError("section '.maps' has no types in BTF: compile with clang 10 or later and -g")
    _declared(elf, definitions, out)
    for variable, offset, size in definitions.variables:
        name = variable.name
        if name in out.declared:
            continue
        definition = strip(variable.type)
        if not isinstance(definition, Struct):
            raise SpecError(f"map {name!r} is defined by a {definition.kind_name} and not by a struct")
        if offset + size > section.size:
            raise FormatError(f"map {name!r} (bytes {offset} to {offset + size}) lies outside .maps", section.offset)
        _add(out, _definition(name, definition), (section.index, offset))
        values = next((member for member in definition.members if member.name == "values"), None)
        if values is not None:
            out.slots.append((offset + values.bit_offset // 8, offset + size, name))
    _initial_values(elf, section, out)
    return out


def _declared(elf: Container, definitions: Datasec | None, out: Definitions) -> None:
    needed = {symbol.name for symbol in elf.symbols if symbol.is_needed}
    for variable, _, _ in definitions.variables if definitions is not None and needed else ():
        definition = strip(variable.type)
        if variable.name in needed and isinstance(definition, Struct):
            out.declared[variable.name] = _definition(variable.name, definition)


def _add(out: Definitions, spec: MapSpec, place: tuple[int, int]) -> None:
    if spec.name in out.maps or place in out.at:
        raise SpecError(f"map {spec.name!r} is defined twice")
    out.maps[spec.name] = spec
    out.at[place] = spec.name


def _definition(name: str, definition: Struct, *, inner: bool = False) -> MapSpec:
    spec = MapSpec(name, c.BPF_MAP_TYPE_UNSPEC, section=MAPS)
    given: dict[str, int] = {}
    for member in definition.members:
        field = member.name
        if field in _NUMBERS:
            given[field] = _number(name, member)
        elif field == "key":
            spec.key, spec.key_type_id, spec.key_size = _pointed(name, member)
        elif field == "value":
            spec.value, spec.value_type_id, spec.value_size = _pointed(name, member)
        elif field != "values":
            raise SpecError(f"map {name!r}: unknown field {field!r}; known are {' '.join(_FIELDS)}")
    if "type" not in given:
        raise SpecError(f"map {name!r}: no type is given: __uint(type, BPF_MAP_TYPE_...)")
    spec.map_type = given["type"]
    spec.max_entries = given.get("max_entries", 0)
    spec.map_flags = given.get("map_flags", 0)
    spec.map_extra = given.get("map_extra", 0)
    spec.numa_node = given.get("numa_node")
    spec.pinning = given.get("pinning", 0)
    if spec.pinning not in (0, PIN_BY_NAME):
        raise SpecError(f"map {name!r}: pinning {spec.pinning} is neither LIBBPF_PIN_NONE nor LIBBPF_PIN_BY_NAME")
    if inner and spec.pinning:
        raise SpecError(f"map {name!r}: an inner map cannot be pinned")
    spec.key_size = _size(name, "key", spec.key, spec.key_size, given.get("key_size"))
    spec.value_size = _size(name, "value", spec.value, spec.value_size, given.get("value_size"))
    values = next((member for member in definition.members if member.name == "values"), None)
    if values is not None:
        _values(spec, values, inner=inner)
    return spec


def _number(name: str, member: Member) -> int:
    target = strip(member.type)
    if isinstance(target, Enum):
        values = target.values
        if len(values) != 1:
            raise SpecError(f"map {name!r}: field {member.name!r} is an enum of {len(values)} values: use __ulong")
        return values[0][1] & _MASK64
    if isinstance(target, Ptr):
        array = strip(target.type)
        if isinstance(array, Array):
            return array.length
    raise SpecError(f"map {name!r}: field {member.name!r} is a {target.kind_name}: use __uint({member.name}, ...)")


def _pointed(name: str, member: Member) -> tuple[Type, int, int]:
    pointer = strip(member.type)
    if not isinstance(pointer, Ptr):
        raise SpecError(f"map {name!r}: field {member.name!r} is a {pointer.kind_name}: use __type({member.name}, ...)")
    target = pointer.type
    if isinstance(strip(target), (Fwd, FuncProto, Void)):
        what = str(target).rstrip(";")
        raise SpecError(f"map {name!r}: its {member.name} is of '{what}', which has no size: define it before the map")
    return target, target.id, size_of(target)


def _size(name: str, side: str, typed: Type | None, size: int, given: int | None) -> int:
    if given is None:
        return size
    if typed is not None and given != size:
        raise SpecError(f"map {name!r}: {side}_size is {given}, but its {side} type has {size} bytes")
    return given


def _values(spec: MapSpec, member: Member, *, inner: bool) -> None:
    name = spec.name
    array = strip(member.type)
    pointer = strip(array.type) if isinstance(array, Array) else None
    target = strip(pointer.type) if isinstance(pointer, Ptr) else None
    if inner:
        raise SpecError(f"map {name!r}: maps nest only once")
    if spec.value_size not in (0, 4):
        raise SpecError(f"map {name!r}: values of maps and programs have 4 bytes, not {spec.value_size}")
    spec.value_size = 4
    if spec.map_type == c.BPF_MAP_TYPE_PROG_ARRAY and isinstance(target, FuncProto):
        spec.key_size = spec.key_size or 4
    elif spec.map_type in OUTER and isinstance(target, Struct):
        spec.inner = _definition(f"{name}.inner", target, inner=True)
        spec.key_size = spec.key_size or 4
    else:
        raise SpecError(
            f"map {name!r}: 'values' is for maps of maps (pointers to a struct that defines a map) "
            "and for program arrays (pointers to functions)"
        )


def _initial_values(elf: Container, section: Section, out: Definitions) -> None:
    content = section.content
    order = elf.byteorder
    slots = sorted(out.slots)
    starts = [first for first, _, _ in slots]
    for offset, kind, symbol in elf.relocations(section):
        first, end, name = slots[index] if (index := bisect(starts, offset) - 1) >= 0 else (0, 0, "")
        if kind != R_BPF_64_ABS64 or offset >= end or (offset - first) % _POINTER or offset + _POINTER > len(content):
            label = elf.label(symbol)
            raise SpecError(f"section '.maps': the reference to {label!r} at byte {offset} is no value of a map")
        spec = out.maps[name]
        if spec.inner is not None:
            # Of a symbol that names the map GNU's assembler writes the place here as well.
            is_named = symbol.type != STT_SECTION
            addend = 0 if is_named else int.from_bytes(content[offset : offset + _POINTER], order)
            target = out.at.get((symbol.section, symbol.value + addend))
            if symbol.is_needed and symbol.name in out.declared:  # which another object defines
                target = symbol.name
            if target is None:
                raise SpecError(f"map {name!r}: its value {elf.label(symbol)!r} is no map of this object")
        else:
            if symbol.type != STT_FUNC:
                label = elf.label(symbol)
                raise SpecError(f"map {name!r}: its value {label!r} is no program of this object: is it static?")
            target = symbol.name
        spec.values[(offset - first) // _POINTER] = target
