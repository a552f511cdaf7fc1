"""CO-RE finds fields by name in the kernel's types: where they lie, how large they are, how bit-fields are read."""

from __future__ import annotations

import pytest
from support.core_types import EXISTS, LSHIFT, OFFSET, RSHIFT, SIGNED, SIZE, Order, Program, Types, answer

from rawbpf.btf import Builder
from rawbpf.errors import FormatError, SpecError


def integer(b: Builder, bits: int = 32, signed: bool = False) -> int:
    names = {8: "char", 16: "short", 32: "int", 64: "long long"}
    return b.int(names[bits] if signed else f"unsigned {names[bits]}", bits // 8, signed=signed)


def task(b: Builder) -> int:
    # struct task { int pid; union { long start; struct { int low, high; }; }; char comm[16]; u64 tail[]; }
    s32, s64 = integer(b, signed=True), integer(b, 64, signed=True)
    halves = b.struct("", 8, [("low", s32, 0), ("high", s32, 32)])
    times = b.union("", 8, [("start", s64, 0), ("", halves, 0)])
    comm, tail = b.array(integer(b, 8, signed=True), 16), b.array(integer(b, 64), 0)
    return b.struct("task", 32, [("pid", s32, 0), ("", times, 64), ("comm", comm, 128), ("tail", tail, 256)])


def moved(b: Builder) -> int:
    # The same fields elsewhere: named members behind typedefs and qualifiers, unions dissolved, arrays longer.
    s32, s64 = b.const(b.typedef("pid_t", integer(b, signed=True))), integer(b, 64, signed=True)
    tail = b.array(integer(b, 64), 0)
    inner = b.struct("", 48, [("comm", b.array(integer(b, 8, signed=True), 32), 0), ("tail", tail, 320)])
    return b.struct(
        "task",
        80,
        [("start", s64, 0), ("high", s32, 64), ("low", s32, 96), ("", b.volatile(inner), 128), ("pid", s32, 576)],
    )


def other(b: Builder) -> int:
    # Nothing of it fits: another type, another shape, arrays too short.
    short = b.array(integer(b, 8, signed=True), 4)
    pid = b.struct("pid", 4, [("nr", integer(b), 0)])
    return b.struct("task", 32, [("pid", pid, 0), ("start", b.ptr(0), 64), ("comm", short, 128)])


@pytest.mark.parametrize(
    ("access", "old", "new"),
    [
        pytest.param("0:0", 0, 72, id="pid"),
        pytest.param("0:1:0", 8, 0, id="start, out of its union"),
        pytest.param("0:1:1:1", 12, 8, id="high, out of a struct in a union"),
        pytest.param("0:2", 16, 16, id="comm, into a struct"),
        pytest.param("0:2:3", 19, 19, id="comm[3]"),
        pytest.param("0:2:15", 31, 31, id="comm[15]"),
        pytest.param("0:3:7", 88, 112, id="tail[7] of a flexible array"),
        pytest.param("1:0", 32, 152, id="task[1].pid: strides are those of each side"),
    ],
)
def test_the_offset_of_a_field_is_where_the_kernel_has_it(access: str, old: int, new: int) -> None:
    assert answer(task, moved, access, OFFSET) == (old, new)
    assert answer(task, moved, access, EXISTS) == (1, 1)


@pytest.mark.parametrize(
    "access", ["0:0", "0:1:0", "0:1:1:1", "0:2:4", "0:3:0"], ids=["a struct", "a pointer", "missing", "short", "flat"]
)
def test_a_field_that_is_missing_or_of_another_type_has_no_offset_and_does_not_exist(access: str) -> None:
    assert answer(task, other, access, OFFSET)[1] is None
    assert answer(task, other, access, SIZE)[1] is None
    assert answer(task, other, access, EXISTS) == (1, 0)


def test_an_array_of_no_elements_that_is_not_the_last_member_has_none() -> None:
    def early(b: Builder) -> int:
        tail = b.array(integer(b, 64), 0)
        return b.struct("task", 8, [("tail", tail, 0), ("pid", integer(b), 0)])

    assert answer(task, early, "0:3:0", OFFSET)[1] is None
    with pytest.raises(FormatError, match="has no part 3"):
        answer(early, task, "0:0:3", OFFSET)


FIELDS: list[tuple[str, Types]] = [
    ("int", lambda b: integer(b, signed=True)),
    ("u64", lambda b: integer(b, 64)),
    ("enum a", lambda b: b.enum("a", [("A", 1)])),
    ("enum a, 64 bits", lambda b: b.enum64("a___wide", [("A", 1)])),
    ("enum", lambda b: b.enum("", [("A", 1)])),
    ("enum b", lambda b: b.enum("b", [("A", 1)])),
    ("ptr", lambda b: b.ptr(0)),
    ("ptr to int", lambda b: b.ptr(integer(b))),
    ("struct", lambda b: b.struct("inner", 4, [("x", integer(b), 0)])),
    ("union", lambda b: b.union("u", 4, [("x", integer(b), 0)])),
    ("float", lambda b: b.float("float", 4)),
    ("double", lambda b: b.float("double", 8)),
    ("fwd", lambda b: b.fwd("f")),
    ("int[2]", lambda b: b.array(integer(b), 2)),
    ("u64[3]", lambda b: b.array(integer(b, 64), 3)),
    ("ptr[3]", lambda b: b.array(b.ptr(0), 3)),
    ("part of an int", lambda b: b.record(1, "int", 4, 4 << 16 | 28)),
    ("func_proto", lambda b: b.func_proto(0, [])),
]
# Which of these can be read for one another, by groups of alike ones; enumerations are alike by their names.
ALIKE = [
    {"int", "u64"},
    {"enum a", "enum a, 64 bits", "enum"},
    {"enum b", "enum"},
    {"ptr", "ptr to int"},
    {"struct", "union"},
    {"float", "double"},
    {"fwd"},
    {"int[2]", "u64[3]"},
    {"ptr[3]"},
]


@pytest.mark.parametrize(("word", "field"), FIELDS, ids=[word for word, _ in FIELDS])
def test_a_field_exists_where_the_kernels_can_be_read_for_it(word: str, field: Types) -> None:
    def holder(of: Types) -> Types:
        return lambda b: b.struct("s", 32, [("x", of(b), 0)])

    fitting = {
        other_word
        for other_word, other_field in FIELDS
        if answer(holder(field), holder(other_field), "0:0", EXISTS) == (1, 1)
    }
    assert fitting == set().union(*(group for group in ALIKE if word in group))


def bits(members: list[tuple[str, int, int, int, bool]]) -> Types:
    # (name, bits of the declared type, bit offset, bits, signed) each
    def types(b: Builder) -> int:
        return b.struct("s", 16, [(n, integer(b, t, signed), at, width) for n, t, at, width, signed in members])

    return types


PLAIN = bits([("x", 32, 32, 0, False)])


@pytest.mark.parametrize(
    ("target", "little", "big"),
    [
        # (byte offset, byte size, signed, left shift, right shift)
        pytest.param([("x", 32, 32, 0, True)], (4, 4, 1, 32, 32), (4, 4, 1, 32, 32), id="a signed int"),
        pytest.param([("x", 8, 24, 0, False)], (3, 1, 0, 56, 56), (3, 1, 0, 56, 56), id="a byte"),
        pytest.param([("x", 32, 35, 5, False)], (4, 4, 0, 56, 59), (4, 4, 0, 35, 59), id="a bit-field"),
        pytest.param([("x", 8, 35, 5, True)], (4, 1, 1, 56, 59), (4, 1, 1, 59, 59), id="a bit-field of a char"),
        pytest.param([("x", 8, 36, 7, False)], (4, 2, 0, 53, 57), (4, 2, 0, 52, 57), id="across two bytes"),
        pytest.param([("x", 32, 60, 20, False)], (0, 8, 0, 0, 0), (0, 8, 0, 0, 0), id="across two words of 64 bits"),
        pytest.param([("x", 32, 28, 20, False)], (0, 8, 0, 16, 44), (0, 8, 0, 28, 44), id="across two words"),
    ],
)
def test_a_field_that_became_a_bit_field_is_read_by_the_narrowest_load_that_holds_it(
    target: list[tuple[str, int, int, int, bool]], little: tuple[int, ...], big: tuple[int, ...]
) -> None:
    orders: list[tuple[Order, tuple[int, ...]]] = [("little", little), ("big", big)]
    for order, expected in orders:
        if target[0][2] == 60:  # bits 60 to 80 are in no aligned load
            with pytest.raises(SpecError, match=r"no load of 8 bytes holds a bit-field of <Struct 's'"):
                answer(PLAIN, bits(target), "0:0", OFFSET, order)
            continue
        found = [answer(PLAIN, bits(target), "0:0", kind, order)[1] for kind in (OFFSET, SIZE, SIGNED, LSHIFT, RSHIFT)]
        assert tuple(found) == expected


def test_what_the_compiler_chose_for_a_bit_field_is_not_checked() -> None:
    local = bits([("x", 32, 35, 5, True)])
    checked = [Program(local, PLAIN).fixup("0:0", kind).checked for kind in (OFFSET, SIZE, SIGNED, LSHIFT, RSHIFT)]
    assert checked == [False, False, True, False, True]
    assert all(Program(PLAIN, local).fixup("0:0", kind).checked for kind in (OFFSET, SIZE, SIGNED, LSHIFT, RSHIFT))


@pytest.mark.parametrize("kind", [SIGNED, LSHIFT, RSHIFT], ids=["signed", "left shift", "right shift"])
def test_an_element_of_an_array_has_an_offset_and_a_size_and_no_more(kind: int) -> None:
    assert answer(task, moved, "0:2:3", SIZE) == (1, 1)
    with pytest.raises(SpecError, match="of an element of an array is asked for, which only members have"):
        answer(task, moved, "0:2:3", kind)


@pytest.mark.parametrize(
    ("local", "target", "resizable"),
    [
        ("int", "int", True),
        ("u32", "u64", True),
        ("u64", "u32", True),
        ("int", "s64", False),
        ("u32", "s64", False),
        ("char", "u64", True),
        ("ptr", "ptr", True),
        ("int[2]", "int[3]", True),
        ("int[2]", "s64[3]", False),
        ("enum", "enum64", False),
    ],
)
def test_a_load_may_change_its_width_where_the_value_stays_the_same(local: str, target: str, resizable: bool) -> None:
    def field(word: str) -> Types:
        types: dict[str, Types] = {
            "int": lambda b: integer(b, signed=True),
            "u32": integer,
            "u64": lambda b: b.typedef("u64", integer(b, 64)),
            "s64": lambda b: integer(b, 64, signed=True),
            "char": lambda b: b.int("char", 1, signed=True, char=True),
            "ptr": lambda b: b.ptr(0),
            "int[2]": lambda b: b.array(integer(b, signed=True), 2),
            "int[3]": lambda b: b.array(integer(b, signed=True), 3),
            "s64[3]": lambda b: b.array(integer(b, 64, signed=True), 3),
            "enum": lambda b: b.enum("e", []),
            "enum64": lambda b: b.enum64("e", []),
        }
        return lambda b: b.struct("s", 32, [("x", types[word](b), 64)])

    fixup = Program(field(local), field(target)).fixup("0:0", OFFSET)
    assert (fixup.old, fixup.new, fixup.resizable) == (8, 8, resizable)


def test_pointers_have_the_width_of_the_kernels_machine() -> None:
    def with_long(size: int) -> Types:
        return lambda b: b.struct("s", 16, [("x", b.ptr(b.int("long", size, signed=True)), 64)])

    fixup = Program(with_long(8), with_long(4)).fixup("0:0", OFFSET)
    assert (fixup.old_size, fixup.new_size, fixup.resizable) == (8, 4, True)


@pytest.mark.parametrize(
    "access", ["", ":0", "0:", "0:x", "0:-1", "0: 1", "0:9", "0:0:0", "0:2:16", "0:1:1:2", "0" + ":0" * 64, "9" * 12]
)
def test_a_way_that_leads_nowhere_is_damage(access: str) -> None:
    with pytest.raises(FormatError, match="is no way into <Struct 'task'"):
        answer(task, moved, access, OFFSET)
