"""What an instruction becomes that depends on types: which numbers it holds, which it can hold, what is refused."""

from __future__ import annotations

import pytest

from rawbpf.asm import Instruction, build
from rawbpf.asm.instruction import Line
from rawbpf.btf import Btf, Builder, Type
from rawbpf.btf.core import Fixup
from rawbpf.btf.core_value import Value
from rawbpf.errors import SpecError
from rawbpf.loader.patch import POISON, is_poisoned, patched

RECORD = (1, 2, 3)
CALL = f"call unknown#{POISON}"


def types() -> tuple[Type, Type]:
    b = Builder()
    b.int("unsigned int", 4)
    b.int("int", 4, signed=True)
    btf = Btf.from_bytes(b.to_bytes())
    return btf[1], btf[2]


UNSIGNED, SIGNED = types()


def fixup(old: int, new: int | None, *, sizes: tuple[int, int] = (0, 0), of: Type = UNSIGNED) -> Fixup:
    return Fixup(Value(old, size=sizes[0], type=of), None if new is None else Value(new, size=sizes[1], type=of))


def of(instruction: Instruction) -> Instruction:
    return instruction.replace(core=RECORD)


LOAD = of(build.load_mem(1, 2, 8, 4))
STORE = of(build.store_reg(1, 8, 2, 4))
CONSTANT = of(build.store_imm(1, 8, 5, 4))
MOVE = of(build.mov_imm(1, 8))
ADD = of(build.alu_imm(1, "+=", 8))
IMM64 = of(build.ld_imm64(1, 8))


@pytest.mark.parametrize(
    ("instruction", "change", "expected"),
    [
        pytest.param(LOAD, fixup(8, 24), "r1 = *(u32 *)(r2 +24)", id="a load"),
        pytest.param(LOAD, fixup(8, 32767), "r1 = *(u32 *)(r2 +32767)", id="a load from as far as it can reach"),
        pytest.param(LOAD, fixup(8, 24, sizes=(4, 1)), "r1 = *(u8 *)(r2 +24)", id="of a byte"),
        pytest.param(LOAD, fixup(8, 24, sizes=(4, 2)), "r1 = *(u16 *)(r2 +24)", id="of two"),
        pytest.param(LOAD, fixup(8, 24, sizes=(4, 8)), "r1 = *(u64 *)(r2 +24)", id="of eight"),
        pytest.param(STORE, fixup(8, 24, sizes=(4, 8)), "*(u64 *)(r1 +24) = r2", id="a store"),
        pytest.param(CONSTANT, fixup(8, 24, sizes=(4, 1)), "*(u8 *)(r1 +24) = 5", id="a store of a constant"),
        pytest.param(MOVE, fixup(8, 1 << 20), "r1 = 1048576", id="an immediate"),
        pytest.param(MOVE, fixup(8, -5), "r1 = -5", id="a negative immediate"),
        pytest.param(ADD, fixup(8, 0), "r1 += 0", id="an addition"),
        pytest.param(IMM64, fixup(8, 1 << 40), "r1 = 0x10000000000", id="an immediate of 64 bits"),
        pytest.param(IMM64, fixup(8, -2), "r1 = 0xfffffffffffffffe", id="a negative one"),
        pytest.param(IMM64.replace(imm=0xFFFFFFFF), fixup(-1, -2), "r1 = 0xfffffffe", id="32 bits without a sign"),
        pytest.param(IMM64.replace(imm=0xFFFFFFFF), fixup(-1, 2), "r1 = 0x2", id="that have none any more"),
    ],
)
def test_an_instruction_holds_the_new_number_and_no_record(
    instruction: Instruction, change: Fixup, expected: str
) -> None:
    (found,) = patched(instruction, change)
    assert (str(found), found.core, is_poisoned(found)) == (expected, None, False)


@pytest.mark.parametrize("instruction", [LOAD, STORE, CONSTANT, MOVE, ADD, of(build.exit_())], ids=str)
def test_what_has_no_answer_becomes_a_call_that_no_verifier_takes(instruction: Instruction) -> None:
    line = Line("a.c", "x", 1)
    (found,) = patched(instruction.replace(line=line, function=3), fixup(8, None))
    assert (str(found), found.core, found.line, found.function) == (CALL, RECORD, line, 3)
    assert is_poisoned(found)
    assert not is_poisoned(found.replace(core=False))


def test_both_slots_of_a_load_of_64_bits_become_such_calls() -> None:
    first, second = patched(IMM64.replace(line=Line("a.c", "x", 1), function=3), fixup(8, None))
    assert (str(first), str(second)) == (CALL, CALL)
    assert (first.function, second.function, second.line, second.core) == (3, None, None, RECORD)


@pytest.mark.parametrize("instruction", [LOAD, STORE, CONSTANT], ids=str)
def test_a_signed_number_is_not_loaded_or_stored_by_another_width(instruction: Instruction) -> None:
    (found,) = patched(instruction, fixup(8, 24, sizes=(4, 8), of=SIGNED))
    assert is_poisoned(found)
    (found,) = patched(MOVE, fixup(8, 24, sizes=(4, 8), of=SIGNED))
    assert str(found) == "r1 = 24", "its place is known all the same"


@pytest.mark.parametrize(
    ("instruction", "change", "why"),
    [
        pytest.param(LOAD, fixup(4, 8), "holds 8 where the compiler's types say 4", id="another offset"),
        pytest.param(MOVE, fixup(-4, 8), "holds 8 where the compiler's types say -4", id="another immediate"),
        pytest.param(IMM64, fixup(1 << 40 | 8, 8), "holds 8 where the compiler's types say 109951162", id="of 64 bits"),
        pytest.param(LOAD, fixup(8, 32768), "cannot reach byte 32768: 32767 is the last", id="too far"),
        pytest.param(MOVE, fixup(8, 1 << 32), "cannot hold 4294967296", id="too large"),
        pytest.param(LOAD, fixup(8, 8, sizes=(2, 8)), "of a field of 2 bytes that has 8", id="of another size"),
        pytest.param(LOAD, fixup(8, 8, sizes=(4, 3)), "of a field of 4 bytes that has 3", id="of an odd size"),
        pytest.param(of(build.exit_()), fixup(8, 8), "takes no number that depends on types", id="an exit"),
        pytest.param(of(build.mov_reg(1, 2)), fixup(0, 8), "takes no number", id="a move of registers"),
        pytest.param(of(build.ld_map_fd(1, "m")), fixup(0, 8), "takes no number", id="a map"),
    ],
)
def test_an_instruction_that_does_not_fit_its_record_is_refused(
    instruction: Instruction, change: Fixup, why: str
) -> None:
    with pytest.raises(SpecError, match=why):
        patched(instruction, change)


def test_what_was_not_to_be_checked_may_hold_anything() -> None:
    change = Fixup(Value(4, checked=False), Value(16))
    assert [str(patched(each, change)[0]) for each in (LOAD, MOVE, IMM64)] == [
        "r1 = *(u32 *)(r2 +16)",
        "r1 = 16",
        "r1 = 0x10",
    ]
