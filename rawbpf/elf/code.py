"""Functions and what their instructions refer to.

Sections of code become functions by their symbols, relocations become references by name, and
`.BTF.ext` gives instructions their lines, functions and CO-RE records. Which function is a program
is decided here too: a global one outside `.text`.

Source: Documentation/bpf/llvm_reloc.rst, tools/lib/bpf/libbpf.c:bpf_program__record_reloc (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    LD_IMM64,
    FunctionReference,
    KernelReference,
    Line,
    MapReference,
    SymbolReference,
    decode,
)
from rawbpf.elf.container import (
    R_BPF_64_32,
    R_BPF_64_64,
    STB_LOCAL,
    STT_FUNC,
    STT_SECTION,
)
from rawbpf.errors import FormatError, SpecError
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.ext import BtfExt
    from rawbpf.elf.container import Container, Section, Symbol
    from rawbpf.elf.externs import Extern

_CALL = 0x85
_TEXT = ".text"
_MAX_ALIASES = 16


class Function:
    """A function of the object."""

    __slots__ = ("instructions", "is_program", "name", "section")

    def __init__(self, name: str, section: Section, instructions: list[Instruction], symbol: Symbol) -> None:
        self.name = name
        self.section = section.name
        self.instructions = instructions
        self.is_program = not is_subprogram(symbol, section)


def is_subprogram(symbol: Symbol, section: Section) -> bool:
    """Return whether the function at `symbol`, in `section`, is no program: static, or in `.text`."""
    return symbol.bind == STB_LOCAL or section.name == _TEXT or section.name.startswith(_TEXT + ".")


class _Code:
    # A section of code: its instructions by the byte at which they begin, its functions by theirs.
    __slots__ = ("at", "functions", "section")

    def __init__(self, section: Section, at: dict[int, Instruction]) -> None:
        self.section = section
        self.at = at
        self.functions: dict[int, str] = {}


def read_functions(
    elf: Container,
    maps_at: Mapping[tuple[int, int], str],
    data_sections: Mapping[int, str],
    externs: Mapping[str, Extern],
    ext: BtfExt | None,
) -> list[Function]:
    """Return every function of the object, its instructions symbolic.

    `maps_at`: the names of maps by (section's index, byte) of their definition; `data_sections`: the names of data
    maps by their section's index; `externs`: what the names of undefined symbols stand for.

    Raises: FormatError for damaged code, SpecError for references to what cannot be had.
    """
    codes = {s.index: _decoded(elf, s) for s in elf.sections if s.is_code and s.size}
    _no_namesakes(codes)
    functions = _functions(elf, codes)
    for code in codes.values():
        _relocate(elf, code, codes, maps_at, data_sections, externs)
        _local_calls(code)
        if ext is not None:
            _annotate(code, ext)
    return functions


def _no_namesakes(codes: Mapping[int, _Code]) -> None:
    # .BTF.ext knows sections by name only.
    seen: set[str] = set()
    for code in codes.values():
        if code.section.name in seen:
            raise FormatError(f"two sections of code are called {code.section.name!r}", code.section.offset)
        seen.add(code.section.name)


def _decoded(elf: Container, section: Section) -> _Code:
    try:
        instructions = decode(section.content, elf.byteorder)
    except FormatError as error:
        where = section.offset + (error.offset or 0)
        raise FormatError(f"section {section.name!r}: {error}", where) from error
    at: dict[int, Instruction] = {}
    offset = 0
    for instruction in instructions:
        at[offset] = instruction
        offset += 8 * instruction.slots
    return _Code(section, at)


def _functions(elf: Container, codes: Mapping[int, _Code]) -> list[Function]:
    places: dict[int, list[Symbol]] = {index: [] for index in codes}
    for symbol in elf.symbols:
        if symbol.type == STT_FUNC and symbol.section in places:
            places[symbol.section].append(symbol)
    taken: dict[str, int] = {}
    out: list[Function] = []
    for index, symbols in places.items():
        code = codes[index]
        if not symbols:
            raise SpecError(f"section {code.section.name!r} holds code, but no symbol says where a function begins")
        # Global names come first, so that of an alias and a local name for one place the global one is kept.
        symbols.sort(key=lambda symbol: (symbol.value, symbol.bind == STB_LOCAL))
        offsets = sorted({symbol.value for symbol in symbols})
        ends = dict(zip(offsets, [*offsets[1:], code.section.size], strict=True))
        names: dict[int, int] = {}
        for symbol in symbols:
            names[symbol.value] = names.get(symbol.value, 0) + 1
            if names[symbol.value] > _MAX_ALIASES:
                # Each name has its own list of instructions, and a small file can hold very many names.
                raise SpecError(f"function {symbol.name!r} has more than {_MAX_ALIASES} names")
            name = _unique(symbol.name, taken)
            code.functions.setdefault(symbol.value, name)
            out.append(Function(name, code.section, _body(code, symbol, ends[symbol.value]), symbol))
    return out


def _unique(name: str, taken: dict[str, int]) -> str:
    # Static functions of several linked files may share a name; references need one each. `taken` counts them.
    unique = name
    while unique in taken:
        taken[name] += 1
        unique = f"{name}.{taken[name]}"
    taken[unique] = 1
    return unique


def _body(code: _Code, symbol: Symbol, following: int) -> list[Instruction]:
    # Hand-written assembly often gives no size: then a function ends where the next one begins.
    start, end = symbol.value, symbol.value + symbol.size if symbol.size else following
    if start not in code.at or (end not in code.at and end != code.section.size) or end > following:
        where = f"bytes {start} to {end} of section {code.section.name!r}"
        raise FormatError(
            f"function {symbol.name!r} ({where}) is no row of whole instructions of its own", code.section.offset
        )
    out: list[Instruction] = []
    while start < end:
        out.append(code.at[start])
        start += 8 * code.at[start].slots
    return out


def _relocate(
    elf: Container,
    code: _Code,
    codes: Mapping[int, _Code],
    maps_at: Mapping[tuple[int, int], str],
    data_sections: Mapping[int, str],
    externs: Mapping[str, Extern],
) -> None:
    with_maps = {index for index, _ in maps_at}
    for offset, kind, symbol in elf.relocations(code.section):
        instruction = code.at.get(offset)
        where = f"section {code.section.name!r}, byte {offset}"
        target = elf.section_of(symbol)
        if instruction is None:
            raise FormatError(f"{where}: a relocation that is at no instruction", code.section.offset + offset)
        if target is None:
            _refer(instruction, kind, symbol, externs, where)
        elif kind == R_BPF_64_32 and instruction.opcode == _CALL:
            # The immediate counts slots from the next instruction on: -1 is the symbol itself.
            place = symbol.value + 8 * (instruction.imm + 1)
            instruction.reference = _function(codes, target, place, symbol, where)
            instruction.src, instruction.imm = c.BPF_PSEUDO_CALL, -1
        elif kind == R_BPF_64_64 and instruction.opcode == LD_IMM64:
            place = symbol.value + _signed(instruction.imm)
            instruction.imm = 0
            if target.index in with_maps:
                if symbol.type != STT_SECTION:
                    # It names the map. GNU's assembler counts its place once more, in the instruction.
                    place = symbol.value
                if (target.index, place) not in maps_at:
                    raise FormatError(
                        f"{where}: no map is defined at byte {place} of {target.name}", code.section.offset + offset
                    )
                instruction.src = c.BPF_PSEUDO_MAP_FD
                instruction.reference = MapReference(maps_at[target.index, place])
            elif target.index in data_sections:
                instruction.src = c.BPF_PSEUDO_MAP_VALUE
                instruction.reference = MapReference(data_sections[target.index], place)
            elif target.index in codes:
                instruction.src = c.BPF_PSEUDO_FUNC
                instruction.reference = _function(codes, target, place, symbol, where)
            else:
                raise SpecError(
                    f"{where}: it refers to {symbol.name!r} in section {target.name!r}, which is no data of a program"
                )
        else:
            raise FormatError(f"{where}: relocation of type {kind} at '{instruction}'", code.section.offset + offset)


def _refer(instruction: Instruction, kind: int, symbol: Symbol, externs: Mapping[str, Extern], where: str) -> None:
    # What others define.
    extern = externs.get(symbol.name)
    if extern is None:
        _need(instruction, kind, symbol, where)
        return
    reference = extern.reference
    if kind == R_BPF_64_32 and instruction.opcode == _CALL and isinstance(reference, KernelReference):
        instruction.src, instruction.imm, instruction.reference = c.BPF_PSEUDO_KFUNC_CALL, 0, reference
        return
    if kind != R_BPF_64_64 or instruction.opcode != LD_IMM64:
        raise SpecError(f"{where}: '{instruction}' neither calls {symbol.name!r} nor loads its address")
    addend = _signed(instruction.imm)
    if isinstance(reference, MapReference):
        reference = MapReference(reference.name, (reference.offset or 0) + addend)
    elif addend:
        raise SpecError(
            f"{where}: of {symbol.name!r} only the address itself can be loaded, not one {addend:+d} from it"
        )
    instruction.src, instruction.imm, instruction.reference = extern.src, 0, reference


def _need(instruction: Instruction, kind: int, symbol: Symbol, where: str) -> None:
    # What another object may define: what it turns out to be decides what the instruction is to be.
    if not symbol.is_needed:
        raise SpecError(f"{where}: {symbol.name!r} is not defined in this object")
    if kind == R_BPF_64_32 and instruction.opcode == _CALL:
        instruction.src, instruction.imm, instruction.reference = c.BPF_PSEUDO_CALL, -1, SymbolReference(symbol.name)
    elif kind == R_BPF_64_64 and instruction.opcode == LD_IMM64:
        addend = _signed(instruction.imm)
        instruction.src, instruction.imm, instruction.reference = 0, 0, SymbolReference(symbol.name, addend)
    else:
        raise SpecError(f"{where}: '{instruction}' neither calls {symbol.name!r} nor loads its address")


def _signed(imm: int) -> int:
    # An addend before the symbol has its sign in the low half; older compilers leave the high half zero.
    imm &= 0xFFFFFFFF
    return imm - (1 << 32) if imm >> 31 else imm


def _function(codes: Mapping[int, _Code], target: Section, place: int, symbol: Symbol, where: str) -> FunctionReference:
    code = codes.get(target.index)
    name = code.functions.get(place) if code is not None else None
    if name is None:
        raise FormatError(f"{where}: no function begins at byte {place} of section {target.name!r} ({symbol.name!r})")
    return FunctionReference(name)


def _local_calls(code: _Code) -> None:
    # Calls within a section need no relocation, but the distance changes when functions are laid out anew.
    for offset, instruction in code.at.items():
        if instruction.opcode == _CALL and instruction.src == c.BPF_PSEUDO_CALL and instruction.reference is None:
            place = offset + 8 * (instruction.imm + 1)
            name = code.functions.get(place)
            if name is None:
                where = f"section {code.section.name!r}, byte {offset}"
                raise FormatError(
                    f"{where}: a call of byte {place}, where no function begins",
                    code.section.offset + offset,
                )
            instruction.reference, instruction.imm = FunctionReference(name), -1


def _annotate(code: _Code, ext: BtfExt) -> None:
    name = code.section.name
    for function in ext.func_info.get(name, ()):
        _instruction(code, function.offset).function = function.type_id
    for line in ext.line_info.get(name, ()):
        _instruction(code, line.offset).line = Line(
            line.file_name,
            line.text,
            line.line,
            line.column,
            file_name_offset=line.file_name_offset,
            text_offset=line.text_offset,
        )
    for relocation in ext.core_relo.get(name, ()):
        _instruction(code, relocation.offset).core = (relocation.type_id, relocation.access_offset, relocation.kind)


def _instruction(code: _Code, offset: int) -> Instruction:
    instruction = code.at.get(offset)
    if instruction is None:
        raise FormatError(f".BTF.ext: no instruction begins at byte {offset} of section {code.section.name!r}")
    return instruction
