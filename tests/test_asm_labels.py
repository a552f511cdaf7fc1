"""Labels and functions: what stands by name becomes distances, and the kernel runs it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from rawbpf import Program, SpecError
from rawbpf.asm import Function, Instruction, Label, resolve
from rawbpf.asm.build import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R10,
    alu_imm,
    call,
    call_function,
    exit_,
    jump,
    jump_imm,
    ld_function,
    ld_imm64,
    load_mem,
    mov_imm,
    mov_reg,
    store_imm,
    store_reg,
)
from rawbpf.spec.function import describe_functions
from rawbpf.syscall.btf import btf_load

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

BPF_LOOP = 181

Items = list[Instruction | Label]


def test_a_jump_goes_to_the_label_before_or_behind_it_over_loads_of_two_slots() -> None:
    back: list[Instruction | Label] = [
        Label("again"),
        ld_imm64(R0, 7),
        jump_imm(R0, "==", 7, "end"),
        jump("again"),
        Label("end"),
        exit_(),
    ]
    assert [i.offset for i in resolve(back).instructions] == [0, 1, -4, 0]


def test_a_label_belongs_to_its_function() -> None:
    items: Items = [
        jump("end"),
        Label("end"),
        exit_(),
        Function("other"),
        jump("end"),
        Label("end"),
        exit_(),
    ]
    resolved = resolve([*items[:2], call_function("other"), *items[2:]])
    assert [i.offset for i in resolved.instructions] == [0, 0, 0, 0, 0]
    assert resolved.instructions[1].imm == 1
    assert resolved.functions == [(Function("main", 1), 0), (Function("other"), 3)]
    assert not resolved.callbacks


@pytest.mark.parametrize(
    ("items", "message"),
    [
        pytest.param([jump("nowhere"), exit_()], "no label 'nowhere' in 'main'", id="no-label"),
        pytest.param([Label("a"), Label("a"), exit_()], "two labels 'a' in 'main'", id="two-labels"),
        pytest.param([call_function("f"), exit_()], "no function 'f'", id="no-function"),
        pytest.param([exit_(), Function("f"), exit_(), Function("f"), exit_()], "two functions 'f'", id="two"),
        pytest.param([exit_(), Function("f")], "'f' has no instructions", id="empty-at-the-end"),
        pytest.param([Function("f"), Function("g"), exit_()], "'f' has no instructions", id="empty"),
        pytest.param(
            [jump("far"), *([mov_imm(R0, 0)] * 32768), Label("far"), exit_()],
            "a jump reaches 32767 slots",
            id="too-far",
        ),
    ],
)
def test_a_name_that_means_nothing_or_too_much_is_told(items: Items, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        resolve(items)


def test_what_is_no_instruction_is_told() -> None:
    with pytest.raises(TypeError, match="expected an Instruction, a Label or a Function, got 'r0 = 0'"):
        resolve([mov_imm(R0, 0), "r0 = 0"])  # type: ignore[list-item]


def test_a_function_takes_at_most_five_parameters() -> None:
    with pytest.raises(ValueError, match="0 to 5 parameters, not 6"):
        Function("f", 6)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:syscall:loop")
def test_the_kernel_calls_a_callback_by_the_btf_that_is_made_for_it(backend: Backend) -> None:
    resolved = resolve(
        [
            store_imm(R10, -8, 0),
            load_mem(R1, R1, 0),
            ld_function(R2, "add"),
            mov_reg(R3, R10),
            alu_imm(R3, "+=", -8),
            mov_imm(R4, 0),
            call(BPF_LOOP),
            load_mem(R0, R10, -8),
            exit_(),
            Function("add", 2),
            load_mem(R1, R2, 0),
            jump_imm(R1, ">=", 5, "enough"),
            alu_imm(R1, "+=", 1),
            store_reg(R2, 0, R1),
            mov_imm(R0, 0),
            exit_(),
            Label("enough"),
            mov_imm(R0, 1),
            exit_(),
        ]
    )
    assert resolved.callbacks == {"add"}
    types, func_info = describe_functions(resolved.functions, backend.host.byteorder)
    btf = btf_load(backend, types)
    try:
        with Program.load("syscall", resolved.instructions, btf_fd=btf, func_info=func_info) as program:
            assert [program.run(ctx=struct.pack("=Q", n)).retval for n in (0, 3, 100)] == [0, 3, 5]
    finally:
        backend.close(btf)
