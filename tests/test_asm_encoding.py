"""Instructions encode to the kernel's bytes in both byte orders and come back unchanged; foreign bytes are refused."""

from __future__ import annotations

from typing import Literal

import pytest

from rawbpf.asm import FunctionReference, Instruction, Line, MapReference, build, decode, encode, slots
from rawbpf.errors import FormatError

CASES = [
    pytest.param(build.mov_imm(0, 1), "b700000001000000", "b700000000000001", id="mov_imm"),
    pytest.param(build.mov_imm(1, -2), "b7010000feffffff", "b7100000fffffffe", id="negative imm"),
    pytest.param(build.mov_reg(2, 10), "bfa2000000000000", "bf2a000000000000", id="mov_reg"),
    pytest.param(build.addr_space_cast(2, 1, 0, 1), "bf12010001000000", "bf21000100000001", id="addr_space_cast"),
    pytest.param(build.load_mem(3, 1, -16, 4), "6113f0ff00000000", "6131fff000000000", id="load_mem"),
    pytest.param(build.store_reg(10, -8, 1, 8), "7b1af8ff00000000", "7ba1fff800000000", id="store_reg"),
    pytest.param(build.store_imm(10, -4, 7, 2), "6a0afcff07000000", "6aa0fffc00000007", id="store_imm"),
    pytest.param(build.atomic_add(0, 0, 1), "db10000000000000", "db01000000000000", id="atomic_add"),
    pytest.param(build.alu_imm(2, "+=", -8), "07020000f8ffffff", "07200000fffffff8", id="alu_imm"),
    pytest.param(build.alu_reg(2, "^=", 3, bits=32), "ac32000000000000", "ac23000000000000", id="alu_reg 32"),
    pytest.param(build.neg(4), "8704000000000000", "8740000000000000", id="neg"),
    pytest.param(build.neg(4, bits=32), "8404000000000000", "8440000000000000", id="neg 32"),
    pytest.param(build.mov_signed(1, 2, 8), "bf21080000000000", "bf12000800000000", id="mov_signed"),
    pytest.param(build.mov_signed(1, 2, 16, bits=32), "bc21100000000000", "bc12001000000000", id="mov_signed 32"),
    pytest.param(build.alu_imm(1, "s/=", 5), "3701010005000000", "3710000100000005", id="s/= imm"),
    pytest.param(build.alu_reg(1, "s%=", 2, bits=32), "9c21010000000000", "9c12000100000000", id="s%= reg 32"),
    pytest.param(build.bswap(3, 64), "d703000040000000", "d730000000000040", id="bswap"),
    pytest.param(build.to_be(3, 16), "dc03000010000000", "dc30000000000010", id="to_be"),
    pytest.param(build.to_le(3, 32), "d403000020000000", "d430000000000020", id="to_le"),
    pytest.param(build.load_signed(1, 2, -4, 4), "8121fcff00000000", "8112fffc00000000", id="load_signed"),
    pytest.param(build.load_packet(12, 2), "280000000c000000", "280000000000000c", id="load_packet"),
    pytest.param(build.load_packet_indirect(2, 12, 1), "502000000c000000", "500200000000000c", id="load_indirect"),
    pytest.param(build.atomic(10, -8, "|=", 1), "db1af8ff40000000", "dba1fff800000040", id="atomic"),
    pytest.param(build.atomic_fetch(10, -8, "^=", 1, 4), "c31af8ffa1000000", "c3a1fff8000000a1", id="atomic_fetch"),
    pytest.param(build.atomic_exchange(10, -8, 1), "db1af8ffe1000000", "dba1fff8000000e1", id="atomic_exchange"),
    pytest.param(
        build.atomic_compare_exchange(10, -8, 1), "db1af8fff1000000", "dba1fff8000000f1", id="compare_exchange"
    ),
    pytest.param(build.load_acquire(1, 10, -8, 1), "d3a1f8ff00010000", "d31afff800000100", id="load_acquire"),
    pytest.param(build.store_release(10, -8, 1, 2), "cb1af8ff10010000", "cba1fff800000110", id="store_release"),
    pytest.param(build.jump_long(70000), "0600000070110100", "0600000000011170", id="jump_long"),
    pytest.param(build.call("bpf_ktime_get_ns"), "8500000005000000", "8500000000000005", id="call by name"),
    pytest.param(build.jump_indirect(1), "0d01000000000000", "0d10000000000000", id="jump_indirect"),
    pytest.param(build.jump(-3), "0500fdff00000000", "0500fffd00000000", id="jump"),
    pytest.param(build.jump_imm(0, "==", 5, 2), "1500020005000000", "1500000200000005", id="jump_imm"),
    pytest.param(build.jump_reg(0, "s<", 1, 2, bits=32), "ce10020000000000", "ce01000200000000", id="jump_reg 32"),
    pytest.param(build.call(14), "850000000e000000", "850000000000000e", id="call"),
    pytest.param(build.call_slot(4), "8510000004000000", "8501000000000004", id="call_slot"),
    pytest.param(build.call_kfunc(77, 1), "852001004d000000", "850200010000004d", id="call_kfunc"),
    pytest.param(build.exit_(), "9500000000000000", "9500000000000000", id="exit"),
    pytest.param(
        build.ld_imm64(1, 0x1122334455667788),
        "18010000887766550000000044332211",
        "18100000556677880000000011223344",
        id="ld_imm64",
    ),
    pytest.param(
        build.ld_imm64(1, -1), "18010000ffffffff00000000ffffffff", "18100000ffffffff00000000ffffffff", id="ld_imm64 -1"
    ),
    pytest.param(
        build.ld_map_value(1, 9, 4),
        "18210000090000000000000004000000",
        "18120000000000090000000000000004",
        id="ld_value",
    ),
    pytest.param(
        build.ld_map_fd(1, 9), "18110000090000000000000000000000", "18110000000000090000000000000000", id="ld_fd"
    ),
]


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(("instruction", "little", "big"), CASES)
def test_an_instruction_has_the_kernels_encoding_in_both_byte_orders(
    instruction: Instruction, little: str, big: str
) -> None:
    assert encode([instruction], "little").hex() == little
    assert encode([instruction], "big").hex() == big
    assert decode(bytes.fromhex(little), "little") == [instruction]
    assert decode(bytes.fromhex(big), "big") == [instruction]


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_code_cut_anywhere_is_refused_or_is_a_prefix(byteorder: Literal["little", "big"]) -> None:
    program = [build.mov_imm(1, 2), build.ld_imm64(2, 3), build.exit_()]
    code = encode(program, byteorder)
    for length in range(len(code)):
        if length in (0, 8, 24):
            assert decode(code[:length], byteorder) == program[: {0: 0, 8: 1, 24: 2}[length]]
        else:
            with pytest.raises(FormatError):
                decode(code[:length], byteorder)


