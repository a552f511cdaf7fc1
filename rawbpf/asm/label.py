"""Places in code by name: labels that jumps go to, functions that are called or handed over as callbacks.

A program is written as a row of instructions with `Label`s and `Function`s between them; `resolve`
makes of it the instructions that the kernel takes, with distances in the place of names. References to
maps stay as they are. Pure, as the rest of asm.

Source: kernel/bpf/verifier.c:add_subprog_and_kfunc, check_subprogs (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import FunctionReference, Instruction, LabelReference
from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


_MAIN = "main"
_GOTOL = 0x06


class Label:
    """A place in the function that it stands in, before the instruction that follows it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label) and type(other) is type(self) and self.name == other.name

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Function(Label):
    """The begin of a function, which goes as far as the next one; what stands before the first is called `main`.

    `parameters`: how many it takes, at most 5. The main program is one that nothing names, and comes first.
    """

    __slots__ = ("parameters",)

    def __init__(self, name: str, parameters: int = 0) -> None:
        super().__init__(name)
        if not 0 <= parameters <= 5:
            raise ValueError(f"function {name!r}: a function takes 0 to 5 parameters, not {parameters}")
        self.parameters = parameters


class Resolved:
    """`instructions` without names of places, and each function with the slot that it begins at."""

    __slots__ = ("callbacks", "functions", "instructions")

    def __init__(
        self, instructions: list[Instruction], functions: list[tuple[Function, int]], callbacks: frozenset[str]
    ) -> None:
        self.instructions = instructions
        self.functions = functions
        self.callbacks = callbacks
        """The names of those whose address is taken, which the kernel wants BTF for."""


def resolve(items: Iterable[Instruction | Label]) -> Resolved:
    """Return the program of `items`: jumps go to labels of their own function, calls to functions.

    Raises: SpecError for a label or function that is not there, is there twice or is out of reach of a jump, and
    for a function without instructions.
    """
    found: list[tuple[Instruction, str]] = []
    functions: dict[str, tuple[Function, int]] = {}
    labels: dict[tuple[str, str], int] = {}
    at = 0
    inside = ""
    for item in items:
        if isinstance(item, Function):
            _must_not_be_empty(functions, at)
            if item.name in functions:
                raise SpecError(f"there are two functions {item.name!r}")
            functions[item.name] = item, at
            inside = item.name
            continue
        if not functions:
            functions[_MAIN] = Function(_MAIN, 1), 0
            inside = _MAIN
        if isinstance(item, Label):
            if (inside, item.name) in labels:
                raise SpecError(f"there are two labels {item.name!r} in {inside!r}")
            labels[inside, item.name] = at
            continue
        if not isinstance(item, Instruction):
            raise TypeError(f"expected an Instruction, a Label or a Function, got {item!r}")
        found.append((item, inside))
        at += item.slots
    _must_not_be_empty(functions, at)
    callbacks = set()
    instructions = []
    at = 0
    for instruction, inside in found:
        reference = instruction.reference
        if isinstance(reference, LabelReference):
            target = labels.get((inside, reference.name))
            if target is None:
                raise SpecError(f"{_place(instruction, at)}: there is no label {reference.name!r} in {inside!r}")
            instruction = _jumping(instruction, at, target)  # noqa: PLW2901
        elif isinstance(reference, FunctionReference):
            if reference.name not in functions:
                helper = ", and no helper" if reference.name.startswith("bpf_") else ""
                raise SpecError(f"{_place(instruction, at)}: there is no function {reference.name!r}{helper}")
            if not instruction.is_call:
                callbacks.add(reference.name)
            # Both count from the slot behind the first one, so that a load's second slot is counted.
            delta = functions[reference.name][1] - at - 1
            imm = delta if instruction.is_call else delta & 0xFFFFFFFF
            instruction = instruction.replace(imm=imm, reference=False)  # noqa: PLW2901
        instructions.append(instruction)
        at += instruction.slots
    return Resolved(instructions, list(functions.values()), frozenset(callbacks))


def _must_not_be_empty(functions: dict[str, tuple[Function, int]], at: int) -> None:
    if functions:
        last, start = next(reversed(functions.values()))
        if at == start:
            raise SpecError(f"function {last.name!r} has no instructions")


def _jumping(instruction: Instruction, at: int, target: int) -> Instruction:
    delta = target - at - 1
    if instruction.opcode == _GOTOL:
        return instruction.replace(imm=delta, reference=False)
    if not -(1 << 15) <= delta < 1 << 15:
        raise SpecError(f"{_place(instruction, at)}: a jump reaches 32767 slots, not {abs(delta)}")
    return instruction.replace(offset=delta, reference=False)


def _place(instruction: Instruction, at: int) -> str:
    line = "" if instruction.line is None else f", {instruction.line.file_name}:{instruction.line.number}"
    return f"instruction {at} ({instruction}{line})"
