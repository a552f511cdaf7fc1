"""Code as text: BPF instructions as a listing that the assembler reads, machine code by capstone.

A listing has names for the places that jumps and calls go to, so that it says the same after a line was
added. Nothing here knows programs or kernels; `program` reads the code of loaded ones.
"""

from __future__ import annotations

import re
import sys

from rawbpf.asm.instruction import FunctionReference, Instruction, LabelReference, decode
from rawbpf.asm.label import Function, Label
from rawbpf.asm.operand import NAME, Wrong
from rawbpf.asm.spelling import spell
from rawbpf.asm.statement import statement
from rawbpf.uapi.constants import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from rawbpf.asm.instruction import Line

    Items = list[Instruction | Label]

_GOTOL = 0x06
_NO_TARGET = (0x85, 0x8D, 0x95, 0x0D)  # calls, exit and gotox, among the jumps

# By machine: capstone's architecture, which newer releases call by the second name, and its mode.
_MACHINES = {
    "x86_64": ("X86", "X86", "64"),
    "i686": ("X86", "X86", "32"),
    "aarch64": ("ARM64", "AARCH64", "ARM"),
    "armv7l": ("ARM", "ARM", "ARM"),
    "ppc64le": ("PPC", "PPC", "64"),
    "riscv64": ("RISCV", "RISCV", "RISCV64"),
    "s390x": ("SYSZ", "SYSTEMZ", "BIG_ENDIAN"),
}


def disassemble(
    code: bytes | bytearray | memoryview | Iterable[Instruction | Label],
    *,
    byteorder: Literal["little", "big"] = sys.byteorder,
    functions: Mapping[int, str] | None = None,
    source: bool = True,
) -> str:
    """Return a listing of `code`: a line per instruction with its slot, labels and heads of functions.

    `code`: machine code of BPF, in `byteorder`, or instructions. `functions`: names by the slot at which each
    begins; others that are called are named after their slot, as are labels. Where there are labels in `code`,
    these are all. `source`: the source lines that instructions have stand above them, as comments.
    The listing assembles to the same instructions: `resolve(assemble(listing)).instructions`; with names of
    letters, digits, `_`, `.` and `$`.
    Raises: FormatError for bytes that are no instructions.
    """
    items: Items
    items = [*decode(bytes(code), byteorder)] if isinstance(code, bytes | bytearray | memoryview) else [*code]
    if not any(isinstance(item, Label) for item in items):
        items = _named([item for item in items if isinstance(item, Instruction)], functions or {})
    lines: list[str] = []
    at = 0
    for item in items:
        if isinstance(item, Label):
            lines += _head(item, first=not lines)
            continue
        if source and item.line is not None:
            lines += _comment(item.line)
        lines.append(f"{at:4}: {_text(item)}")
        at += item.slots
    return "".join(f"{line}\n" for line in lines)


def _head(label: Label, *, first: bool) -> list[str]:
    if not isinstance(label, Function):
        return [f"{label.name}:"]
    parameters = ", ".join(f"r{number}" for number in range(1, label.parameters + 1))
    head = f"{label.name}({parameters}):"
    return [head] if first else ["", head]


def _text(instruction: Instruction) -> str:
    text = spell(instruction)
    if instruction.reference is None and not _reads_back(instruction, text):
        i = instruction
        return f".insn 0x{i.opcode:02x} {i.dst} {i.src} {i.offset} {i.imm}"
    return text


def _reads_back(instruction: Instruction, text: str) -> bool:
    try:
        return statement(text) == instruction.replace(line=False, function=False, core=False)
    except Wrong:
        return False