def test_a_64_bit_load_whose_second_half_is_an_instruction_is_refused_with_its_offset() -> None:
    with pytest.raises(FormatError) as caught:
        decode(
            encode([build.mov_imm(0, 0)], "little") + bytes.fromhex("1801000000000000" + "9500000000000000"), "little"
        )
    assert caught.value.offset == 16


@pytest.mark.parametrize(
    "instruction",
    [
        pytest.param(Instruction(0xB7, 0, imm=1 << 31), id="imm"),
        pytest.param(Instruction(0x05, offset=1 << 15), id="offset"),
        pytest.param(Instruction(0xB7, 16), id="register"),
        pytest.param(Instruction(0x18, 0, imm=1 << 64), id="imm64"),
        pytest.param(Instruction(256), id="opcode"),
    ],
)
def test_a_field_out_of_its_range_is_an_overflow_that_names_the_instruction(instruction: Instruction) -> None:
    with pytest.raises(OverflowError, match="instruction 1 "):
        encode([build.exit_(), instruction], "little")


def test_a_64_bit_load_counts_two_slots() -> None:
    assert slots([build.mov_imm(0, 0), build.ld_imm64(1, 5), build.exit_()]) == 4
    assert build.ld_imm64(1, 5).slots == 2


def test_replace_changes_what_is_named_and_leaves_the_original() -> None:
    line = Line("a.c", "int x;", 3, 1)
    original = Instruction(0x18, 1, 1, reference=MapReference("m"), line=line, function=7, core=(1, 2, 0))
    patched = original.replace(imm=5, reference=False, core=False)
    assert (patched.imm, patched.reference, patched.line, patched.function, patched.core) == (5, None, line, 7, None)
    assert original.reference == MapReference("m")
    assert original.replace(line=False, function=False).line is None


def test_instructions_compare_by_all_their_fields() -> None:
    assert build.call_function("f") == build.call_function("f")
    assert build.call_function("f") != build.call_function("g")
    assert build.ld_map_fd(1, "m") != build.ld_map_value(1, "m")
    assert len({build.exit_(), build.exit_(), build.call_function("f"), FunctionReference("f")}) == 3


@pytest.mark.parametrize(
    "build_it",
    [
        pytest.param(lambda: build.alu_imm(0, "**=", 1), id="operator"),
        pytest.param(lambda: build.jump_imm(0, "=", 1, 1), id="comparison"),
        pytest.param(lambda: build.load_mem(0, 1, 0, 3), id="size"),  # type: ignore[arg-type]
        pytest.param(lambda: build.atomic(0, 0, "-=", 1), id="atomic"),
        pytest.param(lambda: build.mov_signed(0, 1, 32, bits=32), id="signs"),
        pytest.param(lambda: build.call("bpf_ktime_get_nsec"), id="helper"),
    ],
)
def test_a_builder_names_what_it_does_not_know(build_it: object) -> None:
    assert callable(build_it)
    with pytest.raises(ValueError, match=r"there are|not 3|from 32 to 32|did you mean bpf_ktime_get_ns"):
        build_it()
