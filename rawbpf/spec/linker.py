"""Linking: several objects become one, whose parts refer to one another.

Names are resolved across the files, data sections of one name are laid one behind the other, and types are merged.
Works on what was read, where instructions refer by name: no file is written, and edits made before count. What no
file defines stays as it is, for another one to define.

Source: tools/lib/bpf/linker.c:bpf_linker__add_file, bpf_linker__finalize (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import FunctionReference, Line, MapReference, SymbolReference
from rawbpf.btf.btf import Btf
from rawbpf.btf.fixup import KSYMS
from rawbpf.btf.merge import Merger
from rawbpf.btf.types import Datasec
from rawbpf.errors import SpecError
from rawbpf.spec.config import ConfigSpec
from rawbpf.spec.config_layout import declared, lay_out
from rawbpf.spec.ksym import KsymSpec
from rawbpf.spec.map import KCONFIG, MapSpec
from rawbpf.spec.names import Names
from rawbpf.spec.object import ObjectData
from rawbpf.spec.resolution import one_of, resolve
from rawbpf.spec.symbol import Symbol
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.merge import Entry
    from rawbpf.btf.types import Func, Type, Var
    from rawbpf.spec.variable import VariableSpec

_MAX_VALUE = (1 << 31) - 1
_POINTER = 8


def link(files: Sequence[ObjectData], name: str) -> ObjectData:
    """Return the object called `name` that consists of `files`, which stay as they are.

    Raises: SpecError where they contradict one another; FormatError for damaged types.
    """
    if not files:
        raise SpecError("there are no objects to link")
    return _Linker([file.copy() for file in files], name).link()


class _Linker:
    def __init__(self, files: list[ObjectData], name: str) -> None:
        self._files = files
        self._out = ObjectData(
            name,
            byteorder=files[0].byteorder,
            license=one_of(files, "license", lambda file: file.license),
            kernel_version=one_of(files, "kernel version", lambda file: file.kernel_version),
        )
        one_of(files, "byte order", lambda file: file.byteorder)
        self._chosen = resolve(files)
        typed = [file.btf for file in files if file.btf is not None]
        if typed and len(typed) < len(files):
            bare = next(file for file in files if file.btf is None)
            raise SpecError(f"{bare.name} has no types and others have: compile it with -g")
        self._merger = Merger(typed) if typed else None
        self._numbered = {id(btf): number for number, btf in enumerate(typed)}
        self._names = Names(files, self._chosen)
        self._functions, self._maps = self._names.functions, self._names.maps
        # Where data sections of each file begin.
        self._starts: list[dict[str, int]] = [{} for _ in files]
        self._config: dict[str, int] = {}
        self._declared: dict[str, ConfigSpec] = {}
        self._replaced = [[*self._replaced_variables(number)] for number in range(len(files))]

    def link(self) -> ObjectData:
        self._lay_out()
        self._add_code()  # gives the types' strings those of source lines
        self._merge_types()
        self._add_maps()
        self._add_variables()
        self._add_ksyms()
        self._add_symbols()
        return self._out

    # Data ---------------------------------------------------------------------------

    def _lay_out(self) -> None:
        maps = self._out.maps
        for number, file in enumerate(self._files):
            for name, spec in file.maps.items():
                if not spec.is_data or name == KCONFIG:
                    continue
                whole = maps.get(name)
                if whole is None:
                    maps[name] = spec.copy()
                    self._starts[number][name] = 0
                    continue
                start = _round_up(whole.value_size, spec.alignment)
                if start + spec.value_size > _MAX_VALUE:
                    raise SpecError(f"section {name!r} of {start + spec.value_size} bytes is too large for a map")
                self._starts[number][name] = start
                if whole.contents is not None or spec.contents is not None:
                    gap = bytes(start - whole.value_size)
                    whole.contents = bytearray(_bytes(whole) + gap + _bytes(spec))
                whole.value_size = start + spec.value_size
                whole.alignment = max(whole.alignment, spec.alignment)
        self._declared = declared(self._files)
        if self._declared:
            maps[KCONFIG], self._config = lay_out(self._declared)

    def _place(self, number: int, section: str, offset: int) -> tuple[str, int]:
        # Where byte `offset` of the section of that file has gone.
        file = self._files[number]
        for name, symbol in self._replaced[number]:
            variable = file.variables.get(name)
            size = 1 if variable is None else variable.size
            if symbol.section == section and symbol.offset <= offset < symbol.offset + size:
                definer, definition = self._chosen[name]
                place, start = self._place_of(definer, definition)
                return place, start + offset - symbol.offset
        if section == KCONFIG:
            for variable in file.variables.values():
                if isinstance(variable, ConfigSpec) and variable.offset <= offset < variable.offset + variable.size:
                    return section, self._config[variable.name] + offset - variable.offset
        return self._begin(number, section, offset)

    def _replaced_variables(self, number: int) -> Iterator[tuple[str, Symbol]]:
        for name, symbol in self._files[number].symbols.items():
            if symbol.kind == "variable" and self._names.is_replaced(number, name):
                yield name, symbol

    def _place_of(self, number: int, symbol: Symbol) -> tuple[str, int]:
        return self._begin(number, symbol.section, symbol.offset)

    def _begin(self, number: int, section: str, offset: int) -> tuple[str, int]:
        return self._maps[number].get(section, section), self._starts[number].get(section, 0) + offset

    # Types --------------------------------------------------------------------------

    def _merge_types(self) -> None:
        if self._merger is None:
            return
        entries: dict[str, list[Entry]] = {}
        sizes: dict[str, int] = {}
        seen: set[tuple[str, str]] = set()
        for number, file in enumerate(self._files):
            for section in file.btf or ():
                if isinstance(section, Datasec):
                    self._add_entries(number, section, entries, sizes, seen)
        ids = {name: self._merger.section(name, sizes[name], content) for name, content in entries.items() if content}
        self._out.btf_bytes = self._merger.to_bytes()
        self._out.btf = btf = Btf.from_bytes(self._out.btf_bytes)
        for name, spec in self._out.maps.items():
            spec.value_type_id = ids.get(name, 0)
            spec.value = btf[ids[name]] if name in ids else None

    def _add_entries(
        self,
        number: int,
        section: Datasec,
        entries: dict[str, list[Entry]],
        sizes: dict[str, int],
        seen: set[tuple[str, str]],
    ) -> None:
        name = section.name
        whole = entries.setdefault(name, [])
        if name in self._out.maps:
            sizes[name] = self._out.maps[name].value_size
        elif name in ("license", "version") and whole:
            return
        start = _round_up(sizes.get(name, 0), _POINTER)
        for variable, offset, size in section.variables:
            if not self._stays(number, variable, name):
                continue
            if name in (KSYMS, KCONFIG):
                if (name, variable.name) in seen:
                    continue
                seen.add((name, variable.name))
            if name == KSYMS:
                place = size * len(whole)
            elif name == KCONFIG:
                place = self._config[variable.name]
            else:
                place = offset + self._starts[number].get(name, start)
            whole.append((number, variable.id, place, size))
            if name not in self._out.maps:
                sizes[name] = max(sizes.get(name, 0), place + size)

    def _stays(self, number: int, variable: Var | Func, section: str) -> bool:
        name = variable.name
        if section == KSYMS:
            return True
        if section == KCONFIG:
            return name in self._config
        symbol = self._files[number].symbols.get(name)
        if symbol is None or variable.linkage == "static":
            return True
        return symbol.defined and self._chosen[name][0] == number

    def _type(self, type: Type | None) -> Type | None:
        # The type in the whole; one that is of no file stays.
        if type is None or self._merger is None or id(type.btf) not in self._numbered or self._out.btf is None:
            return type
        return self._out.btf[self._merger.type(self._numbered[id(type.btf)], type.id)]

    # Maps, variables, symbols of the kernel -----------------------------------------

    def _add_maps(self) -> None:
        sections = dict(self._out.maps)
        self._out.maps.clear()
        for number, file in enumerate(self._files):
            for name, spec in file.maps.items():
                if spec.is_data:
                    continue
                if self._names.is_replaced(number, name):
                    if spec.map_type == c.BPF_MAP_TYPE_ARENA and spec.contents:
                        where = self._files[self._chosen[name][0]].name
                        raise SpecError(
                            f"{file.name} has variables in its arena {name!r}, in place of which is that of {where}: "
                            "define all variables of an arena in one object"
                        )
                    continue
                names = self._functions[number] if spec.inner is None else self._maps[number]
                spec.values = {index: names.get(held, held) for index, held in spec.values.items()}
                spec.programs = {at: self._functions[number].get(held, held) for at, held in spec.programs.items()}
                self._retype(number, spec)
                spec.name = self._maps[number][name]
                self._out.maps[spec.name] = spec
        self._out.maps.update(sections)
        self._out.find_arena()  # raises where there are two

    def _retype(self, number: int, spec: MapSpec) -> None:
        spec.key, spec.value = self._type(spec.key), self._type(spec.value)
        if self._merger is not None:
            spec.key_type_id = self._merger.type(number, spec.key_type_id)
            spec.value_type_id = self._merger.type(number, spec.value_type_id)
        if spec.inner is not None:
            self._retype(number, spec.inner)

    def _add_variables(self) -> None:
        out = self._out.variables
        for section, whole in self._out.maps.items():
            for number, file in enumerate(self._files):
                own = file.maps.get(section) if whole.is_data else whole  # which only its own file's variables are in
                inside = [v for v in file.variables.values() if v.map is own]
                for variable in sorted(inside, key=lambda v: v.offset):
                    place = self._place(number, section, variable.offset)
                    if self._is_out(number, variable) or (
                        isinstance(variable, ConfigSpec) and self._declared[variable.name] is not variable
                    ):
                        continue
                    new = variable.copy(whole)
                    new.offset, new.type = place[1], self._type(variable.type)
                    new.name = variable.name.removeprefix(f"{section}:").removesuffix(f"@{variable.offset}")
                    if new.name in out:  # as when such a file is read
                        new.name = f"{section}:{new.name}@{new.offset}"
                    out[new.name] = new

    def _is_out(self, number: int, variable: VariableSpec) -> bool:
        symbol = self._files[number].symbols.get(variable.name)
        return (
            symbol is not None
            and self._files[number].maps.get(symbol.section) is variable.map
            and symbol.offset == variable.offset
            and self._names.is_replaced(number, variable.name)
        )

    def _add_ksyms(self) -> None:
        found: dict[str, KsymSpec] = {}
        for file in self._files:
            for name, symbol in file.ksyms.items():
                known = found.get(name, symbol)
                if (known.type is None) != (symbol.type is None):
                    raise SpecError(
                        f"kernel symbol {name!r} is declared with a type in one file and without in another"
                    )
                found[name] = KsymSpec(name, known.type, weak=known.weak and symbol.weak, index=0)
        for index, name in enumerate(sorted(found), len(self._config)):
            found[name].index = index
            self._out.ksyms[name] = found[name]

    # Code ---------------------------------------------------------------------------

    def _add_code(self) -> None:
        out = self._out
        order: dict[str, None] = {}
        for number, file in enumerate(self._files):
            names = self._functions[number]
            for name, program in file.programs.items():
                if not self._names.is_replaced(number, name):
                    program.name = names[name]
                    program.exception_callback = names.get(program.exception_callback, program.exception_callback)
                    program.instructions = self._body(number, program.instructions)
                    out.programs[program.name] = program
            for name, body in file.functions.items():
                if not self._names.is_replaced(number, name):
                    out.functions[names[name]] = self._body(number, body)
            order.update(dict.fromkeys(names.get(name, name) for name in file.core_order))
        out.core_order = tuple(order)
        # A program that another file calls is a function, too.
        bodies = [*(program.instructions for program in out.programs.values()), *out.functions.values()]
        for body in bodies:
            for instruction in body:
                reference = instruction.reference
                if isinstance(reference, FunctionReference) and reference.name in out.programs:
                    out.functions.setdefault(reference.name, list(out.programs[reference.name].instructions))

    def _body(self, number: int, body: list[Instruction]) -> list[Instruction]:
        return [self._described(number, self._referring(number, instruction)) for instruction in body]

    def _referring(self, number: int, i: Instruction) -> Instruction:
        reference = i.reference
        if isinstance(reference, SymbolReference):
            return self._resolved(number, i, reference)
        if isinstance(reference, FunctionReference):
            return i.replace(reference=FunctionReference(self._functions[number].get(reference.name, reference.name)))
        if isinstance(reference, MapReference):
            if reference.offset is None:
                return i.replace(reference=MapReference(self._maps[number].get(reference.name, reference.name)))
            return i.replace(reference=MapReference(*self._place(number, reference.name, reference.offset)))
        return i

    def _resolved(self, number: int, i: Instruction, reference: SymbolReference) -> Instruction:
        if reference.name not in self._chosen:
            return i
        definer, symbol = self._chosen[reference.name]
        if symbol.kind == "variable" and not i.is_call:
            section, offset = self._place_of(definer, symbol)
            return i.replace(src=c.BPF_PSEUDO_MAP_VALUE, reference=MapReference(section, offset + reference.offset))
        if symbol.kind == "function" and not reference.offset:
            src = c.BPF_PSEUDO_CALL if i.is_call else c.BPF_PSEUDO_FUNC
            return i.replace(src=src, reference=FunctionReference(reference.name))
        if symbol.kind == "map" and not i.is_call and not reference.offset:
            return i.replace(src=c.BPF_PSEUDO_MAP_FD, reference=MapReference(reference.name))
        where, here = self._files[definer].name, self._files[number].name
        raise SpecError(f"{here}: '{i}' cannot refer to {reference.name!r}, which is a {symbol.kind} in {where}")

    def _described(self, number: int, i: Instruction) -> Instruction:
        merger = self._merger
        if merger is None or (i.line is None and i.function is None and i.core is None):
            return i
        return i.replace(
            line=None if i.line is None else self._line(number, i.line),
            function=None if i.function is None else merger.type(number, i.function),
            core=None
            if i.core is None
            else (merger.type(number, i.core[0]), merger.string(number, i.core[1]), i.core[2]),
        )

    def _line(self, number: int, line: Line) -> Line:
        assert self._merger is not None
        return Line(
            line.file_name,
            line.text,
            line.number,
            line.column,
            file_name_offset=self._merger.string(number, line.file_name_offset),
            text_offset=self._merger.string(number, line.text_offset),
        )

    def _add_symbols(self) -> None:
        for number, file in enumerate(self._files):
            for name, symbol in file.symbols.items():
                if self._chosen.get(name, (number,))[0] != number or name in self._out.symbols:
                    continue
                section, offset = self._place_of(number, symbol)
                declared = None if symbol.map is None else symbol.map.copy()  # copies of files share it
                if declared is not None:
                    self._retype(number, declared)
                self._out.symbols[name] = Symbol(
                    name,
                    symbol.kind,
                    defined=symbol.defined,
                    weak=symbol.weak,
                    type=self._type(symbol.type),
                    section=section,
                    offset=offset,
                    map=declared,
                )


def _bytes(spec: MapSpec) -> bytes:
    return bytes(spec.value_size) if spec.contents is None else bytes(spec.contents)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
