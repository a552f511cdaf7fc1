"""A header written from BTF compiles without a warning, and clang lays its types out as the BTF says."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.btf_samples import VMLINUX, ByteOrder, sample, shapes
from support.c_layout import compiled, compiled_object, differences, uses

from rawbpf.btf import Btf, Builder, Composite, DeclTag, Enum, Type, TypeTag
from rawbpf.errors import FormatError

CLANG = pytest.mark.needs("tool:clang", "module:elftools")
KERNEL = pytest.mark.needs(f"file:{VMLINUX}")
TARGETS: dict[ByteOrder, str] = {"little": "bpf", "big": "bpfeb"}
ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf.from_bytes(Path(VMLINUX).read_bytes())


@pytest.fixture(scope="module")
def header(kernel: Btf) -> str:
    return kernel.to_c()


def once(btf: Btf) -> list[Type]:
    """Return the structs, unions and enums that have a name of their own and are small enough for a variable."""
    named = [type for type in btf if isinstance(type, (Composite, Enum)) and type.name]
    counts = Counter(type.name for type in named)
    return [type for type in named if counts[type.name] == 1 and 0 < type.size < 1 << 16]


# The kernel -----------------------------------------------------------------------


@CLANG
@KERNEL
def test_clang_lays_the_kernels_types_out_as_the_kernel_does(kernel: Btf, header: str, tmp_path: Path) -> None:
    sampled = once(kernel)[::25]
    assert len(sampled) > 300
    got = compiled(header, uses(sampled), tmp_path)
    assert differences(kernel, got, sampled) == []


@CLANG
@KERNEL
@pytest.mark.parametrize(
    ("flags", "relocated"), [((), 2), (("-DBPF_NO_PRESERVE_ACCESS_INDEX",), 0)], ids=["relocated", "as they are"]
)
def test_accesses_to_the_kernels_types_are_relocated_unless_a_macro_forbids_it(
    flags: tuple[str, ...], relocated: int, header: str, tmp_path: Path
) -> None:
    program = '__attribute__((section("raw_tp"))) int parent(struct task_struct *task)'
    lines = [f"{program} {{ return task->real_parent->tgid; }}"]
    spec = compiled_object(header, lines, tmp_path, "bpf", *flags)
    assert sum(each.core is not None for each in spec.programs["parent"].instructions) == relocated


@KERNEL
def test_the_kernels_functions_for_programs_are_declared_behind_all_types(kernel: Btf, header: str) -> None:
    tagged = {tag.type.name for tag in kernel.find_all("bpf_kfunc") if isinstance(tag, DeclTag)}
    guarded = header.partition("#ifndef BPF_NO_KFUNC_PROTOTYPES\n")[2].replace("__attribute__((address_space(1))) ", "")
    declared = re.findall(r"^extern .*?(\w+)\(.*\) __weak __ksym(?: __bpf_fastcall)?;$", guarded, re.MULTILINE)
    assert set(declared) == tagged
    assert "typedef" not in guarded
    fast = {tag.type.name for tag in kernel.find_all("bpf_fastcall") if isinstance(tag, DeclTag)}
    assert set(re.findall(r"(\w+)\([^()]*\) __weak __ksym __bpf_fastcall;", guarded)) == fast


@KERNEL
@pytest.mark.needs("tool:bpftool")
def test_bpftool_defines_the_same_types_and_constants(header: str) -> None:
    command = ["bpftool", "btf", "dump", "file", VMLINUX, "format", "c"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    mine = defined(header)
    assert defined(theirs) - mine == set()
    # bpftool leaves out constants that only functions use.
    assert {name for name in mine - defined(theirs) if " " in name} <= {
        "typedef ssizetype",
        "typedef __builtin_va_list",
    }


def defined(header: str) -> set[str]:
    """Return the tags, typedefs and constants that a header defines, without the numbers that set names apart."""
    header = header.replace("typedef struct {}", "typedef struct {\n}")  # bpftool's way
    found = re.findall(r"^((?:struct|union|enum) \w+) {", header, re.MULTILINE)
    found += [f"typedef {name}" for name in re.findall(r"^(?:typedef [^{;]*?|}[^;]*? )\(?\*?(\w+)(?:\)?[\[(][^;]*)?;$",
                                                       header, re.MULTILINE)]  # fmt: skip
    found += re.findall(r"^\t(\w+) = -?\d", header, re.MULTILINE)
    return {name.partition("___")[0] for name in found}


# Made to measure ------------------------------------------------------------------


def header_of(build: Callable[[Builder], object], byteorder: ByteOrder = "little") -> tuple[Btf, str]:
    builder = Builder(byteorder)
    build(builder)
    btf = Btf.from_bytes(builder.to_bytes())
    return btf, btf.to_c()


def body(text: str) -> str:
    """Return what stands in a header between its guards."""
    text = text.removeprefix("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n")
    text = text.removesuffix("#endif /* __VMLINUX_H__ */\n")
    return re.sub(r"#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang .*\n#endif\n\n", "", text)


@CLANG
@ORDERS
def test_clang_lays_any_shape_out_as_it_was(byteorder: ByteOrder, tmp_path: Path) -> None:
    btf, text = header_of(shapes, byteorder)
    named = once(btf)
    assert len(named) > 30
    assert differences(btf, compiled(text, uses(named), tmp_path, TARGETS[byteorder]), named) == []


def test_a_long_gap_is_an_array_also_behind_bit_fields() -> None:
    def build(b: Builder) -> None:
        int_ = b.int("int", 4, signed=True)
        b.struct("s", 1 << 31, [("a", int_, 0, 3), ("b", int_, (1 << 20) + 3, 2)])

    assert (
        body(header_of(build)[1])
        == """\
