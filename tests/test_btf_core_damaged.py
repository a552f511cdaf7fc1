"""CO-RE over hostile types: an answer or FormatError, in bounded time, whatever refers to what."""

from __future__ import annotations

import random

import pytest
from support.core_types import EXISTS, OFFSET, TYPE_EXISTS, TYPE_MATCHES, Program, Types, answer

from rawbpf.btf import Btf, Builder
from rawbpf.btf.core import Core
from rawbpf.errors import FormatError, SpecError


def prototypes(b: Builder) -> int:
    # Each takes two pointers to the one before: a thousand million ways to the first.
    at = b.func_proto(0, [])
    for _ in range(30):
        pointer = b.ptr(at)
        at = b.func_proto(0, [("", pointer), ("", b.const(pointer))])
    return b.typedef("t", at)


def nested(b: Builder) -> int:
    # The same with structs that have the one before twice, without names.
    at = b.struct("", 4, [("x", b.int("int", 4), 0)])
    for level in range(40):
        at = b.struct("", 8 << level & 0xFFFFFFFF, [("", at, 0), ("", b.const(at), 32)])
    return b.struct("t", 8, [("", at, 0)])


def endless_pointers(b: Builder) -> int:
    first = b.ptr(len(b))
    return b.typedef("t", first)


def endless_arrays(b: Builder) -> int:
    own = b.array(len(b) + 1, 1, b.int("unsigned int", 4))
    return b.struct("t", 8, [("x", own, 0)])


def endless_structs(b: Builder) -> int:
    return b.struct("t", 8, [("", len(b), 0)])


def endless_typedefs(b: Builder) -> int:
    return b.typedef("t", len(b))


def odd_bit_field(b: Builder) -> int:
    return b.struct("t", 8, [("x", b.ptr(0), 0, 3)])


def empty_bit_field(b: Builder) -> int:
    return b.struct("t", 8, [("x", b.record(1, "int", 0, 0), 0, 3)])


def wide_bit_field(b: Builder) -> int:
    return b.struct("t", 64, [("x", b.struct("wide", 32, []), 0, 3)])


@pytest.mark.parametrize(
    ("types", "access", "kind"),
    [
        pytest.param(endless_pointers, "0", TYPE_EXISTS, id="endless pointers"),
        pytest.param(endless_pointers, "0", TYPE_MATCHES, id="endless pointers, matched"),
        pytest.param(endless_arrays, "0:0", OFFSET, id="endless arrays"),
        pytest.param(endless_arrays, "0:0", EXISTS, id="endless arrays, asked for"),
        pytest.param(endless_structs, "0", TYPE_MATCHES, id="endless structs"),
        pytest.param(endless_typedefs, "0:0", EXISTS, id="endless typedefs"),
        pytest.param(odd_bit_field, "0:0", OFFSET, id="a bit-field of a pointer"),
        pytest.param(empty_bit_field, "0:0", OFFSET, id="a bit-field of nothing"),
        pytest.param(wide_bit_field, "0:0", OFFSET, id="a bit-field of more than any load"),
    ],
)
def test_types_without_an_end_or_a_size_are_damage(types: Types, access: str, kind: int) -> None:
    with pytest.raises(FormatError):
        answer(types, types, access, kind)


def test_prototypes_and_structs_that_name_one_another_many_times_are_compared_once_each() -> None:
    assert answer(prototypes, prototypes, "0", TYPE_EXISTS) == (1, 1)
    assert answer(prototypes, prototypes, "0", TYPE_MATCHES) == (1, 1)
    assert answer(nested, nested, "0", TYPE_MATCHES) == (1, 1)
    assert answer(lambda b: b.struct("t", 8, [("y", b.int("int", 4), 0)]), nested, "0:0", EXISTS) == (1, 0)
    assert answer(nested, nested, "0" + ":0" * 42, EXISTS) == (1, 1)


def shuffled(random_: random.Random, count: int) -> Types:
    # Types that refer to any other, with few names, so that much is found.
    def types(b: Builder) -> int:
        def any_id() -> int:
            return random_.randrange(count + 2)

        for at in range(count):
            name = random_.choice(["", "a", "a___x", "b", "c"])
            kind = random_.randrange(11)
            if kind < 3:
                size = random_.choice([0, 4, 8, 1 << 31])
                members = [
                    (random_.choice(["", "x", "y"]), any_id(), random_.randrange(200), random_.choice([0, 0, 0, 7]))
                    for _ in range(random_.randrange(4))
                ]
                (b.struct if kind else b.union)(name, size, members)
            elif kind == 3:
                b.int(name, random_.choice([1, 4, 8]))
            elif kind == 4:
                b.ptr(any_id())
            elif kind == 5:
                b.array(any_id(), random_.choice([0, 2, 1 << 31]), any_id())
            elif kind == 6:
                b.typedef(name, any_id())
            elif kind == 7:
                b.const(any_id())
            elif kind == 8:
                b.func_proto(any_id(), [("", any_id()) for _ in range(random_.randrange(3))])
            elif kind == 9:
                b.enum(name, [(random_.choice(["x", "x___2", "y"]), at)])
            else:
                b.fwd(name)
        return 0

    return types


@pytest.mark.parametrize("seed", range(8))
def test_random_types_give_answers_or_an_error(seed: int) -> None:
    random_ = random.Random(seed)
    answered = refused = 0
    for _ in range(12):
        program = Program(shuffled(random_, 25), shuffled(random_, 25), shuffled(random_, 25))
        ways = ["0", "0:0", "0:1", "1:0:0", "0:0:1:0"]
        records = [
            (type_id, program.record(way, kind)[1], kind)
            for type_id in range(1, 25)
            for way in ways
            for kind in range(13)
        ]
        core = program.core()
        for record in records:
            try:
                core.fixup(record)
                core.spell(record)
            except (FormatError, SpecError):
                refused += 1
            else:
                answered += 1
    assert answered > 100
    assert refused > 100


@pytest.mark.parametrize("cut", range(4))
def test_damaged_bytes_give_answers_or_an_error(cut: int) -> None:
    program = Program(nested, nested)
    record = program.record("0" + ":0" * 42, OFFSET)
    whole = bytearray(program.local().raw)
    random_ = random.Random(cut)
    outcomes: set[int | str | None] = set()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(cut + 1):
            data[random_.randrange(24, len(data))] = random_.randrange(256)
        try:
            outcomes.add(Core(Btf.from_bytes(bytes(data)), [Btf.from_bytes(bytes(whole))]).fixup(record).new)
        except (FormatError, SpecError):
            outcomes.add("refused")
    assert "refused" in outcomes
    assert len(outcomes) > 1
