"""Tables of functions for the kernel: each variable in a `.struct_ops` section is a map that holds one.

The variable is of a struct that the kernel has as well, and what its pointers to functions are
initialised with are programs. Which of the struct's members the kernel has is the loader's to find out.

Source: tools/lib/bpf/libbpf.c:init_struct_ops_maps, bpf_object__collect_st_ops_relos (v6.12).
"""

from __future__ import annotations

from bisect import bisect

from rawbpf.btf.layout import strip
from rawbpf.btf.types import Datasec, FuncProto, Ptr, Struct, Var
from rawbpf.elf.container import R_BPF_64_ABS64, SHT_PROGBITS, STT_FUNC
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.map import MapSpec
from rawbpf.spec.variable import VariableSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.base import Type
    from rawbpf.elf.container import Container, Section
    from rawbpf.spec.object import ObjectData

# By name, the flags of its maps.
_SECTIONS = {".struct_ops": 0, ".struct_ops.link": c.BPF_F_LINK}


class Tables:
    """The tables of one section, in the order of their bytes, and the bytes at which they start."""

    __slots__ = ("section", "specs", "starts")

    def __init__(self, section: Section) -> None:
        self.section = section
        self.starts: list[int] = []
        self.specs: list[MapSpec] = []

    @property
    def places(self) -> list[tuple[int, int]]:
        """Where they are, as (section's index, byte)."""
        return [(self.section.index, start) for start in self.starts]


def read_tables(elf: Container, out: ObjectData) -> list[Tables]:
    """Give `out`, which has its types already, a map and a variable for each table that the object defines.

    Raises: SpecError for a table without types, or that is no struct; FormatError for damaged bytes.
    """
    return [
        _read(section, out)
        for section in elf.sections
        if section.name.removeprefix("?") in _SECTIONS and section.type == SHT_PROGBITS and section.size
    ]


def _read(section: Section, out: ObjectData) -> Tables:
    types = None if out.btf is None else out.btf.find(section.name, Datasec)
    if types is None:
        raise SpecError(f"section {section.name!r} needs types, but BTF has none of it: compile with -g")
    tables, end = Tables(section), 0
    for variable, offset, _ in sorted(types.variables, key=lambda entry: entry[1]):
        spec = _table(section, variable)
        if spec.name in out.maps:
            raise SpecError(f"map {spec.name!r} is defined twice")
        if not end <= offset <= section.size - spec.value_size:
            where = f"(bytes {offset} to {offset + spec.value_size}) is not in {section.name!r} alone at its place"
            raise FormatError(f"variable {spec.name!r} {where}", section.offset)
        end = offset + spec.value_size
        spec.contents = bytearray(section.content[offset:end])
        tables.starts.append(offset)
        tables.specs.append(spec)
        out.maps[spec.name] = spec
        out.variables[spec.name] = VariableSpec(
            spec.name, spec, 0, spec.value_size, spec.value, byteorder=out.byteorder
        )
    return tables


def _table(section: Section, variable: Type) -> MapSpec:
    name, table = variable.name, strip(variable.type) if isinstance(variable, Var) else variable
    if not isinstance(table, Struct) or not table.name or not table.size:
        raise SpecError(f"{name!r} in section {section.name!r} is no struct with a name that the kernel may know")
    return MapSpec(
        name,
        c.BPF_MAP_TYPE_STRUCT_OPS,
        4,
        table.size,
        1,
        map_flags=_SECTIONS[section.name.removeprefix("?")],
        value=table,
        value_type_id=table.id,
        autocreate=not section.name.startswith("?"),
        section=section.name,
    )


def read_members(elf: Container, found: list[Tables], out: ObjectData) -> None:
    """Put the names of programs into the tables that were `found`; `out` has its programs by now.

    Raises: SpecError for what is no pointer to a function, and for functions that are no programs.
    """
    functions: dict[int, dict[int, str]] = {}
    for tables in found:
        for offset, kind, symbol in elf.relocations(tables.section):
            where = f"section {tables.section.name!r}, byte {offset}"
            index = bisect(tables.starts, offset) - 1
            if index < 0 or kind != R_BPF_64_ABS64:
                raise FormatError(f"{where}: relocation of type {kind} at no member", tables.section.offset)
            spec = tables.specs[index]
            assert isinstance(spec.value, Struct)
            if spec.value.id not in functions:
                functions[spec.value.id] = _functions(spec.value)
            member = functions[spec.value.id].get(offset - tables.starts[index])
            if member is None:
                label = elf.label(symbol)
                raise SpecError(f"{where}: in {spec.name!r} no pointer to a function is there for {label!r}")
            if symbol.type != STT_FUNC or symbol.name not in out.programs:
                raise SpecError(
                    f"table {spec.name!r}: {member} is {elf.label(symbol)!r}, which is no program of this object: "
                    f'is it static, or not in SEC("struct_ops/{member}")?'
                )
            spec.programs[member] = symbol.name


def _functions(table: Struct) -> dict[int, str]:
    # The names of pointers to functions, by their bytes.
    found: dict[int, str] = {}
    for name, type, bit_offset, _ in table.members:
        pointer = strip(type)
        if isinstance(pointer, Ptr) and isinstance(strip(pointer.type), FuncProto):
            found[bit_offset // 8] = name
    return found
