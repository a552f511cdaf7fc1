"""What builders make does in the kernel what they say; each takes a number from the context and puts one there."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import pytest

from rawbpf import Program
from rawbpf.asm import Function, Instruction, Label, build
from rawbpf.asm.build import R0, R1, R2, R3, R6, R10

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("programs run there only")

Items = list[Instruction | Label]

X = 0x81706050403090F0
ALL = (1 << 64) - 1
LITTLE = sys.byteorder == "little"

# Names that came to the kernel's BTF with the instructions, or in the same release.
V3 = pytest.mark.needs("prog_type:syscall", "btf_name:BPF_FUNC_for_each_map_elem")
V4 = pytest.mark.needs("prog_type:syscall", "btf_name:BPF_TCX_INGRESS")
MAY_GOTO = pytest.mark.needs("prog_type:syscall", "btf_name:BPF_TOKEN_CREATE")
ORDERED = pytest.mark.needs("prog_type:syscall", "btf_name:check_load_mem")


def swapped(number: int, size: int, *, really: bool = True) -> int:
    low = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    return int.from_bytes(low, "big" if really else "little")


def atomic(*instructions: Instruction) -> Items:
    # On the stack lies 6, R1 is 3; the result is what lies there and, eight bits further, R1.
    return [
        build.store_imm(R10, -8, 6),
        build.mov_imm(R1, 3),
        *instructions,
        build.load_mem(R0, R10, -8),
        build.alu_imm(R1, "<<=", 8),
        build.alu_reg(R0, "+=", R1),
    ]


CASES = [
    pytest.param([build.mov_signed(R0, R1, 8)], ALL & -0x10, id="mov_signed 8", marks=V4),
    pytest.param([build.mov_signed(R0, R1, 16, bits=32)], 0xFFFF90F0, id="mov_signed 16 to 32", marks=V4),
    pytest.param([build.mov_signed(R0, R1, 32)], 0x403090F0, id="mov_signed 32", marks=V4),
    pytest.param([build.mov_imm(R0, -7), build.alu_imm(R0, "s/=", 2)], ALL & -3, id="s/= imm", marks=V4),
    pytest.param(
        [build.mov_imm(R0, -7), build.mov_imm(R1, 2), build.alu_reg(R0, "s%=", R1)], ALL & -1, id="s%= reg", marks=V4
    ),
    pytest.param([build.mov_imm(R0, 5), build.neg(R0, bits=32)], 0xFFFFFFFB, id="neg 32"),
    pytest.param([build.mov_reg(R0, R1), build.bswap(R0, 64)], swapped(X, 8), id="bswap 64", marks=V4),
    pytest.param([build.mov_reg(R0, R1), build.bswap(R0, 16)], 0xF090, id="bswap 16", marks=V4),
    pytest.param([build.mov_reg(R0, R1), build.to_be(R0, 32)], swapped(X, 4, really=LITTLE), id="to_be"),
    pytest.param([build.mov_reg(R0, R1), build.to_le(R0, 16)], swapped(X, 2, really=not LITTLE), id="to_le"),
    pytest.param(
        [build.store_imm(R10, -8, -5, 4), build.load_signed(R0, R10, -8, 4)], ALL & -5, id="load_signed", marks=V4
    ),
    pytest.param(atomic(build.atomic(R10, -8, "+=", R1)), 9 + 0x300, id="atomic +=", marks=V3),
    pytest.param(atomic(build.atomic(R10, -8, "|=", R1)), 7 + 0x300, id="atomic |=", marks=V3),
    pytest.param(atomic(build.atomic(R10, -8, "&=", R1)), 2 + 0x300, id="atomic &=", marks=V3),
    pytest.param(atomic(build.atomic(R10, -8, "^=", R1)), 5 + 0x300, id="atomic ^=", marks=V3),
    pytest.param(atomic(build.atomic_fetch(R10, -8, "+=", R1)), 9 + 0x600, id="fetch +=", marks=V3),
    pytest.param(atomic(build.atomic_fetch(R10, -8, "|=", R1)), 7 + 0x600, id="fetch |=", marks=V3),
    pytest.param(atomic(build.atomic_fetch(R10, -8, "&=", R1)), 2 + 0x600, id="fetch &=", marks=V3),
    pytest.param(atomic(build.atomic_fetch(R10, -8, "^=", R1)), 5 + 0x600, id="fetch ^=", marks=V3),
    pytest.param(atomic(build.atomic_exchange(R10, -8, R1)), 3 + 0x600, id="exchange", marks=V3),
    pytest.param(
        atomic(build.mov_imm(R0, 6), build.atomic_compare_exchange(R10, -8, R1), build.mov_reg(R1, R0)),
        3 + 0x600,
        id="compare_exchange",
        marks=V3,
    ),
    pytest.param(
        atomic(build.mov_imm(R0, 5), build.atomic_compare_exchange(R10, -8, R1), build.mov_reg(R1, R0)),
        6 + 0x600,
        id="compare_exchange of another",
        marks=V3,
    ),
    pytest.param(atomic(build.load_acquire(R1, R10, -8)), 6 + 0x600, id="load_acquire", marks=ORDERED),
    pytest.param(atomic(build.store_release(R10, -8, R1)), 3 + 0x300, id="store_release", marks=ORDERED),
    pytest.param(
        [
            build.mov_imm(R0, 1),
            build.jump_imm(R1, "==", 0, "zero"),
            build.jump_long("out"),
            Label("zero"),
            build.mov_imm(R0, 2),
            Label("out"),
        ],
        1,
        id="jump_long",
        marks=V4,
    ),
    pytest.param(
        [
            build.mov_imm(R0, 3),
            Label("again"),
            build.may_goto("out"),
            build.alu_imm(R0, "-=", 1),
            build.jump_imm(R0, "!=", 0, "again"),
            Label("out"),
        ],
        0,
        id="may_goto",
        marks=MAY_GOTO,
    ),
]


@pytest.mark.needs("prog_type:syscall")
@pytest.mark.parametrize(("code", "expected"), CASES)
def test_an_instruction_does_what_its_builder_says(backend: Backend, code: Items, expected: int) -> None:
    around: Items = [
        build.mov_reg(R6, R1),
        build.load_mem(R1, R6, 0),
        *code,
        build.store_reg(R6, 0, R0),
        build.mov_imm(R0, 0),
        build.exit_(),
    ]
    with Program.load("syscall", around) as program:
        assert struct.unpack("=Q", program.run(ctx=struct.pack("=Q", X)).ctx) == (expected,)


@pytest.mark.needs("prog_type:sched_cls")
def test_a_packet_is_read_in_the_byte_order_of_the_machine(backend: Backend) -> None:
    code: Items = [
        build.mov_reg(R6, R1),
        build.load_packet(2, 1),
        build.mov_reg(7, R0),
        build.mov_imm(8, 3),
        build.load_packet_indirect(8, 1, 2),
        build.alu_imm(R0, "<<=", 8),
        build.alu_reg(R0, "+=", 7),
        build.exit_(),
    ]
    with Program.load("tc", code) as program:
        assert program.run(bytes(range(64))).retval == 0x040502


@pytest.mark.needs("helper:xdp:loop")
def test_a_helper_by_name_calls_back(backend: Backend) -> None:
    code: Items = [
        build.mov_imm(R1, 4),
        build.ld_function(R2, "nothing"),
        build.mov_imm(R3, 0),
        build.mov_imm(4, 0),
        build.call("bpf_loop"),
        build.exit_(),
        Function("nothing", 2),
        build.mov_imm(R0, 0),
        build.exit_(),
    ]
    with Program.load("xdp", code) as program:
        assert program.run(bytes(64)).retval == 4