struct s {
	int a: 3;
	long: 61;
	unsigned char __pad8[131064];
	char: 3;
	int b: 2;
	long: 59;
	unsigned char __pad131080[2147352568];
};

"""
    )


def _order(b: Builder) -> None:
    # Each refers to what comes later.
    int_ = b.int("int", 4, signed=True)
    b.struct("first", 16, [("held", len(b) + 1, 0), ("next", len(b) + 3, 64)])
    b.typedef("held_t", len(b) + 1)
    b.struct("held", 8, [("n", int_, 0), ("mode", len(b) + 6, 32)])
    b.ptr(len(b) + 1)
    b.typedef("last_t", len(b) + 1)
    b.struct("last", 16, [("back", len(b) - 2, 0), ("call", len(b) + 1, 64)])
    b.ptr(len(b) + 1)
    b.func_proto(0, [("first", len(b) + 2), ("never", len(b) + 3)])
    b.enum("mode", [("ON", 1)])
    b.ptr(2)
    b.ptr(len(b) + 1)
    b.fwd("never")
    b.fwd("never", union=True)


@CLANG
def test_what_is_needed_comes_before_what_needs_it(tmp_path: Path) -> None:
    btf, text = header_of(_order)
    assert differences(btf, compiled(text, uses(once(btf)), tmp_path), once(btf)) == []
    assert (
        body(text)
        == """\
enum mode {
	ON = 1,
};

struct held {
	int n;
	enum mode mode;
};

typedef struct held held_t;

struct last;

typedef struct last last_t;

struct first {
	held_t held;
	last_t *next;
};

struct never;

struct last {
	last_t *back;
	void (*call)(struct first *first, struct never *never);
};

union never___2;

"""
    )


def _names(b: Builder) -> None:
    # What several source files call alike, what C has a meaning for, and what is no name in C.
    int_, long = b.int("int", 4, signed=True), b.int("long long", 8, signed=True)
    b.struct("twice", 4, [("a", int_, 0)])
    b.struct("twice", 8, [("b", long, 0)])
    b.union("twice", 4, [("c", int_, 0)])
    b.typedef("twice", b.ptr(4))
    b.typedef("twice", b.ptr(5))
    b.enum("", [("twice", 1), ("SAME", 2)])
    b.enum("", [("SAME", 3)])
    b.enum("twice", [("int", 4)])
    b.struct("goto", 4, [("while", int_, 0)])
    b.struct("core::option<u8>", 4, [("0", int_, 0)])
    b.typedef("unsigned", int_)


@CLANG
def test_names_are_made_different_in_a_way_that_relocation_ignores(tmp_path: Path) -> None:
    _, text = header_of(_names)
    compiled(text, ["twice *a; twice___2 *b; int c = SAME + SAME___2 + twice___3;"], tmp_path)
    assert re.findall(r"^((?:struct|union|typedef) .*?)(?: {|;)$", body(text), re.MULTILINE) == [
        "struct twice",
        "struct twice___2",
        "union twice___3",
        "typedef struct twice___2 *twice",
        "typedef union twice___3 *twice___2",
        "struct goto___2",
        "struct core__option_u8_",
        "typedef int unsigned___2",
    ]


def _tags(b: Builder) -> None:
    int_ = b.int("int", 4, signed=True)
    pointer = b.ptr(b.type_tag("user", b.const(int_)))
    b.decl_tag("whole", b.struct("tagged", 16, [("p", pointer, 0), ("n", int_, 64)]))
    b.decl_tag("member", len(b) - 2, 1)
    b.decl_tag("alias", b.typedef("tagged_t", int_))
    b.typedef("far", b.ptr(b.type_tag("address_space(1)", int_, attribute=True)))
    b.typedef("quoted", b.ptr(b.type_tag('a"b\\c\n', int_)))
    b.typedef("evil", b.ptr(b.type_tag("x)) int oops; ((", int_, attribute=True)))


def test_tags_and_attributes_are_written_as_clang_takes_them() -> None:
    _, text = header_of(_tags)
    assert (
        body(text)
        == """\
