"""Assembler text and instructions are the same thing: what is written is read, what is read is written alike."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawbpf.asm import (
    Function,
    FunctionReference,
    Instruction,
    KernelReference,
    Label,
    LabelReference,
    Line,
    MapReference,
    assemble,
    build,
    decode,
    disassemble,
    encode,
    resolve,
    slots,
)
from rawbpf.asm.label import Resolved
from rawbpf.elf import parse
from rawbpf.errors import FormatError, SpecError
from rawbpf.loader.link import link

ROOT = Path(__file__).resolve().parents[1]
OBJECTS = sorted([*(ROOT / "bpf").glob("*.o"), *(ROOT / "tests/objects").glob("*.o")])
# Debian 12's llvm-objdump does not know the casts of pointers into arenas.
PRINTED = {path.name for path in OBJECTS if path.name.endswith(".bpf.o")} - {"arena.bpf.o"}

Items = list[Instruction | Label]

ORDERS: st.SearchStrategy[Literal["little", "big"]] = st.sampled_from(("little", "big"))
registers = st.integers(0, 10)
numbers = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-9, 9)
halves = st.integers(-(1 << 15), (1 << 15) - 1)
u32 = st.integers(0, (1 << 32) - 1)
widths = st.sampled_from([32, 64])
sizes = st.sampled_from([1, 2, 4, 8])
names = st.from_regex(r"[A-Za-z_.$][A-Za-z0-9_.$]{0,12}", fullmatch=True).filter(lambda name: name[:4] != "bpf_")
operators = st.sampled_from(["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "%=", "^=", "=", "s>>=", "s/=", "s%="])
comparisons = st.sampled_from(["==", ">", ">=", "&", "!=", "s>", "s>=", "<", "<=", "s<", "s<="])
locks = st.sampled_from(["+=", "|=", "&=", "^="])

INSTRUCTIONS = st.one_of(
    st.builds(build.alu_imm, registers, operators, numbers, bits=widths),
    st.builds(build.alu_reg, registers, operators, registers, bits=widths),
    st.builds(build.neg, registers, bits=widths),
    st.builds(build.mov_signed, registers, registers, st.sampled_from([8, 16, 32])),
    st.builds(build.mov_signed, registers, registers, st.sampled_from([8, 16]), bits=st.just(32)),
    st.builds(build.bswap, registers, st.sampled_from([16, 32, 64])),
    st.builds(build.to_be, registers, st.sampled_from([16, 32, 64])),
    st.builds(build.to_le, registers, st.sampled_from([16, 32, 64])),
    st.builds(build.addr_space_cast, registers, registers, st.integers(0, 1), st.integers(0, 1)),
    st.builds(build.load_mem, registers, registers, halves, sizes),
    st.builds(build.load_signed, registers, registers, halves, st.sampled_from([1, 2, 4])),
    st.builds(build.load_packet, numbers, st.sampled_from([1, 2, 4])),
    st.builds(build.load_packet_indirect, registers, numbers, st.sampled_from([1, 2, 4])),
    st.builds(build.store_reg, registers, halves, registers, sizes),
    st.builds(build.store_imm, registers, halves, numbers, sizes),
    st.builds(build.atomic, registers, halves, locks, registers, st.sampled_from([4, 8])),
    st.builds(build.atomic_fetch, registers, halves, locks, registers, st.sampled_from([4, 8])),
    st.builds(build.atomic_exchange, registers, halves, registers, st.sampled_from([4, 8])),
    st.builds(build.atomic_compare_exchange, registers, halves, registers, st.sampled_from([4, 8])),
    st.builds(build.load_acquire, registers, registers, halves, sizes),
    st.builds(build.store_release, registers, halves, registers, sizes),
    st.builds(build.ld_imm64, registers, st.integers(0, (1 << 64) - 1)),
    st.builds(build.ld_map_fd, registers, u32),
    st.builds(build.ld_map_value, registers, u32, u32),
    st.builds(Instruction, st.just(0x18), registers, st.sampled_from([3, 4]), imm=u32),
    st.builds(Instruction, st.just(0x18), registers, st.just(5), imm=u32),
    st.builds(Instruction, st.just(0x18), registers, st.sampled_from([3, 6]), imm=st.integers(0, (1 << 64) - 1)),
    st.builds(build.jump, halves),
    st.builds(build.jump_long, numbers),
    st.builds(build.may_goto, halves),
    st.builds(build.jump_indirect, registers),
    st.builds(build.jump_imm, registers, comparisons, numbers, halves, bits=widths),
    st.builds(build.jump_reg, registers, comparisons, registers, halves, bits=widths),
    st.builds(build.call, numbers),
    st.builds(build.call_slot, numbers),
    st.builds(build.call_kfunc, numbers, st.integers(0, (1 << 15) - 1)),
    st.builds(lambda register: Instruction(0x8D, register), registers),
    st.builds(build.exit_),
)
NAMED = st.one_of(
    st.builds(build.jump, names),
    st.builds(build.jump_long, names),
    st.builds(build.jump_imm, registers, comparisons, numbers, names, bits=widths),
    st.builds(build.jump_reg, registers, comparisons, registers, names, bits=widths),
    st.builds(build.call_function, names),
    st.builds(build.call_kernel, names),
    st.builds(build.ld_kernel_variable, registers, names),
    st.builds(build.ld_function, registers, names),
    st.builds(build.ld_map_fd, registers, names),
    st.builds(build.ld_map_value, registers, names, st.integers(-9, 1 << 29)),
)
ANY = st.builds(
    Instruction, st.integers(0, 255), st.integers(0, 15), st.integers(0, 15), halves, numbers | st.sampled_from([0, 1])
)


def bare(instructions: list[Instruction]) -> list[Instruction]:
    return [each.replace(line=False, function=False, core=False) for each in instructions]


@given(st.lists(INSTRUCTIONS | NAMED))
def test_what_is_written_assembles_to_an_equal_instruction(instructions: list[Instruction]) -> None:
    assert assemble("\n".join(map(str, instructions))) == instructions


@given(st.lists(INSTRUCTIONS), ORDERS)
def test_code_of_both_byte_orders_assembles_to_the_same_bytes(
    instructions: list[Instruction], byteorder: Literal["little", "big"]
) -> None:
    code = encode(instructions, byteorder)
    text = "\n".join(map(str, decode(code, byteorder)))
    assert encode([each for each in assemble(text) if isinstance(each, Instruction)], byteorder) == code


@given(ANY)
def test_text_of_any_instruction_is_refused_or_written_alike(instruction: Instruction) -> None:
    try:
        (again,) = assemble(str(instruction))
    except FormatError:
        return
    assert str(again) == str(instruction)


@given(st.text() | st.text("rw019 =+-*/()[]#:;,.xusif goto", max_size=40))
def test_any_text_is_assembled_or_refused_with_its_line(text: str) -> None:
    said = "line 0: "
    try:
        assemble(text)
    except FormatError as error:
        said = str(error)
    assert re.match(r"line \d+: ", said)


@pytest.mark.timeout(20)
def test_a_line_of_very_many_labels_is_read_in_time() -> None:
    assert len(assemble("a:" * 100_000)) == 100_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("r1 = *(u8 *)(r1" + " " * 200_000 + "x", id="space"),
        pytest.param("f(" * 100_000, id="heads"),
        pytest.param("r1 = map[" + "[" * 200_000, id="brackets"),
        pytest.param("r1 = " + "9" * 200_000, id="digits"),
    ],
)
def test_a_very_long_line_is_refused_in_time(text: str) -> None:
    with pytest.raises(FormatError, match="line 1: ") as caught:
        assemble(text)
    assert len(str(caught.value)) < 400


FORMS = [
    ("r0=0", build.mov_imm(0, 0)),
    ("  r1   +=   -0x10  ", build.alu_imm(1, "+=", -16)),
    ("w1 = 0xffffffff", build.mov32_imm(1, -1)),
    ("r1 = 0x5", build.ld_imm64(1, 5)),
    ("r1 = 5 ll", build.ld_imm64(1, 5)),
    ("r1 = -1 ll", build.ld_imm64(1, -1)),
    ("r1 = 2147483648", build.ld_imm64(1, 1 << 31)),
    ("r1 = *(u32*)(r2)", build.load_mem(1, 2, 0, 4)),
    ("r1 = *(u32 *)(r2 - 4)", build.load_mem(1, 2, -4, 4)),
    ("r1 = *(u32 *)(r2+0x10)", build.load_mem(1, 2, 16, 4)),
    ("*(u8 *)(r10 -1)=255", build.store_imm(10, -1, 255, 1)),
    ("if r1 == 5 goto out", build.jump_imm(1, "==", 5, "out")),
    ("if r1==0x5 goto out", build.jump_imm(1, "==", 5, "out")),
    ("if r1 s> -1 goto pc-2", build.jump_imm(1, "s>", -1, -2)),
    ("if r1 s> 0xffffffff goto pc-2", build.jump_imm(1, "s>", -1, -2)),
    ("if w1 > 4294967295 goto pc+2", build.jump_imm(1, ">", -1, 2, bits=32)),
    ("call bpf_ktime_get_ns", build.call(5)),
    ("call unknown#999", build.call(999)),
    ("call 5", build.call(5)),
    ("call ktime_get_ns", build.call_function("ktime_get_ns")),
    ("call x.isra.0", build.call_function("x.isra.0")),
    ("r1 = map[ a map ]", build.ld_map_fd(1, "a map")),
    ("r1 = map[.rodata.str1.1]+16", build.ld_map_value(1, ".rodata.str1.1", 16)),
    ("call kernel[bpf_task_release] # by name", build.call_kernel("bpf_task_release")),
    ("r1 = 1 // one", build.mov_imm(1, 1)),
    ("r1 = 1 ; R1=1", build.mov_imm(1, 1)),
    ("12: (b7) r1 = 1                        ; R1_w=1", build.mov_imm(1, 1)),
    ("  12: r1 = 1", build.mov_imm(1, 1)),
]


@pytest.mark.parametrize(("text", "instruction"), FORMS, ids=[text for text, _ in FORMS])
def test_a_statement_may_be_written_in_other_ways(text: str, instruction: Instruction) -> None:
    assert assemble(text) == [instruction]


def test_labels_functions_and_comments_stand_between_statements() -> None:
    text = """
    # a comment, and below it a label with a statement behind it
    start: r0 = 0     // one
        call add#     ; no, see below
    """
    with pytest.raises(FormatError, match="line 4: 'call add#     ; no, see below': expected call"):
        assemble(text)
    assert assemble(text.replace("add#", "add")) == [Label("start"), build.mov_imm(0, 0), build.call_function("add")]
    assert assemble("f():\nadd(r1, r2): exit\ng ( r1 ) :\nexit") == [
        Function("f"),
        Function("add", 2),
        build.exit_(),
        Function("g", 1),
        build.exit_(),
    ]
    assert [each.parameters for each in assemble("f(r1, r2,r3):") if isinstance(each, Function)] == [3]


def test_a_function_goes_before_a_helper_of_its_name() -> None:
    assert assemble("call bpf_loop\nbpf_loop():\nexit")[0] == build.call_function("bpf_loop")
    assert assemble("call bpf_loop") == [build.call(181)]


MISTAKES = [
    ("r1 = = 2", r"expected r1 = 5, r1 \+= r2"),
    ("frobnicate", "no instruction begins like this: expected a register"),
    ("?", "no instruction begins like this"),
    ("r11 = 0", "registers are r0 to r10"),
    ("r1 += w2", "both registers are r, or both are w"),
    ("w1 = map[m]", "expected r1: all 64 bits"),
    ("w1 = *(u32 *)(r2 +0)", "expected r1: all 64 bits"),
    ("r1 = -r2", "expected r1 = -r1"),
    ("r1 = be16 r2", "expected r1 = be16 r1"),
    ("r1 &= 0xffffffff", "0xffffffff does not fit an immediate of 32 bits, whose sign goes into the upper 32"),
    ("w1 += 4294967296", "does not fit an immediate of 32 bits$"),
    ("r1 = 0x10000000000000000", "expected r1 = 5"),
    ("r1 = 18446744073709551616", "does not fit 64 bits"),
    ("r1 = *(u32 *)(r2 +32768)", "offset .* is not from -32768 to 32767"),
    ("*(s32 *)(r1 +0) = r2", "expected u32: signs are extended only by loads"),
    ("r1 = *(u8 *)skb[0]", "expected r0"),
    ("lock *(u64 *)(r1 +0) -= r2", "expected lock"),
    ("r1 = atomic_fetch_add((u64 *)(r2 +0), r1)", "atomic64_ goes with u64"),
    ("r1 = atomic64_fetch_add((u64 *)(r2 +0), r3)", "expected r3 on both sides"),
    ("if r1 goto x", "expected if r1 == 5 goto label"),
    ("if r1 == 4294967295 goto x", "does not fit"),
    ("goto pc+32768", "too far: a jump reaches"),
    ("goto", "expected goto label"),
    ("call", "expected call helper"),
    ("call bpf_ktime_get_ns#6", "helper 6 is bpf_trace_printk: expected call bpf_trace_printk#6"),
    ("exit 1", "expected exit"),
    ("f(r2):", "parameters are the registers from r1 on"),
    ("f(r1, r2, r3, r4, r5, r6):", "at most five"),
    (".insn 0xb7 16 0 0 0", "dst and src have 4 bits"),
    (".insn 0x18 1 0 0 0x10000000000000000", "expected .insn opcode dst"),
    (".insn 0x18 1 0 0 18446744073709551616", "does not fit 64 bits"),
    (".insn 0xb7 1 0 0", "expected .insn opcode dst src offset imm"),
    ("r1 = &kernel-variable#9999999999", "have 32 bits"),
    ("r1 = addr_space_cast(r2, 1000000, 0)", "address spaces are 0 and 1"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_told_with_its_line_and_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(FormatError, match=expected) as caught:
        assemble(f"r0 = 0\n\n  {text}  \nexit")
    assert str(caught.value).startswith(f"line 3: {text!r}: ")


def test_instructions_know_their_line_where_the_text_has_a_name() -> None:
    instructions = assemble("r0 = 0\n\n  exit // done", file_name="drop.s")
    assert [each.line for each in instructions if isinstance(each, Instruction)] == [
        Line("drop.s", "r0 = 0", 1),
        Line("drop.s", "exit // done", 3),
    ]
    with pytest.raises(SpecError, match=r"instruction 0 \(goto out, drop\.s:1\): there is no label 'out' in 'main'"):
        resolve(assemble("goto out\nexit", file_name="drop.s"))
    with pytest.raises(SpecError, match="no function 'bpf_ktime_get_nsec', and no helper"):
        resolve(assemble("call bpf_ktime_get_nsec\nexit"))


# Listings.


def resolved(text: str) -> Resolved:
    return resolve(assemble(text))


def test_a_listing_names_what_jumps_and_calls_go_to() -> None:
    code = encode(
        resolved(
            """
            r1 = 0x1
            again:
              if r1 == 0 goto out
              call add
              goto again
            out:
              r2 = &add
              exit
            add(r1, r2):
              if w1 == 7 goto out
            out:
              exit
            """
        ).instructions,
        "big",
    )
    assert disassemble(code, byteorder="big", functions={0: "main", 8: "sum"}) == (
        "main():\n"
        "   0: r1 = 0x1\n"
        "L2:\n"
        "   2: if r1 == 0x0 goto L5\n"
        "   3: call sum\n"
        "   4: goto L2\n"
        "L5:\n"
        "   5: r2 = &sum\n"
        "   7: exit\n"
        "\n"
        "sum():\n"
        "   8: if w1 == 0x7 goto L9\n"
        "L9:\n"
        "   9: exit\n"
    )
    assert "call F8\n" in disassemble(code, byteorder="big")


def test_a_listing_of_what_has_labels_keeps_them_and_assembles_to_the_same() -> None:
    items: Items = [
        Function("main", 1),
        build.jump("L1"),
        Label("L1"),
        build.jump_imm(1, "==", 0, -2),
        build.ld_function(2, "f"),
        build.exit_(),
        Function("f", 2),
        build.exit_(),
    ]
    assert assemble(disassemble(items)) == items


def test_the_source_stands_above_the_instructions_that_it_became() -> None:
    code = [build.mov_imm(0, 0).replace(line=Line("a.c", "\treturn 0;\n r1 = 5", 7)), build.exit_()]
    assert disassemble(code) == "      ; a.c:7: return 0; r1 = 5\n   0: r0 = 0\n   1: exit\n"
    assert disassemble(code, source=False) == "   0: r0 = 0\n   1: exit\n"
    assert assemble(disassemble(code)) == bare(code)


def test_names_that_cannot_be_used_are_replaced() -> None:
    code = [build.call_slot(1), build.exit_(), build.call_slot(1), build.exit_(), build.exit_()]
    for functions in ({2: "a b", 4: "\n"}, {0: "f", 2: "f", 4: "f"}, {2: "main", 4: "L0"}, {1: "x", 9: "y"}, {3: "z"}):
        text = disassemble(code, functions=functions)
        assert resolved(text).instructions == code, text
    assert "f():" in disassemble(code, functions={0: "f", 2: "f", 4: "f"})


def test_what_goes_out_of_its_function_stays_a_distance() -> None:
    code = [build.jump(1), build.call_slot(0), build.jump(5), build.jump(-2), build.ld_imm64(1, 5), build.jump(-2)]
    text = disassemble(code)
    assert "goto pc+1" in text
    assert "goto pc+5" in text
    assert resolved(text).instructions == code


@given(
    st.lists(
        INSTRUCTIONS | ANY | st.builds(build.jump, st.integers(-4, 4)) | st.builds(build.call_slot, st.integers(-4, 4)),
        min_size=1,
    )
)
def test_a_listing_of_any_instructions_assembles_to_them(instructions: list[Instruction]) -> None:
    assert resolved(disassemble(instructions)).instructions == instructions


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_disassemble_and_assemble_to_the_same_instructions(path: Path) -> None:
    data = parse(path.read_bytes(), path.name)
    assert data.programs
    for body in [*data.functions.values(), *(program.instructions for program in data.programs.values())]:
        assert assemble("\n".join(map(str, body))) == bare(body)
    for program in data.programs.values():
        linked = link(program, data.functions)
        text = disassemble(linked)
        assert resolved(text).instructions == bare(linked)
        assert text.count(": exit\n") == sum(each.opcode == 0x95 for each in linked)


@pytest.mark.needs("tool:llvm-objdump")
@pytest.mark.parametrize("path", [path for path in OBJECTS if path.name in PRINTED], ids=lambda path: path.name)
def test_the_text_of_llvm_assembles_to_the_same_code(path: Path) -> None:
    # LLVM writes distances without `pc`, loads of 64 bits with `ll`, and 0 for what a relocation fills in.
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    data = parse(path.read_bytes(), path.name)
    bodies = data.functions | {name: program.instructions for name, program in data.programs.items()}
    texts: dict[str, list[str]] = {}
    name = ""
    for line in printed.splitlines():
        if (symbol := re.match(r"[0-9a-f]+ <(.*)>:$", line)) and symbol[1] in bodies:
            name = symbol[1]
        elif instruction := re.match(r" +\d+:\t(.*)$", line):
            texts.setdefault(name, []).append(re.sub(r"(goto|call) ([+-]\d+)( <.*>)?$", r"\1 pc\2", instruction[1]))
    assert texts.keys() == bodies.keys()
    for name, lines in texts.items():
        theirs = [each for each in assemble("\n".join(lines)) if isinstance(each, Instruction)]
        assert [each.opcode for each in theirs] == [each.opcode for each in bodies[name]]
        for one, other in zip(theirs, bare(bodies[name]), strict=True):
            assert other.reference is not None or one == other


def test_a_reference_by_name_is_what_its_spelling_says() -> None:
    instructions = list(assemble("goto a\ncall b\nr1 = &c\nr1 = map[d]\ncall kernel[e]\nr1 = &kernel[f]"))
    assert [each.reference for each in instructions if isinstance(each, Instruction)] == [
        LabelReference("a"),
        FunctionReference("b"),
        FunctionReference("c"),
        MapReference("d"),
        KernelReference("e"),
        KernelReference("f"),
    ]
    assert len({KernelReference("e"), FunctionReference("e"), KernelReference("e")}) == 2


def test_slots_in_a_listing_count_loads_of_64_bits_twice() -> None:
    code = [build.ld_imm64(1, 5), build.exit_(), Instruction(0x18, 1, imm=-5), build.exit_()]
    assert assemble(disassemble(code)) == code
    numbers = [int(found) for found in re.findall(r"^ +(\d+):", disassemble(code), re.MULTILINE)]
    assert numbers == [0, 2, 3, 5]
    assert [b - a for a, b in pairwise(numbers)] == [each.slots for each in code[:-1]]
    assert slots(code) == 6


def test_the_table_of_the_reference_is_true() -> None:
    page = (ROOT / "docs/reference/asm.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+)` \| `(\w+\(.*\))` \|$", page.partition("\n## Text\n")[2], re.MULTILINE)
    assert len(rows) > 40
    for text, built in rows:
        assert assemble(text) == [eval(built.replace("\\|", "|"), vars(build).copy())], text
