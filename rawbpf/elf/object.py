"""From the bytes of an object file to `ObjectData`: what is in it, by name.

Puts together what the neighbours read: container, map definitions, code. Makes no system call and
needs no privileges; the same bytes give the same data on every machine.

Source: tools/lib/bpf/libbpf.c:bpf_object__elf_collect (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import FunctionReference
from rawbpf.btf.btf import Btf
from rawbpf.btf.ext import BtfExt
from rawbpf.btf.fixup import fixup_datasecs
from rawbpf.btf.types import Datasec, DeclTag, Func, Var
from rawbpf.elf.code import is_subprogram, read_functions
from rawbpf.elf.container import (
    SHF_ALLOC,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_LOCAL,
    STT_FUNC,
    STT_SECTION,
    STV_HIDDEN,
    STV_INTERNAL,
    read,
)
from rawbpf.elf.externs import read_externs
from rawbpf.elf.linkage import read_symbols
from rawbpf.elf.maps import read_definitions
from rawbpf.elf.struct_ops import read_members, read_tables
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.map import MapSpec
from rawbpf.spec.object import ObjectData
from rawbpf.spec.program import ProgramSpec
from rawbpf.spec.variable import VariableSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.asm.instruction import Instruction
    from rawbpf.elf.code import Function
    from rawbpf.elf.container import Container, Section

_DATA = (".rodata", ".data", ".bss")
_CALLBACK = "exception_callback:"
ARENA = ".addr_space.1"
"""The section of variables in the address space 1, as LLVM calls it."""
_MAX_VALUE = (1 << 31) - 1


def parse(data: bytes | memoryview, name: str) -> ObjectData:
    """Return what the object file in `data` defines; `name` is the file's, for messages.

    Raises: FormatError for bytes that are no BPF object or a damaged one; SpecError for an object that
    asks for what cannot be had; ImportError without pyelftools.
    """
    elf = read(data, name)
    btf_bytes = _btf_bytes(elf)
    btf = Btf.from_bytes(btf_bytes) if btf_bytes else None
    if btf is not None and btf.byteorder != elf.byteorder:
        raise FormatError(f"{name}: the file is {elf.byteorder}-endian, but its .BTF section is not")
    out = ObjectData(
        name,
        byteorder=elf.byteorder,
        license=_license(elf),
        kernel_version=_kernel_version(elf),
        btf=btf,
        btf_bytes=btf_bytes,
        file=bytes(data),
    )
    definitions = read_definitions(elf, btf)
    out.maps.update(definitions.maps)
    tables = read_tables(elf, out)
    data_sections = _data_sections(elf, btf, out)
    _arena(elf, btf, out, data_sections)
    externs = read_externs(elf, out)
    extension = elf.find(".BTF.ext")
    ext = BtfExt.from_bytes(bytes(extension.content), btf) if extension is not None and btf is not None else None
    functions = read_functions(elf, definitions.at, data_sections, externs, ext)
    _functions(out, functions)
    defined = {*definitions.at, *(place for each in tables for place in each.places)}
    out.symbols.update(read_symbols(elf, btf, data_sections, defined, definitions.declared, externs))
    if btf is not None:
        _exception_callbacks(out, btf)
    if ext is not None:
        order = {section: place for place, section in enumerate(ext.core_relo)}
        related = [function for function in functions if function.section in order]
        out.core_order = tuple(f.name for f in sorted(related, key=lambda f: order[f.section]))
    _tail_calls(out, definitions.arrays)
    read_members(elf, tables, out)
    return out


def _btf_bytes(elf: Container) -> bytes:
    section = elf.find(".BTF")
    if section is None or not section.size:
        return b""
    # What only the linker knows: the sizes of data sections, and where global variables lie in them.
    places: dict[str, tuple[int, dict[str, int]]] = {s.name: (s.size, {}) for s in elf.sections if s.flags & SHF_ALLOC}
    for symbol in elf.symbols:
        of = elf.section_of(symbol)
        if (
            of is not None
            and of.name in places
            and symbol.bind != STB_LOCAL
            and symbol.type not in (STT_FUNC, STT_SECTION)
        ):
            places[of.name][1][symbol.name] = symbol.value
    return _hidden(elf, fixup_datasecs(bytes(section.content), places))


def _hidden(elf: Container, btf_bytes: bytes) -> bytes:
    # A hidden function is global for the linker only. The verifier checks global ones on their own, with
    # arguments of any value, and static ones with those of their calls: hidden ones are to be static, but programs.
    names = {
        symbol.name
        for symbol in elf.symbols
        if symbol.type == STT_FUNC
        and symbol.visibility in (STV_HIDDEN, STV_INTERNAL)
        and (section := elf.section_of(symbol)) is not None
        and is_subprogram(symbol, section)
    }
    if not names:
        return btf_bytes
    btf = Btf.from_bytes(btf_bytes)
    out = bytearray(btf_bytes)
    for name in names:
        function = btf.find(name, Func)
        if function is not None:
            info = btf.offset_of(function._at + 1)
            out[info : info + 4] = (Func.kind << 24).to_bytes(4, btf.byteorder)
    return bytes(out)


def _exception_callbacks(out: ObjectData, btf: Btf) -> None:
    # A tag of the program names it. Source: kernel/bpf/verifier.c:bpf_find_exception_callback_insn_off (v6.12)
    if _CALLBACK.encode() not in btf.strings:
        return
    for tag in btf:
        if isinstance(tag, DeclTag) and tag.name.startswith(_CALLBACK):
            program = out.programs.get(tag.type.name) if isinstance(tag.type, Func) else None
            if program is not None:
                program.exception_callback = tag.name.removeprefix(_CALLBACK)


def _license(elf: Container) -> str:
    section = elf.find("license")
    if section is None or section.type == SHT_NOBITS:
        return ""
    return bytes(section.content).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _kernel_version(elf: Container) -> int:
    section = elf.find("version")
    if section is None or section.type != SHT_PROGBITS:
        return 0
    if section.size != 4:
        raise FormatError(f"section 'version' has {section.size} bytes instead of 4", section.offset)
    return int.from_bytes(section.content, elf.byteorder)


def _data_sections(elf: Container, btf: Btf | None, out: ObjectData) -> dict[int, str]:
    # Each becomes an array of one value; the names by the section's index are returned.
    names: dict[int, str] = {}
    for section in elf.sections:
        if not _is_data(section):
            continue
        name = section.name
        if name in out.maps:
            raise SpecError(f"two data sections are called {name!r}")
        if section.size > _MAX_VALUE:
            raise FormatError(f"section {name!r} of {section.size} bytes is too large for a map", section.offset)
        constant = name.startswith(".rodata")
        types = btf.find(name, Datasec) if btf is not None else None
        names[section.index] = name
        out.maps[name] = spec = MapSpec(
            name,
            c.BPF_MAP_TYPE_ARRAY,
            4,
            section.size,
            1,
            # Variables are read and written through memory; programs may not write constants. String literals and
            # the like are no variables, also where clang says that there is a section of none.
            map_flags=(c.BPF_F_MMAPABLE if types is not None and types.variables else 0)
            | (c.BPF_F_RDONLY_PROG if constant else 0),
            value=types,
            value_type_id=types.id if types is not None else 0,
            contents=None if section.type == SHT_NOBITS else bytearray(section.content),
            frozen=constant,
            section=name,
            alignment=max(section.alignment, 1),
        )
        if types is not None:
            _variables(types, spec, section.size, out)
    return names


def _arena(elf: Container, btf: Btf | None, out: ObjectData, data_sections: dict[int, str]) -> None:
    # Variables in the arena: where in it they lie is settled when the size of a page is known.
    spec = out.find_arena()
    section = elf.find(ARENA)
    if section is None or section.type != SHT_PROGBITS or not section.size:
        return
    if spec is None:
        raise SpecError(f"variables in {ARENA!r} lie in an arena, and no map of type BPF_MAP_TYPE_ARENA is defined")
    if section.size > _MAX_VALUE:
        raise FormatError(f"section {ARENA!r} of {section.size} bytes is too large for a map", section.offset)
    spec.contents = bytearray(section.content)
    data_sections[section.index] = spec.name
    types = btf.find(ARENA, Datasec) if btf is not None else None
    if types is not None:
        _variables(types, spec, section.size, out)


def _is_data(section: Section) -> bool:
    if section.type not in (SHT_PROGBITS, SHT_NOBITS) or not section.flags & SHF_ALLOC or not section.size:
        return False
    return not section.is_code and any(section.name == stem or section.name.startswith(stem + ".") for stem in _DATA)


def _variables(types: Datasec, spec: MapSpec, room: int, out: ObjectData) -> None:
    for variable, offset, size in types.variables:
        if not isinstance(variable, Var):
            continue
        name = variable.name
        if offset + size > room:
            raise FormatError(
                f"variable {name!r} (bytes {offset} to {offset + size}) lies outside the {room} bytes of "
                f"section {types.name!r}"
            )
        if name in out.variables:  # static ones of several linked files
            name = f"{types.name}:{name}@{offset}"
        out.variables[name] = VariableSpec(
            name, spec, offset, size, variable.type, constant=spec.frozen, byteorder=out.byteorder
        )


def _functions(out: ObjectData, functions: list[Function]) -> None:
    bodies: dict[str, list[Instruction]] = {}
    for function in functions:
        bodies[function.name] = function.instructions
        if function.is_program:
            out.programs[function.name] = ProgramSpec.from_section(
                function.name, function.section, list(function.instructions)
            )
        else:
            out.functions[function.name] = function.instructions
    # A program may be called like any function; then it is both.
    for instructions in bodies.values():
        for instruction in instructions:
            reference = instruction.reference
            if isinstance(reference, FunctionReference) and reference.name in out.programs:
                out.functions[reference.name] = bodies[reference.name]


def _tail_calls(out: ObjectData, arrays: Mapping[int, MapSpec]) -> None:
    # iproute2's way: the section `1/2` is of the program at index 2 of the array whose id is 1.
    for program in out.programs.values():
        id, _, index = program.section.removeprefix("?").partition("/")
        if id.isdecimal() and index.isdecimal() and int(id) in arrays:
            arrays[int(id)].values[int(index)] = program.name
