"""Assembler text to instructions: statements line by line, with labels, functions and comments between them.

What an instruction looks like is in `statement`. Whether a label exists is asked by `resolve`; here only
functions are known by name, since a call of a helper looks the same.
"""

from __future__ import annotations

import re

from rawbpf.asm.instruction import Line
from rawbpf.asm.label import Function, Label
from rawbpf.asm.operand import NAME, Wrong
from rawbpf.asm.statement import statement
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.asm.instruction import Instruction

_COMMENT = re.compile(r"//.*|;.*|(?:^|(?<=\s))#.*")
_NUMBER = re.compile(r"^\d+:\s*(?:\([0-9a-f]{2}\)\s*)?")
_FUNCTION = re.compile(rf"(?P<name>{NAME})\s*\((?P<parameters>[^)]*)\)\s*:\s*")
_LABEL = re.compile(rf"(?P<name>{NAME})\s*:\s*")
_SHOWN = 120
_PARAMETERS = ["r1", "r2", "r3", "r4", "r5"]


def assemble(text: str, *, file_name: str | None = None) -> list[Instruction | Label]:
    """Return the instructions, labels and functions of `text`, for `Program.load` or `resolve`.

    A line has a statement as `str(instruction)` writes it, a label `out:`, or the head of a function with the
    registers that are its parameters, `add(r1, r2):`. `//`, `;`, and a `#` that begins a line or stands behind a
    space, start a comment. What a line begins with in a verifier's log or a listing, such as `12: (b7)`, is skipped.
    `file_name`: gives each instruction its line, which errors of the verifier then name.

    Raises: FormatError with the number of the line, the line, and what was expected.
    """
    lines = text.splitlines()
    parts = list(_parts(lines))
    functions = {part.name for _, part in parts if isinstance(part, Function)}
    items: list[Instruction | Label] = []
    for number, part in parts:
        if isinstance(part, Label):
            items.append(part)
            continue
        line = lines[number - 1].strip()
        try:
            instruction = statement(part, functions)
        except Wrong as wrong:
            raise _error(number, line, str(wrong)) from None
        if file_name is not None:
            instruction.line = Line(file_name, line, number)
        items.append(instruction)
    return items


def _parts(lines: list[str]) -> Iterator[tuple[int, Label | str]]:
    # The number of each line that has something, and what that is: labels, functions, and statements as text.
    for number, line in enumerate(lines, 1):
        rest = _NUMBER.sub("", _COMMENT.sub("", line).strip(), count=1)
        at = 0
        while found := _FUNCTION.match(rest, at) or _LABEL.match(rest, at):
            groups = found.groupdict()
            if "parameters" in groups:
                yield number, Function(groups["name"], _count(number, line, groups["parameters"]))
            else:
                yield number, Label(groups["name"])
            at = found.end()
        if at < len(rest):
            yield number, " ".join(rest[at:].split())


def _count(number: int, line: str, parameters: str) -> int:
    names = [name.strip() for name in parameters.split(",")] if parameters.strip() else []
    if names != _PARAMETERS[: len(names)]:
        raise _error(number, line.strip(), "parameters are the registers from r1 on, at most five: add(r1, r2):")
    return len(names)


def _error(number: int, line: str, expected: str) -> FormatError:
    shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
    return FormatError(f"line {number}: {shown!r}: {expected}")