struct tagged {
	__attribute__((btf_type_tag("user"))) const int *p;
	int n __attribute__((btf_decl_tag("member")));
} __attribute__((btf_decl_tag("whole")));

typedef int tagged_t __attribute__((btf_decl_tag("alias")));

typedef __attribute__((address_space(1))) int *far;

typedef __attribute__((btf_type_tag("a\\"b\\\\c?"))) int *quoted;

typedef int *evil;

"""
    )


@CLANG
def test_clang_writes_the_same_tags_again(tmp_path: Path) -> None:
    _, text = header_of(_tags)
    got = compiled(text, ["struct tagged v; tagged_t w; far x;"], tmp_path)
    assert {(tag.name, tag.component_index) for tag in got if isinstance(tag, DeclTag)} == {
        ("whole", -1), ("member", 1), ("alias", -1),
    }  # fmt: skip
    assert [type.name for type in got if isinstance(type, TypeTag)] == ["user"]


DECLARATIONS: list[tuple[str, Callable[[Builder, int], int], str]] = [
    ("pointer", lambda b, int_: b.ptr(int_), "int *x"),
    ("array", lambda b, int_: b.array(b.array(int_, 3), 2), "int x[2][3]"),
    ("pointer to array", lambda b, int_: b.ptr(b.array(int_, 3)), "int (*x)[3]"),
    ("array of pointers", lambda b, int_: b.array(b.ptr(int_), 3), "int *x[3]"),
    ("qualified", lambda b, int_: b.const(b.ptr(b.volatile(b.const(int_)))), "volatile const int *const x"),
    ("const twice", lambda b, int_: b.const(b.array(b.const(int_), 3)), "const int x[3]"),
    ("function", lambda b, int_: b.ptr(b.func_proto(0, [("a", int_), ("", b.ptr(0))])), "void (*x)(int a, void *)"),
    ("variadic", lambda b, int_: b.ptr(b.func_proto(int_, [("a", int_)], variadic=True)), "int (*x)(int a, ...)"),
    (
        "parameters of names that C has not",
        lambda b, int_: b.ptr(b.func_proto(0, [("int", int_), ("a); int b(", int_)])),
        "void (*x)(int int___2, int a___int_b_)",
    ),
    ("no parameters", lambda b, int_: b.ptr(b.func_proto(int_, [])), "int (*x)(void)"),
    (
        "function that returns a function",
        lambda b, int_: b.ptr(b.func_proto(b.ptr(b.func_proto(int_, [("", int_)])), [("", int_)])),
        "int (*(*x)(int))(int)",
    ),
    ("table of functions", lambda b, _: b.array(b.ptr(b.func_proto(0, [])), 2), "void (*x[2])(void)"),
    ("enum without constants", lambda b, _: b.ptr(b.enum("later", [])), "unsigned int *x"),
    ("anonymous", lambda b, int_: b.struct("", 4, [("a", int_, 0)]), "struct {\n\tint a;\n} x"),
]


@pytest.mark.parametrize(("build", "text"), [case[1:] for case in DECLARATIONS], ids=[case[0] for case in DECLARATIONS])
def test_a_declaration_reads_from_its_name_outwards(build: Callable[[Builder, int], int], text: str) -> None:
    _, header = header_of(lambda b: b.typedef("x", build(b, b.int("int", 4, signed=True))))
    assert body(header) == f"typedef {text};\n\n"


@CLANG
def test_all_declarations_compile(tmp_path: Path) -> None:
    def build(b: Builder) -> None:
        int_ = b.int("int", 4, signed=True)
        for at, (_, made, _) in enumerate(DECLARATIONS):
            b.typedef(f"x{at}", made(b, int_))

    compiled(header_of(build)[1], [f"x{at} v{at};" for at in range(len(DECLARATIONS))], tmp_path)


# Some types -----------------------------------------------------------------------


@CLANG
@KERNEL
@pytest.mark.parametrize("name", ["task_struct", "sk_buff", "pid_t", "bpf_map_type", "va_list", "bpf_task_acquire"])
def test_a_type_by_name_comes_with_what_it_needs_and_no_more(name: str, kernel: Btf, tmp_path: Path) -> None:
    text = kernel.to_c(name)
    found = kernel[name]
    types = [found] if isinstance(found, (Composite, Enum)) else []
    assert differences(kernel, compiled(text, ["int some;", *uses(types)], tmp_path), types) == []
    assert name in text
    assert len(text) < 400_000
    assert "struct ext4_inode" not in text


@KERNEL
def test_types_by_name_have_what_they_share_once(kernel: Btf) -> None:
    text = kernel.to_c(["list_head", "hlist_node", "u32", "int"])
    assert (
        body(text)
        == """\
struct list_head {
	struct list_head *next;
	struct list_head *prev;
};

struct hlist_node {
	struct hlist_node *next;
	struct hlist_node **pprev;
};

typedef unsigned int __u32;

typedef __u32 u32;

"""
    )


def test_an_unknown_name_is_a_key_error() -> None:
    btf = Btf.from_bytes(sample()[0])
    for name in ("absent", "", "counted", "total"):
        with pytest.raises(KeyError) as caught:
            btf.to_c(name)
        assert caught.value.args == (name,)


# Broken types ---------------------------------------------------------------------


def _endless(b: Builder) -> None:
    b.typedef("a", 2)
    b.ptr(1)


def _held_by_itself(b: Builder) -> None:
    b.struct("a", 8, [("b", 2, 0)])
    b.struct("b", 8, [("a", 1, 0)])


def _nested(b: Builder) -> None:
    for id in range(1, 80):
        b.struct("", 8, [("", id + 1, 0)] * 9)
    b.int("int", 4)
    b.typedef("t", 1)


def _doubled(b: Builder) -> None:
    # Each function takes the next one twice: the text doubles at each step.
    for id in range(1, 60):
        b.func_proto(0, [("", id + 1), ("", id + 1)])
    b.int("int", 4)
    b.typedef("t", 1)


def _wide(b: Builder) -> None:
    int_ = b.int("int", 4)
    many = b.union("", 4, [("", int_, 0)] * 6000)
    for at in range(300):
        b.struct(f"s{at}", 4, [("a", many, 0)])


BROKEN: list[tuple[str, Callable[[Builder], object], str]] = [
    ("a typedef of itself", _endless, "need the other"),
    ("structs that hold one another", _held_by_itself, "need the other"),
    ("structs without end", _nested, "nested more than 64 deep|overlap"),
    ("functions that double", _doubled, "without end"),
    ("many that hold a wide one", _wide, "without end"),
    ("an overlap", lambda b: b.struct("s", 8, [("a", b.int("int", 4), 0), ("b", 1, 16)]), "overlap"),
    ("a member behind the end", lambda b: b.struct("s", 4, [("a", b.int("int", 4), 8)]), "overlap"),
    ("a bit-field wider than its type", lambda b: b.struct("s", 4, [("a", b.int("char", 1), 0, 12)]), "overlap"),
    ("a member of no size", lambda b: b.struct("s", 4, [("a", b.func_proto(0, []), 0)]), "cannot be in a struct"),
    (
        "a pointer to a variable",
        lambda b: b.struct("s", 8, [("a", b.ptr(b.var("v; int w", b.int("int", 4))), 0)]),
        "'v;",
    ),
    ("a bit-field of a struct", lambda b: b.struct("s", 4, [("a", b.struct("t", 4, []), 0, 3)]), "no number"),
    ("a number of 3 bytes", lambda b: b.struct("s", 4, [("a", b.record(1, "x", 3, 24), 0)]), "3 bytes"),
]


@pytest.mark.parametrize(("build", "text"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_no_compiler_could_have_made_is_refused(build: Callable[[Builder], object], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        header_of(build)


SAMPLE = sample()[0]


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(6, len(SAMPLE) // 4 - 1), st.integers(0, 40)), min_size=1, max_size=4))
def test_btf_with_changed_words_becomes_c_or_is_refused(changes: list[tuple[int, int]]) -> None:
    # Invariant: to_c returns or raises FormatError.
    data = bytearray(SAMPLE)
    for word, value in changes:
        data[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
    try:
        assert Btf.from_bytes(bytes(data)).to_c()
    except FormatError:
        pass


def test_a_chain_longer_than_pythons_stack_is_written() -> None:
    def build(b: Builder) -> None:
        for id in range(1, 5000):
            b.typedef(f"t{id}", id + 1)
        b.int("int", 4, signed=True)

    assert header_of(build)[1].count("typedef") == 4999
