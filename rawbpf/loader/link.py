"""Linking: a program and the functions it calls become one row of instructions.

The verifier wants the main program first and every subprogram it reaches behind it, called by
distance in slots. Pure: maps stay references by name, nothing is loaded.

Source: tools/lib/bpf/libbpf.c:bpf_object__reloc_code, kernel/bpf/verifier.c:add_subprog_and_kfunc (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import FunctionReference, SymbolReference, slots
from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.asm.instruction import Instruction, Line
    from rawbpf.spec.program import ProgramSpec


_ELSEWHERE = (
    "is not defined in this object: declare what is the kernel's with __ksym or __kconfig and compile with -g, "
    "and link this with the object that defines it otherwise (rawbpf.ObjectSpec.link)"
)


def link(program: ProgramSpec, functions: Mapping[str, list[Instruction]]) -> list[Instruction]:
    """Return `program`'s instructions with every function that they reach appended, calls resolved.

    `functions`: the object's functions by name. Each is appended once, in the order in which a walk
    that follows every call at once first meets it; the given lists are not changed.

    Raises: SpecError when a function that is called is not among them.
    """
    order = reached(program, functions)
    starts: dict[str | None, int] = {}
    at = 0
    for name, body in order.items():
        starts[name] = at
        at += slots(body)
    out: list[Instruction] = []
    at = 0
    for body in order.values():
        for instruction in body:
            at += instruction.slots
            reference = instruction.reference
            if not isinstance(reference, FunctionReference):
                out.append(instruction)
                continue
            # Both count from the slot behind the first one, so that a load's second slot is counted.
            delta = starts[reference.name] - (at - instruction.slots + 1)
            imm = delta if instruction.is_call else delta & 0xFFFFFFFF
            out.append(instruction.replace(imm=imm, reference=False))
    return out


def reached(program: ProgramSpec, functions: Mapping[str, list[Instruction]]) -> dict[str | None, list[Instruction]]:
    """Return `program`'s instructions and those of every function that they reach, by name, as they are to be laid out.

    The program's own key is None: it may be called as a function, too, and is then appended by its name.
    What the kernel calls when the program throws comes last, unless the program itself reaches it.
    Raises: SpecError when a function that is called is not among `functions`, and for what another object defines.
    """
    order: dict[str | None, list[Instruction]] = {None: program.instructions}
    _follow(program, program.name, program.instructions, functions, order)
    callback = program.exception_callback
    if callback and callback not in order:
        if callback not in functions:
            raise SpecError(
                f"program {program.name!r}: its exception callback {callback!r} is no function of the object"
            )
        order[callback] = functions[callback]
        _follow(program, callback, functions[callback], functions, order)
    return order


def _follow(
    program: ProgramSpec,
    name: str,
    body: list[Instruction],
    functions: Mapping[str, list[Instruction]],
    order: dict[str | None, list[Instruction]],
) -> None:
    # Adds to `order` what `body`, the function called `name`, reaches and is not there yet.
    path = [(name, iter(body))]
    while path:
        caller, rest = path[-1]
        for instruction in rest:
            reference = instruction.reference
            if isinstance(reference, SymbolReference):
                raise SpecError(
                    f"program {program.name!r}: {caller!r} refers to {reference.name!r}, which {_ELSEWHERE}"
                )
            if not isinstance(reference, FunctionReference) or reference.name in order:
                continue
            if reference.name not in functions:
                raise SpecError(
                    f"program {program.name!r}: {caller!r} calls {reference.name!r}, which the object does not define"
                )
            order[reference.name] = functions[reference.name]
            path.append((reference.name, iter(functions[reference.name])))
            break
        else:
            path.pop()


def function_starts(instructions: list[Instruction]) -> list[tuple[int, int]]:
    """Return (slot, BTF id) of each function in linked instructions, for `pack_func_info`."""
    out = []
    at = 0
    for instruction in instructions:
        if instruction.function is not None:
            out.append((at, instruction.function))
        at += instruction.slots
    return out


def line_starts(instructions: list[Instruction]) -> list[tuple[int, Line]]:
    """Return (slot, line) of each instruction that begins a source line."""
    out = []
    at = 0
    for instruction in instructions:
        if instruction.line is not None:
            out.append((at, instruction.line))
        at += instruction.slots
    return out
