"""CO-RE asks whole types and enumerators whether they are there, whether they match, how large they are."""

from __future__ import annotations

import pytest
from support.core_types import (
    ENUM_EXISTS,
    ENUM_VALUE,
    ID_LOCAL,
    ID_TARGET,
    TYPE_EXISTS,
    TYPE_MATCHES,
    TYPE_SIZE,
    Program,
    Types,
    answer,
)

from rawbpf.btf import Builder
from rawbpf.errors import FormatError

WRAP = 1 << 64


def s32(b: Builder) -> int:
    return b.int("int", 4, signed=True)


def u32(b: Builder) -> int:
    return b.int("unsigned int", 4)


def u64(b: Builder) -> int:
    return b.int("unsigned long long", 8)


def named(of: Types) -> Types:
    """Return a typedef `t` of the type, by which types without a name are found."""
    return lambda b: b.typedef("t", of(b))


def struct(*members: tuple[str, Types], name: str = "s") -> Types:
    return lambda b: b.struct(name, 64, [(label, of(b), 64 * at) for at, (label, of) in enumerate(members)])


def union(*members: tuple[str, Types], name: str = "s") -> Types:
    return lambda b: b.union(name, 64, [(label, of(b), 0) for label, of in members])


def ptr(of: Types) -> Types:
    return lambda b: b.ptr(of(b))


def proto(returned: Types, *params: Types, variadic: bool = False) -> Types:
    return lambda b: b.func_proto(returned(b), [("", of(b)) for of in params], variadic)


def array(of: Types, length: int) -> Types:
    return lambda b: b.array(of(b), length)


def enum(*names: str, name: str = "e", size: int = 4) -> Types:
    return lambda b: b.enum(name, [(each, at) for at, each in enumerate(names)], size)


def enum64(*names: str, name: str = "e", size: int = 8) -> Types:
    return lambda b: b.enum64(name, [(each, at) for at, each in enumerate(names)], size)


def fwd(name: str = "s", union: bool = False) -> Types:
    return lambda b: b.fwd(name, union)


def void(b: Builder) -> int:
    return 0


CASES = [
    # (what, the program's, the kernel's, stands for it, matches it)
    ("the same struct", struct(("x", s32)), struct(("x", s32)), True, True),
    ("a flavor of it", struct(("x", s32), name="s___v2"), struct(("x", s32), name="s"), True, True),
    ("another flavor of it", struct(("x", s32), name="s___v2"), struct(("x", s32), name="s___v3"), True, True),
    ("a member more", struct(("x", s32)), struct(("y", s32), ("x", s32)), True, True),
    ("a member less", struct(("x", s32), ("y", s32)), struct(("x", s32)), True, False),
    ("another member", struct(("x", s32)), struct(("y", s32)), True, False),
    ("a member's flavor", struct(("x___old", s32)), struct(("x", s32)), True, True),
    (
        "a struct within",
        struct(("", struct(("x", s32), name=""))),
        struct(("", struct(("x", u32), name=""))),
        True,
        False,
    ),
    ("a member's sign", struct(("x", s32)), struct(("x", lambda b: b.int("int", 4))), True, False),
    ("a member's size", struct(("x", u32)), struct(("x", lambda b: b.int("unsigned int", 8))), True, False),
    (
        "more structs within",
        struct(("", struct(name="")), ("", struct(name=""))),
        struct(("", struct(name=""))),
        True,
        False,
    ),
    ("typedefs", struct(("x", u32)), struct(("x", lambda b: b.typedef("t", b.const(u32(b))))), True, True),
    ("a union for a struct", struct(("x", s32)), union(("x", s32)), False, False),
    ("a union", union(("x", s32)), union(("x", s32)), True, True),
    ("a declaration for a struct", struct(("x", s32)), fwd(), False, False),
    (
        "behind a pointer",
        struct(("p", ptr(struct(("x", s32), name="q")))),
        struct(("p", ptr(struct(name="q")))),
        True,
        True,
    ),
    ("declared there", struct(("p", ptr(struct(name="q")))), struct(("p", ptr(fwd("q")))), True, True),
    ("declared here", struct(("p", ptr(fwd("q")))), struct(("p", ptr(struct(name="q")))), True, True),
    ("declared twice", struct(("p", ptr(fwd("q")))), struct(("p", ptr(fwd("q")))), True, True),
    ("declared as a union", struct(("p", ptr(struct(name="q")))), struct(("p", ptr(fwd("q", True)))), True, False),
    (
        "another struct behind it",
        struct(("p", ptr(struct(name="q")))),
        struct(("p", ptr(struct(name="r")))),
        True,
        False,
    ),
    ("another kind of member", struct(("p", ptr(s32))), struct(("p", s32)), True, False),
    ("an integer", s32, lambda b: b.int("int", 8, signed=True), True, False),
    ("a part of an integer", s32, lambda b: b.record(1, "int", 4, 4 << 16 | 28), False, False),
    ("a float", lambda b: b.float("float", 4), lambda b: b.float("float", 4), False, False),
    ("typedefs of integers", named(u32), named(u64), True, False),
    ("a typedef and an int", named(u32), lambda b: b.int("t", 4), False, False),
    ("pointers", named(ptr(s32)), named(ptr(s32)), True, True),
    ("pointers to void", named(ptr(void)), named(ptr(void)), True, True),
    ("pointers to void and not", named(ptr(void)), named(ptr(s32)), False, False),
    ("arrays", named(array(s32, 3)), named(array(s32, 3)), True, True),
    ("arrays of other lengths", named(array(s32, 3)), named(array(s32, 4)), True, False),
    ("prototypes", named(proto(void, s32, ptr(struct()))), named(proto(void, s32, ptr(struct()))), True, True),
    ("a parameter more", named(proto(void, s32)), named(proto(void, s32, s32)), False, False),
    ("another parameter", named(proto(void, s32)), named(proto(void, ptr(s32))), False, False),
    ("another result", named(proto(void, s32)), named(proto(s32, s32)), False, False),
    ("more to follow", named(proto(void, s32, variadic=True)), named(proto(void, s32)), False, False),
    ("pointers to prototypes", named(ptr(proto(s32, u64))), named(ptr(proto(s32, u64))), True, True),
    ("an enum", enum("A", "B"), enum("B", "C", "A"), True, True),
    ("an enumerator less", enum("A", "B"), enum("A"), True, False),
    ("another enumerator", enum("A", "B"), enum("A", "C", "D"), True, False),
    ("an enum of 64 bits", enum("A"), enum64("A", size=4), True, True),
    ("an enum of another size", enum64("A"), enum("A"), True, False),
    ("an enumerator's flavor", enum("A___v1"), enum("A"), True, True),
    ("two flavors of an enumerator", enum("A", "A___v2"), enum("A"), True, False),
    ("declarations", fwd(), fwd(), True, True),
    ("declarations of a struct and of a union", fwd(), fwd(union=True), True, False),
    ("a function", lambda b: b.func("f", proto(void)(b)), lambda b: b.func("f", proto(void)(b)), False, False),
]


