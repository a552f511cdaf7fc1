"""Instructions are written as the kernel's verifier writes them in its log."""

from __future__ import annotations

import re
import sys
from ctypes import create_string_buffer
from typing import TYPE_CHECKING

import pytest

from rawbpf.asm import Instruction, assemble, build, encode, slots
from rawbpf.syscall.prog import prog_load

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_LINE = re.compile(r"^(\d+): \(([0-9a-f]{2})\) (.*?)(\s+;.*)?$")

# Every instruction is reached, so that the verifier's log at level 2 prints it. Context: a socket's sk_buff.
PROGRAM = [
    build.mov_reg(6, 1),
    build.mov_imm(0, -5),
    build.mov32_imm(1, 7),
    build.mov32_reg(2, 0),
    build.neg(2),
    *(
        build.alu_imm(0, op, 3, bits=64)
        for op in ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "%=", "^=", "s>>=")
    ),
    *(build.alu_reg(0, op, 1, bits=32) for op in ("+=", "-=", "*=", "/=", "|=", "&=", "%=", "^=")),
    Instruction(0xDC, 0, imm=16),  # be16
    Instruction(0xD4, 0, imm=64),  # le64
    build.store_imm(10, -8, -1, 8),
    build.store_imm(10, -16, 9, 4),
    build.store_reg(10, -12, 0, 2),
    build.store_reg(10, -10, 0, 1),
    build.store_reg(10, -24, 0),
    build.load_mem(3, 10, -8, 8),
    build.load_mem(3, 10, -16, 4),
    build.atomic_add(10, -8, 1),
    build.atomic_add(10, -16, 1, 4),
    build.ld_imm64(4, 0x123456789ABCDEF0),
    build.ld_imm64(4, -1),
    build.call(5),
    build.call(7),
    build.jump_imm(0, "==", 5, 0),
    build.jump_imm(0, "s>", -3, 0),
    build.jump_imm(0, "&", 4, 0),
    build.jump_imm(0, "<=", 9, 0, bits=32),
    build.mov_imm(1, 4),
    build.jump_reg(0, "s<", 1, 0),
    build.jump_reg(0, "!=", 1, 0, bits=32),
    build.jump(0),
    build.jump_long(0),
    build.may_goto(0),
    build.neg(1, bits=32),
    build.mov_imm(1, 300),
    *(build.alu_imm(1, op, 3) for op in ("s/=", "s%=")),
    *(build.alu_reg(1, op, 1, bits=32) for op in ("s/=", "s%=")),
    build.mov_signed(2, 1, 8),
    build.mov_signed(2, 1, 32),
    build.mov_signed(2, 1, 16, bits=32),
    build.bswap(2, 16),
    build.bswap(2, 64),
    build.to_be(2, 32),
    build.load_signed(2, 10, -8, 1),
    build.load_signed(2, 10, -8, 4),
    *(build.atomic(10, -8, op, 1) for op in ("+=", "|=", "&=", "^=")),
    *(build.atomic_fetch(10, -8, op, 1) for op in ("+=", "|=", "&=", "^=")),
    build.atomic_fetch(10, -16, "+=", 1, 4),
    build.atomic_exchange(10, -8, 1),
    build.atomic_compare_exchange(10, -8, 1),
    build.load_acquire(2, 10, -8),
    build.load_acquire(2, 10, -8, 1),
    build.store_release(10, -8, 1),
    build.store_release(10, -16, 1, 2),
    build.call_slot(4),
    build.load_packet(12, 1),
    build.load_packet_indirect(0, 4, 2),
    build.mov_imm(0, 0),
    build.exit_(),
    build.mov_imm(0, 1),
    build.exit_(),
]


@pytest.fixture
def lines(backend: Backend) -> list[str]:
    buffer = create_string_buffer(1 << 20)
    fd = prog_load(backend, prog_type=1, insns=encode(PROGRAM, sys.byteorder), log_level=2, log_buffer=buffer)
    backend.close(fd)
    return buffer.value.decode().splitlines()


@pytest.fixture
def log(lines: list[str]) -> dict[int, tuple[int, str]]:
    found = {}
    for line in lines:
        matched = _LINE.match(line)
        if matched:
            found[int(matched[1])] = (int(matched[2], 16), matched[3].strip())
    return found


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_each_instruction_reads_as_in_the_verifiers_log(log: dict[int, tuple[int, str]]) -> None:
    expected = {}
    slot = 0
    for instruction in PROGRAM:
        if slot in log:
            expected[slot] = (instruction.opcode, str(instruction))
        slot += instruction.slots
    assert log == expected
    assert len(log) == len(PROGRAM), f"{slots(PROGRAM)} slots"


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_the_verifiers_log_assembles_to_the_program(lines: list[str]) -> None:
    found = {int(matched[1]): line for line in lines if (matched := _LINE.match(line))}
    assert assemble("\n".join(found[slot] for slot in sorted(found))) == PROGRAM