def _named(instructions: list[Instruction], functions: Mapping[int, str]) -> Items:
    # Labels where jumps go to within their function, and heads where functions begin.
    places = _places(instructions)
    starts = {slot for slot in functions if slot in places}
    starts.update(to for at, i in places.items() if (to := _function_of(i, at)) in places)
    bounds = sorted({0, *starts})
    names = _Names(instructions)
    heads: dict[int, Label] = {slot: Function(names.function(slot, functions.get(slot, ""))) for slot in sorted(starts)}
    labels: dict[int, Label] = {}
    out: Items = []
    inside = 0
    for at, instruction in places.items():
        if inside + 1 < len(bounds) and at >= bounds[inside + 1]:
            inside += 1
        end = bounds[inside + 1] if inside + 1 < len(bounds) else sys.maxsize
        to = _target(instruction, at)
        if to in places and bounds[inside] <= to < end and _reads_back(instruction, spell(instruction)):
            label = labels.setdefault(to, Label(names.unused(f"L{to}")))
            instruction = instruction.replace(reference=LabelReference(label.name))  # noqa: PLW2901
        function = _function_of(instruction, at)
        if function in places and _reads_back(instruction, spell(instruction)):
            instruction = instruction.replace(reference=FunctionReference(heads[function].name))  # noqa: PLW2901
        out.append(instruction)
    return [
        part
        for at, instruction in zip(places, out, strict=True)
        for part in (heads.get(at), labels.get(at), instruction)
        if part is not None
    ]


class _Names:
    # Names that are not given twice, nor any that the instructions use already.

    def __init__(self, instructions: list[Instruction]) -> None:
        # What stands before the first head is called main.
        self._taken = {"main"}
        for instruction in instructions:
            if isinstance(instruction.reference, LabelReference | FunctionReference):
                self._taken.add(instruction.reference.name)

    def unused(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def function(self, slot: int, name: str) -> str:
        if slot == 0 and name == "main":
            return name
        return self.unused(name if re.fullmatch(NAME, name) else f"F{slot}")


def _places(instructions: list[Instruction]) -> dict[int, Instruction]:
    places = {}
    at = 0
    for instruction in instructions:
        places[at] = instruction
        at += instruction.slots
    return places


def _target(i: Instruction, at: int) -> int:
    # The slot that a jump by distance goes to; -1 for what is none.
    if i.opcode & 7 not in (5, 6) or i.opcode in _NO_TARGET or i.reference is not None:
        return -1
    return at + 1 + (i.imm if i.opcode == _GOTOL else i.offset)


def _function_of(i: Instruction, at: int) -> int:
    # The slot of the function that is called, or whose address is taken, by distance; -1 for what is none.
    if i.reference is not None:
        return -1
    if i.opcode == 0x85 and i.src == BPF_PSEUDO_CALL:
        return at + 1 + i.imm
    if i.opcode == 0x18 and i.src == BPF_PSEUDO_FUNC:
        distance = i.imm & 0xFFFFFFFF
        return at + 1 + distance - (distance >> 31 << 32)
    return -1


def disassemble_jited(
    code: bytes, *, address: int = 0, machine: str | None = None, lines: Mapping[int, Line] | None = None
) -> str:
    """Return a listing of machine code, as the kernel's compiler made it of a program.

    `address`: where the first byte lies, which targets of jumps are counted from. `machine`: as `uname -m` says it,
    this one if not given. Lines begin with their address in hexadecimal; bytes that are no instruction are shown as
    such. `lines`: source lines by the address at which what became of each begins, to stand above it as comments.
    Raises: ImportError without capstone; ValueError for a machine that is not known.
    """
    if machine is None:
        import os

        machine = os.uname().machine
    if machine not in _MACHINES:
        raise ValueError(f"machine code of {machine!r} cannot be read: known are {', '.join(_MACHINES)}")
    try:
        import capstone
    except ImportError as error:
        raise ImportError("machine code is read by capstone: pip install rawbpf[disasm]", name="capstone") from error
    older, newer, mode = _MACHINES[machine]
    architecture = getattr(capstone, f"CS_ARCH_{older}", None)
    if architecture is None:
        architecture = getattr(capstone, f"CS_ARCH_{newer}")
    reader = capstone.Cs(architecture, getattr(capstone, f"CS_MODE_{mode}"))
    reader.skipdata = True
    out: list[str] = []
    for at, _, mnemonic, operands in reader.disasm_lite(code, address):
        if lines and (line := lines.get(at)):
            out += _comment(line)
        out.append(f"{at:6x}: {f'{mnemonic} {operands}'.rstrip()}")
    return "".join(f"{line}\n" for line in out)


def _comment(line: Line) -> list[str]:
    # Compilers have lines of number 0, without a text.
    return [f"      ; {' '.join(str(line).split())}"] if line.text else []
