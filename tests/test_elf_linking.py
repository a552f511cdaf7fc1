"""A program and what it reaches become one row: each function once, in the order of first calls, distances right."""

from __future__ import annotations

import pytest
from support.objects import native

from rawbpf.asm import FunctionReference, Instruction, MapReference, build
from rawbpf.asm.instruction import decode, encode
from rawbpf.elf import parse
from rawbpf.errors import SpecError
from rawbpf.loader.link import function_starts, line_starts, link
from rawbpf.spec.program import ProgramSpec


def body(function: int, *calls: str) -> list[Instruction]:
    code = [build.call_function(name) for name in calls]
    return [build.mov_imm(0, function).replace(function=function), *code, build.exit_()]


def callees(linked: list[Instruction]) -> list[int]:
    # For each call: the mark (first instruction's imm) of the function to which its distance leads.
    at: dict[int, Instruction] = {}
    slot = 0
    for instruction in linked:
        at[slot] = instruction
        slot += instruction.slots
    return [
        at[slot + (i.imm if i.is_call else i.imm - (1 << 32) if i.imm >> 31 else i.imm) + 1].imm
        for slot, i in at.items()
        if (i.is_call and i.src == 1) or (i.opcode == 0x18 and i.src == 4)
    ]


def test_functions_are_appended_depth_first_on_first_call() -> None:
    functions = {"a": body(1, "b", "c"), "b": body(2, "c"), "c": body(3), "d": body(4), "unused": body(5)}
    linked = link(ProgramSpec("main", body(0, "a", "d", "a")), functions)
    assert [mark for _, mark in function_starts(linked)] == [0, 1, 2, 3, 4]
    assert callees(linked) == [1, 4, 1, 2, 3, 3]
    assert all(instruction.reference is None for instruction in linked)


def test_a_program_that_calls_nothing_is_its_own_instructions() -> None:
    program = ProgramSpec("main", body(0))
    assert link(program, {}) == program.instructions


def test_what_runs_when_a_program_throws_comes_last_unless_it_is_called() -> None:
    functions = {"a": body(1), "thrown": body(2, "b"), "b": body(3)}
    linked = link(ProgramSpec("main", body(0, "a"), exception_callback="thrown"), functions)
    assert [mark for _, mark in function_starts(linked)] == [0, 1, 2, 3]
    linked = link(ProgramSpec("main", body(0, "thrown", "a"), exception_callback="thrown"), functions)
    assert [mark for _, mark in function_starts(linked)] == [0, 2, 3, 1]
    with pytest.raises(SpecError, match="its exception callback 'c' is no function of the object"):
        link(ProgramSpec("main", body(0), exception_callback="c"), functions)


def test_recursion_and_calls_of_the_program_itself_end() -> None:
    main = body(0, "a", "main")
    linked = link(ProgramSpec("main", main), {"a": body(1, "a", "b"), "b": body(2, "a"), "main": main})
    assert [mark for _, mark in function_starts(linked)] == [0, 1, 2, 0]
    assert callees(linked) == [1, 0, 1, 2, 1, 1, 0]


def test_a_callbacks_address_is_counted_across_64_bit_loads() -> None:
    main = [
        build.ld_imm64(1, 5),
        build.ld_function(2, "back"),
        build.ld_map_fd(1, "m"),
        build.call_function("last"),
        build.exit_(),
    ]
    linked = link(
        ProgramSpec("main", main), {"back": [build.mov_imm(0, 9), build.exit_()], "last": [build.mov_imm(0, 8)]}
    )
    assert callees(linked) == [9, 8]
    assert linked[1].imm == 8 - 2 - 1
    assert linked[2].reference == MapReference("m")


def test_a_function_before_its_caller_is_reached_by_a_negative_distance() -> None:
    loads = [build.ld_function(2, "a"), build.exit_()]
    linked = link(ProgramSpec("main", body(0, "a")), {"a": [build.mov_imm(0, 7), *loads]})
    assert callees(linked) == [7, 7]
    assert decode(encode(linked, "little"), "little")[4].imm == 0xFFFFFFFE


def test_linking_changes_neither_the_program_nor_the_functions() -> None:
    functions = {"a": body(1, "b"), "b": body(2)}
    program = ProgramSpec("main", body(0, "a"))
    link(program, functions)
    assert functions == {"a": body(1, "b"), "b": body(2)}
    assert program.instructions == body(0, "a")


def test_a_function_that_does_not_exist_is_named_with_its_caller() -> None:
    with pytest.raises(SpecError, match="program 'main': 'a' calls 'nowhere'"):
        link(ProgramSpec("main", body(0, "a")), {"a": body(1, "nowhere")})


def test_a_chain_of_functions_as_long_as_an_object_can_hold_does_not_exhaust_the_stack() -> None:
    functions = {f"f{n}": body(n, f"f{n + 1}") for n in range(5000)} | {"f5000": body(5000)}
    assert len(function_starts(link(ProgramSpec("main", body(0, "f0")), functions))) == 5002


def test_slots_of_lines_and_functions_follow_the_layout_of_the_linked_program() -> None:
    shapes = parse(native("shapes").read_bytes(), "shapes")
    linked = link(shapes.programs["count_execve"], shapes.functions)
    assert shapes.btf is not None
    assert [shapes.btf[function].name for _, function in function_starts(linked)] == [
        "count_execve",
        "count_up",
        "leveled",
        "twice",
    ]
    starts = dict(line_starts(linked))
    assert all(slot in starts for slot, _ in function_starts(linked))
    assert not any(isinstance(instruction.reference, FunctionReference) for instruction in linked)
