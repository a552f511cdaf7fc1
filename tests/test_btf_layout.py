"""Sizes, alignments and C text of types are those of the compiler."""

from __future__ import annotations

import pytest
from support.btf_samples import ByteOrder, sample

from rawbpf.btf import Btf, Builder, align_of, size_of, strip
from rawbpf.btf.text import declare
from rawbpf.errors import FormatError

ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])

SIZES = [
    ("int", 4, 4),
    ("char", 1, 1),
    ("double", 8, 8),
    ("u64", 8, 8),
    ("array", 16, 1),
    ("const", 4, 4),
    ("type_tag", 4, 4),
    ("ptr", 8, 8),
    ("restrict", 8, 8),
    ("union", 8, 8),
    ("enum", 4, 4),
    ("enum64", 8, 8),
    ("anonymous", 8, 4),
    ("struct", 72, 8),
    ("var", 8, 8),
    ("static var", 72, 8),
]
TEXTS = {
    "int": "int",
    "u64": "typedef unsigned long long u64;",
    "array": "char [16]",
    "fwd": "struct task;",
    "type_tag": '__attribute__((btf_type_tag("user"))) volatile const int',
    "ptr": '__attribute__((btf_type_tag("user"))) volatile const int *',
    "restrict": '__attribute__((btf_type_tag("user"))) volatile const int *restrict',
    "union": "union number {\n\tint i;\n\tdouble d;\n};",
    "enum": "enum mode {\n\tOFF = 0,\n\tON = 7,\n\tBROKEN = -1,\n};",
    "enum64": "enum big {\n\tLITTLE = 1,\n\tBIG = 1099511627776,\n};",
    "struct": """struct event {
	u64 ts;
	char comm[16];
	unsigned int low : 3;
	unsigned int high : 5;
	enum mode mode;
	struct event *next;
	union number number;
	struct {
		int left;
		int right;
	};
	struct task *task;
	_Bool ok;
};""",
    "func_proto": "int (void *ctx, u64 flags)",
    "variadic": "void (int, ...)",
    "func": "int count(void *ctx, u64 flags);",
    "static func": "static int helper(void *ctx, u64 flags);",
    "static var": "static struct event hidden;",
    "datasec": 'SEC(".data") {\n\tu64 total; // offset 0, size 8\n\tstruct event hidden; // offset 8, size 72\n};',
    "decl_tag": '__attribute__((btf_decl_tag("counted")))',
}


@pytest.mark.guest_byte_order
@ORDERS
@pytest.mark.parametrize(("word", "size", "alignment"), [pytest.param(*case, id=case[0]) for case in SIZES])
def test_size_and_alignment_are_those_of_c(word: str, size: int, alignment: int, byteorder: ByteOrder) -> None:
    data, ids = sample(byteorder)
    type = Btf.from_bytes(data)[ids[word]]
    assert (size_of(type), align_of(type)) == (size, alignment)


@pytest.mark.parametrize("word", ["fwd", "func", "func_proto", "decl_tag"])
def test_what_has_no_size_says_so(word: str) -> None:
    data, ids = sample()
    type = Btf.from_bytes(data)[ids[word]]
    with pytest.raises(FormatError, match="has no size"):
        size_of(type)
    with pytest.raises(FormatError, match="has no alignment"):
        align_of(type)


def test_a_packed_struct_has_alignment_1() -> None:
    b = Builder()
    byte, word = b.int("char", 1), b.int("int", 4)
    inside = b.struct("inside", 5, [("c", byte, 0), ("i", word, 8)])
    at_end = b.struct("at_end", 5, [("i", word, 0), ("c", byte, 32)])
    natural = b.struct("natural", 8, [("i", word, 0), ("c", byte, 32)])
    holder = b.struct("holder", 8, [("c", byte, 0), ("p", inside, 8)])
    padded = b.struct("padded", 8, [("c", byte, 0), ("i", word, 8)])
    btf = Btf.from_bytes(b.to_bytes())
    assert [align_of(btf[id]) for id in (inside, at_end, natural, holder, padded)] == [1, 1, 4, 1, 1]


@pytest.mark.parametrize(("size", "expected"), [(4, 4), (8, 8), (None, 8)])
def test_pointers_are_as_large_as_a_long(size: int | None, expected: int) -> None:
    b = Builder()
    pointer = b.ptr(b.int("long unsigned int", size) if size else 0)
    assert size_of(Btf.from_bytes(b.to_bytes())[pointer]) == expected


def test_typedefs_and_qualifiers_are_stripped_and_pointers_are_not() -> None:
    data, ids = sample()
    btf = Btf.from_bytes(data)
    assert strip(btf[ids["type_tag"]]).name == "int"
    assert strip(btf[ids["u64"]]).name == "unsigned long long"
    assert strip(btf[ids["ptr"]]).id == ids["ptr"]


@ORDERS
@pytest.mark.parametrize("word", TEXTS)
def test_a_type_reads_as_c(word: str, byteorder: ByteOrder) -> None:
    data, ids = sample(byteorder)
    assert str(Btf.from_bytes(data)[ids[word]]) == TEXTS[word]


def test_declarators_bind_as_in_c() -> None:
    b = Builder()
    number = b.int("int", 4)
    cases = {
        b.ptr(b.array(number, 4)): "int (*x)[4]",
        b.array(b.ptr(number), 4): "int *x[4]",
        b.array(b.array(number, 3), 2): "int x[2][3]",
        b.array(number, 0): "int x[]",
        b.const(b.ptr(b.const(number))): "const int *const x",
        b.ptr(b.func_proto(number, [("", number)])): "int (*x)(int)",
        b.ptr(b.func_proto(b.ptr(0), [])): "void *(*x)(void)",
        b.array(b.ptr(b.func_proto(0, [], variadic=True)), 3): "void (*x[3])(...)",
        b.ptr(b.fwd("u", union=True)): "union u *x",
    }
    btf = Btf.from_bytes(b.to_bytes())
    assert {id: declare(btf[id], "x") for id in cases} == cases