@pytest.mark.parametrize(
    ("local", "target", "exists", "matches"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_type_exists_and_matches(local: Types, target: Types, exists: bool, matches: bool) -> None:
    assert answer(local, target, "0", TYPE_EXISTS) == (1, int(exists))
    assert answer(local, target, "0", TYPE_MATCHES) == (1, int(matches))


def test_a_type_that_the_kernel_lacks_has_size_0_and_id_0_and_the_programs_own_id_stays() -> None:
    def nothing(b: Builder) -> int:
        return b.int("long", 8)

    local = struct(("x", s32))
    assert answer(local, nothing, "0", TYPE_SIZE) == (64, 0)
    assert answer(local, nothing, "0", TYPE_EXISTS) == (1, 0)
    assert answer(local, nothing, "0", TYPE_MATCHES) == (1, 0)
    assert answer(local, nothing, "0", ID_TARGET)[1] == 0
    own = Program(local, nothing).fixup("0", ID_LOCAL)
    assert (own.new, own.checked) == (Program(local).root, False)


def test_a_type_has_the_kernels_size_and_id() -> None:
    def target(b: Builder) -> int:
        u64(b)
        return b.struct("s", 24, [])

    fixup = Program(struct(("x", s32)), target).fixup("0", ID_TARGET)
    assert (fixup.new, fixup.checked) == (2, False)
    assert answer(struct(("x", s32)), target, "0", TYPE_SIZE) == (64, 24)


def test_the_programs_own_ids_need_no_kernel() -> None:
    assert Program(s32).fixup("0", ID_LOCAL).new == 1


ENUMS = [
    pytest.param(lambda b: b.enum("e", [("A", 3), ("B", 9)]), 9, id="another value"),
    pytest.param(lambda b: b.enum("e", [("B", -2)], signed=True), WRAP - 2, id="a negative value"),
    pytest.param(lambda b: b.enum("e", [("B", 0xFFFFFFFE)]), WRAP - 2, id="32 bits, of which none knows the sign"),
    pytest.param(lambda b: b.enum64("e", [("B", 1 << 40)]), 1 << 40, id="64 bits"),
    pytest.param(lambda b: b.enum64("e", [("B", -2)], signed=True), WRAP - 2, id="64 bits, negative"),
    pytest.param(lambda b: b.enum("e___old", [("B___2", 4)]), 4, id="flavors of both names"),
    pytest.param(lambda b: b.enum("e", [("A", 3)]), None, id="another enumerator"),
    pytest.param(lambda b: b.enum("f", [("B", 3)]), None, id="another enum"),
    pytest.param(lambda b: b.struct("e", 4, []), None, id="a struct"),
]


@pytest.mark.parametrize(("target", "value"), ENUMS)
def test_an_enumerator_is_found_by_its_name(target: Types, value: int | None) -> None:
    local = enum("A", "B")
    assert answer(local, target, "1", ENUM_VALUE) == (1, value)
    assert answer(local, target, "1", ENUM_EXISTS) == (1, int(value is not None))


def test_an_enumerator_is_also_found_behind_a_typedef() -> None:
    assert answer(named(enum("A", "B")), named(enum("C", "D", "B")), "1", ENUM_VALUE) == (1, 2)
    assert answer(named(enum("A", "B")), named(s32), "1", ENUM_VALUE) == (1, None)


@pytest.mark.parametrize(
    ("local", "access", "kind"),
    [
        pytest.param(enum("A"), "1", ENUM_VALUE, id="an enumerator too far"),
        pytest.param(enum("A"), "0:0", ENUM_VALUE, id="a member of an enum"),
        pytest.param(s32, "0", ENUM_VALUE, id="an enumerator of an integer"),
        pytest.param(struct(), "0:0", TYPE_SIZE, id="a member of a whole type"),
        pytest.param(fwd(), "0", TYPE_SIZE, id="the size of what is only declared"),
    ],
)
def test_a_record_that_contradicts_its_type_is_damage(local: Types, access: str, kind: int) -> None:
    with pytest.raises(FormatError):
        answer(local, local, access, kind)
