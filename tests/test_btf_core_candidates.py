"""Which types of a kernel a program's type is looked for in: by name without flavors and by kind, all in agreement."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.core_types import (
    EXISTS,
    ID_TARGET,
    OFFSET,
    TYPE_EXISTS,
    TYPE_SIZE,
    Program,
    Types,
    built,
)

from rawbpf.btf import Btf, Builder
from rawbpf.btf.core import Core
from rawbpf.btf.core_compare import essential_name
from rawbpf.errors import FormatError, SpecError


def task(*members: str, name: str = "task") -> Types:
    """Return a struct of integers, the first of them behind an int without a name."""
    return lambda b: b.struct(
        name, 64, [(each, b.int("int", 4, signed=True), 32 * at) for at, each in enumerate(members, 1)]
    )


def all_of(*types: Types) -> Types:
    return lambda b: [each(b) for each in types][-1]


@pytest.mark.parametrize(
    ("name", "essential"),
    [
        ("task", "task"),
        ("task___v2", "task"),
        ("task___a___b", "task___a"),
        ("task___", "task___"),
        ("___task", "___task"),
        ("task____v2", "task____v2"),
        ("_task___v", "_task"),
        ("a___b____c", "a"),
        ("task__v2", "task__v2"),
        ("", ""),
        ("_" * 4096, "_" * 4096),
    ],
)
def test_a_flavor_is_what_follows_the_last_three_underscores(name: str, essential: str) -> None:
    assert essential_name(name) == essential


@pytest.mark.parametrize(
    ("local", "target", "found"),
    [
        ("task", "task", True),
        ("task___mine", "task", True),
        ("task", "task___theirs", True),
        ("task___mine", "task___theirs", True),
        ("task", "task_struct", False),
        ("task", "a_task", False),
        ("task", "task___", False),
        ("task", "task____x", False),
        ("task", "a___task", False),
    ],
)
def test_types_are_found_by_their_names_without_flavors(local: str, target: str, found: bool) -> None:
    fixup = Program(task("x", name=local), task("y", "x", name=target)).fixup("0:0", OFFSET)
    assert fixup.new == (8 if found else None)


@given(st.lists(st.sampled_from(["a", "a___x", "a___y", "b", "b___x", "ab", "a____x", "_a___x", "a___"]), max_size=12))
def test_flavors_are_all_found_in_the_order_of_their_ids(names: list[str]) -> None:
    btf = built(lambda b: [b.struct(name, at, []) for at, name in enumerate(names)][-1] if names else 0)
    for name in ("a", "b", "a____x"):
        expected = [at for at, each in enumerate(names, 1) if essential_name(each) == name]
        assert [type.id for type in btf.find_flavors(name)] == expected


KINDS: dict[str, Types] = {
    "struct": lambda b: b.struct("x", 4, []),
    "union": lambda b: b.union("x", 4, []),
    "fwd": lambda b: b.fwd("x"),
    "int": lambda b: b.int("x", 4),
    "enum": lambda b: b.enum("x", []),
    "enum64": lambda b: b.enum64("x", []),
    "typedef": lambda b: b.typedef("x", b.int("int", 4)),
    "float": lambda b: b.float("x", 4),
    "func": lambda b: b.func("x", b.func_proto(0, [])),
}


def test_a_flavor_of_a_name_that_is_too_long_is_none() -> None:
    btf = built(all_of(task(), task(name="task___" + "x" * 5000), task(name="task___new")))
    assert [type.id for type in btf.find_flavors("task")] == [1, 3]


@pytest.mark.parametrize("local", KINDS)
def test_a_type_is_looked_for_among_those_of_its_kind(local: str) -> None:
    found = {kind for kind, types in KINDS.items() if Program(KINDS[local], types).fixup("0", ID_TARGET).new}
    unanswered = {"float", "func"}  # nothing stands for these
    assert found == ({"enum", "enum64"} if local.startswith("enum") else {local} - unanswered)


def test_several_types_of_a_name_have_to_agree() -> None:
    same = all_of(task("x", "y"), task("x", "z", name="task___2"))
    fixup = Program(task("y", "x"), same).fixup("0:1", OFFSET)
    assert (fixup.old, fixup.new) == (8, 4)
    assert Program(task("x"), same).fixup("0", TYPE_SIZE).new == 64

    differing = all_of(task("x", "y"), task("y", "x", name="task___2"))
    with pytest.raises(SpecError, match=r"struct task\.x is ambiguous: .* byte offset is 4 in .*, but 8 in .*task___2"):
        Program(task("x"), differing).fixup("0:0", OFFSET)


def test_existing_at_different_places_is_ambiguous_too() -> None:
    differing = all_of(task("x", "y"), task("y", "x", name="task___2"))
    with pytest.raises(SpecError, match=r"is ambiguous: .* first bit is 32 in .*, but 64 in "):
        Program(task("x"), differing).fixup("0:0", EXISTS)


def test_ids_of_two_types_do_not_agree_but_their_existence_does() -> None:
    two = all_of(task("x"), task("x", name="task___2"))
    with pytest.raises(SpecError, match=r"its target type id is 2 in .*, but 3 in"):
        Program(task("x"), two).fixup("0", ID_TARGET)
    assert Program(task("x"), two).fixup("0", TYPE_EXISTS).new == 1


def test_what_lacked_one_field_is_not_asked_for_the_next() -> None:
    two = all_of(task("x", "y"), task("y", "z", name="task___2"))
    program = Program(task("x", "y"), two)
    records = [program.record(access, OFFSET) for access in ("0:0", "0:1")]
    core = program.core()
    assert [core.fixup(record).new for record in records] == [4, 8]
    with pytest.raises(SpecError, match=r"task\.y is ambiguous"):
        Program(task("x", "y"), two).fixup("0:1", OFFSET)


def module(base: Btf, name: str, offset: int) -> Btf:
    """Return the BTF of a module that continues `base`: `struct name { int x; }`, with x at byte `offset`."""
    strings = f"{name}\0x\0".encode()
    first = len(base.strings)
    record = [first, 4 << 24 | 1, 64, first + len(name) + 1, 1, 8 * offset]
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 24, 24, len(strings))
    return Btf.from_bytes(header + struct.pack("<6I", *record) + strings, base)


class Targets:
    """A kernel and its modules, which counts how many were asked for."""

    def __init__(self, kernel: Btf, *modules: Btf) -> None:
        self.all = kernel, *modules
        self.asked = 0

    def __iter__(self) -> Iterator[Btf]:
        for each in self.all:
            self.asked += 1
            yield each


def test_modules_are_asked_for_what_the_kernel_lacks() -> None:
    kernel = built(all_of(task("x"), task("x", name="device")))
    modules = module(kernel, "other", 20), module(kernel, "driver___2", 12), module(kernel, "device", 28)
    program = all_of(task("x", name="device"), task("x", name="driver"), task("x", name="nobody"))
    builder = Builder()
    program(builder)
    access = builder.string("0:0")
    device, driver, nobody = (Btf.from_bytes(builder.to_bytes())[name].id for name in ("device", "driver", "nobody"))
    targets = Targets(kernel, *modules)
    core = Core(Btf.from_bytes(builder.to_bytes()), targets)

    assert core.fixup((device, access, OFFSET)).new == 4, "the kernel's own goes before the module's"
    assert targets.asked == 1
    assert core.fixup((driver, access, OFFSET)).new == 12
    assert core.fixup((nobody, access, OFFSET)).new is None
    assert targets.asked == 4


def test_flavors_are_found_in_what_a_module_continues_too() -> None:
    kernel = built(all_of(task("x", name="task"), task("x", name="task___2")))
    assert [type.id for type in module(kernel, "task___3", 4).find_flavors("task")] == [2, 3, 4]


def test_of_two_types_that_agree_on_the_place_the_first_says_how_wide_it_is() -> None:
    def both(b: Builder) -> int:
        b.struct("task", 64, [("x", b.int("unsigned char", 1), 32)])
        return b.struct("task___2", 64, [("x", b.int("unsigned long", 8), 32)])

    fixup = Program(lambda b: b.struct("task", 8, [("x", b.int("unsigned int", 4), 0)]), both).fixup("0:0", OFFSET)
    assert (fixup.new, fixup.old_size, fixup.new_size) == (4, 4, 1)


def test_types_of_two_modules_have_to_agree() -> None:
    kernel = built(task("x"))
    program = Program(task("x", name="driver"))
    record = program.record("0:0", OFFSET)
    local = program.local()
    same, other = module(kernel, "driver", 12), module(kernel, "driver", 16)
    assert Core(local, [kernel, same, same]).fixup(record).new == 12
    with pytest.raises(SpecError, match="is ambiguous"):
        Core(local, [kernel, same, other]).fixup(record)


def test_a_type_without_a_name_cannot_be_found() -> None:
    with pytest.raises(SpecError, match="has no name by which to find it in the kernel"):
        Program(lambda b: b.ptr(0), task("x")).fixup("0", TYPE_EXISTS)


@pytest.mark.parametrize("record", [(99, 0, OFFSET), (1, 9999, OFFSET)], ids=["type", "string"])
def test_a_record_that_refers_to_nothing_is_damage(record: tuple[int, int, int]) -> None:
    with pytest.raises(FormatError):
        Core(built(task("x")), [built(task("x"))]).fixup(record)


def test_a_kind_of_later_times_and_a_kernel_without_types_are_refused() -> None:
    with pytest.raises(SpecError, match="of kind 13, but kinds end at 12"):
        Program(task("x"), task("x")).fixup("0", 13)
    with pytest.raises(SpecError, match="no types to relocate against"):
        Program(task("x")).fixup("0:0", OFFSET)