CASES = [
    (Instruction(0xBF, 1, 2, 8), "r1 = (s8)r2"),
    (Instruction(0xBC, 1, 2, 16), "w1 = (s16)w2"),
    (Instruction(0x3F, 1, 2, 1), "r1 s/= r2"),
    (Instruction(0x97, 1, 0, 1, 5), "r1 s%= 5"),
    (Instruction(0xD7, 1, imm=32), "r1 = bswap32 r1"),
    (Instruction(0xBF, 1, 2, 1, 1 << 16), "r1 = addr_space_cast(r2, 1, 0)"),
    (Instruction(0x91, 1, 10, -4), "r1 = *(s8 *)(r10 -4)"),
    (Instruction(0xDB, 10, 1, -8, 0x01), "r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)"),
    (Instruction(0xC3, 10, 1, -8, 0xF1), "r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r1)"),
    (Instruction(0xDB, 10, 1, -8, 0xE1), "r1 = atomic64_xchg((u64 *)(r10 -8), r1)"),
    (Instruction(0xDB, 1, 10, -8, 0x100), "r1 = load_acquire((u64 *)(r10 -8))"),
    (Instruction(0xC3, 10, 1, -8, 0x110), "store_release((u32 *)(r10 -8), r1)"),
    (Instruction(0x06, imm=70000), "gotol pc+70000"),
    (Instruction(0xE5, offset=3), "may_goto pc+3"),
    (build.jump_indirect(1), "gotox r1"),
    (Instruction(0x48, 0, 2, imm=4), "r0 = *(u16 *)skb[r2 + 4]"),
    (Instruction(0x8D, 1), "callx r1"),
    (build.call_kfunc(77), "call kernel-function#77"),
    (build.call(4096), "call unknown#4096"),
    (build.call_function("f"), "call f"),
    (build.ld_map_fd(1, "m"), "r1 = map[m]"),
    (build.ld_map_value(1, ".data", 4), "r1 = map[.data]+4"),
    (build.ld_function(2, "f"), "r2 = &f"),
    (build.ld_map_value(1, "m", -4), "r1 = map[m]-4"),
    (build.ld_map_fd(1, 7), "r1 = map[fd:7]"),
    (build.ld_map_value(1, 7, 8), "r1 = map[fd:7]+8"),
    (Instruction(0x18, 1, 5, imm=2), "r1 = map[index:2]"),
    (Instruction(0x18, 1, 6, imm=2), "r1 = map[index:2]+0"),
    (Instruction(0x18, 1, 4, imm=0xFFFFFFFE), "r1 = &pc-2"),
    (Instruction(0x18, 1, 3, imm=9 << 32 | 77), "r1 = &kernel-variable#77@9"),
    (build.call_kfunc(77, 1), "call kernel-function#77@1"),
    (build.call_kernel("bpf_rcu_read_lock"), "call kernel[bpf_rcu_read_lock]"),
    (build.ld_kernel_variable(1, "runqueues"), "r1 = &kernel[runqueues]"),
    (Instruction(0xBF, 1, 2, -1), "r1 = &(void __percpu *)(r2)"),
    (Instruction(0xC2), "nospec"),
    (Instruction(0xDF, 1, imm=16), "BUG_df"),
    (Instruction(0x8C, 1, 2), "BUG_8c"),
    (Instruction(0x8F, 1, 2), "BUG_8f"),
    (Instruction(0xF5), "BUG_f5"),
    (Instruction(0xFF), "BUG_ff"),
]


@pytest.mark.parametrize(("instruction", "text"), CASES, ids=[text for _, text in CASES])
def test_what_this_kernel_may_not_print_has_its_spelling_too(instruction: Instruction, text: str) -> None:
    assert str(instruction) == text
    assert text.startswith("BUG_") or assemble(text) == [instruction]
    assert repr(instruction) == f"<Instruction {text}>"


def test_every_opcode_can_be_written() -> None:
    for opcode in range(256):
        for imm in (0, 1, 0x41, 0x100, -1):
            assert str(Instruction(opcode, 1, 2, 3, imm))
