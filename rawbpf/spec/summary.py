"""Specifications as text for people: what an object has, a line each, and code with its source lines.

Whatever the object says, the summary is bounded, making it raises nothing, and no name in it moves a terminal's cursor:
what cannot be shown is counted in bytes.
"""

from __future__ import annotations

from rawbpf.asm.disassembler import disassemble
from rawbpf.asm.instruction import FunctionReference
from rawbpf.btf.text import declare
from rawbpf.errors import FormatError, SpecError
from rawbpf.uapi.names import map_type_name, prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.types import Type
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.spec.variable import VariableSpec

_WIDEST = 60
# What nests counts once for each level, and spaces are left out: that many are enough for what is shown.
_MOST = 64 * _WIDEST
_LARGEST = 256


def summary(content: ObjectData) -> str:
    """Return what `content` has: license and byte order, then programs, maps and variables, a line each."""
    rows = {
        "programs": [_program(name, each, content.functions) for name, each in content.programs.items()],
        "maps": [_map(name, each) for name, each in content.maps.items()],
        "variables": [_variable(name, each) for name, each in content.variables.items()],
    }
    lines = [f"{content.name}: {content.license or 'no license'}, {content.byteorder}-endian"]
    for title, group in rows.items():
        if group:
            lines += [title, *_aligned(group)]
    return "\n".join(map(_visible, lines))


def listing(name: str, instructions: Iterable[Instruction], *, source: bool) -> str:
    """Return the code of one function, its calls by name, `source` lines above what became of them."""
    return disassemble(instructions, functions={0: name}, source=source)


def reached(instructions: Iterable[Instruction], functions: Mapping[str, list[Instruction]]) -> list[str]:
    """Return the names of the `functions` that `instructions` call, or take the address of, and theirs in turn."""
    found: dict[str, None] = {}
    waiting = [list(instructions)]
    while waiting:
        for instruction in waiting.pop():
            reference = instruction.reference
            if isinstance(reference, FunctionReference) and reference.name not in found:
                found[reference.name] = None
                waiting.append(functions.get(reference.name, []))
    return list(found)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _program(name: str, spec: ProgramSpec, functions: Mapping[str, list[Instruction]]) -> tuple[str, ...]:
    count = len(spec.instructions)
    others = len(reached(spec.instructions, functions))
    code = f"{count} {_plural('instruction', count)}"
    if others:
        code += f", {others} {_plural('subprogram', others)}"
    if not spec.autoload:
        code += ", not loaded unless asked"
    return name, prog_type_name(spec.prog_type), spec.section, code


def _map(name: str, spec: MapSpec) -> tuple[str, ...]:
    if spec.is_data:
        kind = "constant" if spec.frozen else "data"
        return name, map_type_name(spec.map_type), f"{spec.value_size} bytes", kind
    sides = [_side(spec.key, spec.key_size), _side(spec.value, spec.value_size)]
    what = [f"{spec.max_entries} {'entry' if spec.max_entries == 1 else 'entries'}"]
    if spec.map_flags:
        what.append(f"flags {spec.map_flags:#x}")
    if spec.map_extra:
        what.append(f"map_extra {spec.map_extra:#x}")
    if spec.pinning:
        what.append("pinned by name")
    if spec.inner is not None:
        what.append(f"of {map_type_name(spec.inner.map_type)} maps")
    if spec.values:
        what.append(f"{len(spec.values)} {_plural('slot', len(spec.values))} filled")
    return name, map_type_name(spec.map_type), " -> ".join(filter(None, sides)), ", ".join(what)


def _side(of: Type | None, size: int) -> str:
    if of is None:
        return f"{size} bytes" if size else ""
    return f"{_declared(of, '')} ({size} bytes)"


def _variable(name: str, spec: VariableSpec) -> tuple[str, ...]:
    declared = name if spec.type is None else _declared(spec.type, name)
    return declared, spec.map.name, f"= {_value(spec)}"


def _declared(of: Type, name: str) -> str:
    try:
        return _cut(" ".join(declare(of, name, _MOST).split()))
    except FormatError:
        return name or f"type {of.id}"


def _value(spec: VariableSpec) -> str:
    if spec.size <= _LARGEST:
        try:
            # Of bytes with more single values than bits only damaged types tell.
            codec = spec._codec()
            if codec is None or codec.leaves <= 8 * _LARGEST:
                return _cut(repr(spec.value))
        except (FormatError, SpecError, TypeError, ValueError):
            pass
    return f"{spec.size} bytes"


def _visible(line: str) -> str:
    return line if line.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
