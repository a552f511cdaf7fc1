"""Codecs of BTF types: what names and kinds mean, unions, bit-fields, enumerations, both byte orders."""

from __future__ import annotations

import copy
import enum
import pickle
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest

from rawbpf.btf import Btf, Builder
from rawbpf.codec import codec_for
from rawbpf.codec.union import UnionValue
from rawbpf.errors import FormatError

Order = Literal["little", "big"]


def _last(build: Callable[[Builder], int], order: Order = sys.byteorder) -> Any:
    builder = Builder(order)
    number = build(builder)
    return codec_for(Btf.from_bytes(builder.to_bytes())[number])


def _u8(b: Builder) -> int:
    return b.int("unsigned char", 1)


def _u32(b: Builder) -> int:
    return b.int("unsigned int", 4)


SCALARS: list[tuple[str, Callable[[Builder], int], bytes, object]] = [
    ("u32", _u32, b"\1\2\0\0", 0x201),
    ("s64", lambda b: b.int("long", 8, signed=True), b"\xfe" + b"\xff" * 7, -2),
    ("bool", lambda b: b.int("_Bool", 1, bool=True), b"\1", True),
    ("u128", lambda b: b.int("unsigned __int128", 16), b"\1" + bytes(14) + b"\1", 1 | 1 << 120),
    ("f64", lambda b: b.float("double", 8), bytes(8), 0.0),
    ("long double", lambda b: b.float("long double", 16), bytes(range(16)), bytes(range(16))),
    ("ptr", lambda b: b.ptr(0), b"\1" + bytes(7), 1),
    ("u32", lambda b: b.typedef("pid_t", b.const(b.volatile(_u32(b)))), b"\5\0\0\0", 5),
    ("be16", lambda b: b.typedef("__be16", b.int("unsigned short", 2)), b"\1\2", 0x102),
    ("be32", lambda b: b.typedef("port", b.typedef("__be32", b.typedef("__u32", _u32(b)))), b"\0\0\1\2", 0x102),
    ("char[4]", lambda b: b.array(b.int("char", 1, signed=True), 4), b"ab\0\0", "ab"),
    ("char[4]", lambda b: b.array(b.const(b.int("char", 1)), 4), b"ab\0\0", "ab"),
    ("s8[2]", lambda b: b.array(b.int("signed char", 1, signed=True), 2), b"\1\xff", (1, -1)),
    ("u8[2]", lambda b: b.array(b.typedef("__u8", _u8(b)), 2), b"\1\xff", b"\1\xff"),
    ("bool[2]", lambda b: b.array(b.int("_Bool", 1, bool=True), 2), b"\1\0", (True, False)),
    ("char[2][3]", lambda b: b.array(b.array(b.int("char", 1, signed=True), 3), 2), b"a\0\0bcd", ("a", "bcd")),
    ("be16[2]", lambda b: b.array(b.typedef("__be16", b.int("unsigned short", 2)), 2), b"\0\1\0\2", (1, 2)),
    ("u32[0]", lambda b: b.array(_u32(b), 0), b"", ()),
    ("char[0]", lambda b: b.array(b.int("char", 1), 0), b"", ""),
    ("struct empty[9]", lambda b: b.array(b.struct("empty", 0, []), 9), b"", ()),
]


@pytest.mark.parametrize(
    ("name", "build", "raw", "value"), SCALARS, ids=[f"{i} {row[0]}" for i, row in enumerate(SCALARS)]
)
def test_a_type_reads_as_its_name_and_kind_say(
    name: str, build: Callable[[Builder], int], raw: bytes, value: object
) -> None:
    codec = _last(build, "little")
    assert (codec.name, codec.size) == (name, len(raw))
    assert codec.unpack(raw) == codec.decode(raw) == value
    assert type(codec.unpack(raw)) is type(value)
    assert codec.pack(value) == codec.encode(value, "") == raw


def test_the_byte_order_is_that_of_the_btf_unless_said_otherwise() -> None:
    builder = Builder("big")
    number = builder.struct("s", 8, [("a", builder.int("unsigned int", 4), 0), ("b", builder.ptr(0), 32)][:1])
    type = Btf.from_bytes(builder.to_bytes())[number]
    assert codec_for(type).pack((1,)) == b"\0\0\0\1\0\0\0\0"
    assert codec_for(type, byteorder="little").pack((1,)) == b"\1\0\0\0\0\0\0\0"


def test_void_has_no_bytes() -> None:
    builder = Builder()
    builder.int("int", 4)
    codec = codec_for(Btf.from_bytes(builder.to_bytes())[0])
    assert (codec.size, codec.unpack(b"")) == (0, b"")


def _state(b: Builder) -> int:
    return b.enum("state", [("RUNNING", 0), ("STOPPED", 2), ("name", 3), ("mro", 4), ("__x", 5)])


def test_an_enumeration_reads_as_members_and_unknown_values_stay_ints() -> None:
    codec = _last(_state, "little")
    member = codec.unpack(b"\2\0\0\0")
    assert (member, member.name, repr(member)) == (2, "STOPPED", "<state.STOPPED: 2>")
    assert isinstance(member, enum.IntEnum)
    unknown = codec.unpack(b"\1\0\0\0")
    assert (unknown, type(unknown)) == (1, int)
    for value in (member, 2, "STOPPED"):
        assert codec.pack(value) == b"\2\0\0\0"
    assert codec.pack("name") == b"\3\0\0\0"
    assert [codec.unpack(bytes([number, 0, 0, 0])) for number in (3, 4, 5)] == [3, 4, 5]
    with pytest.raises(ValueError, match="enum state has no 'NOPE'; it has RUNNING, STOPPED"):
        codec.pack("NOPE")
    assert _last(_state, "little").unpack(b"\2\0\0\0") is member
    for twin in (pickle.loads(pickle.dumps(member)), copy.deepcopy(member)):
        assert twin is member


ENUMERATORS = [
    ("RUNNING", "RUNNING"), ("__MAX", "__MAX"), ("_x", "_x"), ("mro", "mro_0"), ("name", "name"), ("value", "value"),
    ("real", "real_0"),
    ("", "member"), ("_x_", "x"), ("__init__", "init"), ("_state__x", "state__x"), ("_", "member"), ("class", "class"),
    ("a b", "a b"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "member"), ENUMERATORS, ids=[repr(row[0]) for row in ENUMERATORS])
def test_every_enumerator_is_a_member(name: str, member: str) -> None:
    codec = _last(lambda b: b.enum("state", [(name, 5), ("OTHER", 6)]), "little")
    assert codec.unpack(b"\5\0\0\0").name == member
    assert codec.pack(name) == b"\5\0\0\0"
    assert type(codec.unpack(b"\5\0\0\0"))(6).name == "OTHER"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_enumerations_have_any_size_and_sign(size: int, signed: bool) -> None:
    values = [("MINUS", -1), ("ONE", 1)] if signed else [("ONE", 1), ("MANY", 200)]
    codec = _last(lambda b: (b.enum64 if size == 8 else b.enum)("e", values, size, signed), "little")
    assert codec.size == size
    for name, number in values:
        raw = number.to_bytes(size, "little", signed=signed)
        assert codec.unpack(raw).name == name
        assert codec.pack(number) == raw


def _either(b: Builder) -> int:
    inner = b.struct("", 8, [("low", _u32(b), 0), ("high", _u32(b), 32)])
    return b.union("either", 8, [("word", b.int("unsigned long", 8), 0), ("octet", _u8(b), 0), ("", inner, 0)])


def test_a_union_reads_as_any_member_and_packs_to_its_bytes() -> None:
    codec = _last(_either, "little")
    raw = bytes(range(1, 9))
    value = codec.unpack(raw)
    assert isinstance(value, UnionValue)
    assert (value.word, value.octet, value.low, value.high) == (0x0807060504030201, 1, 0x04030201, 0x08070605)
    assert bytes(value) == codec.pack(value) == codec.pack(raw) == raw
    assert value == codec.unpack(raw)
    assert hash(value) == hash(codec.unpack(raw))
    assert value != codec.unpack(bytes(8))
    assert repr(value).startswith("either(word=578437695752307201, octet=1, low=")
    assert value.asdict() == {"word": value.word, "octet": 1, "low": value.low, "high": value.high}
    assert codec.pack(value.asdict()) == raw
    with pytest.raises(AttributeError, match="union either has no member 'nope'"):
        _ = value.nope
    with pytest.raises(AttributeError, match="cannot be changed"):
        value.word = 1
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(value)


def test_a_union_is_written_by_one_member_or_several_that_agree() -> None:
    codec = _last(_either, "little")
    assert codec.pack({"octet": 7}) == b"\7" + bytes(7)
    assert codec.pack({"low": 1, "high": 2}) == b"\1\0\0\0\2\0\0\0"
    assert codec.pack({"word": 7, "octet": 7}) == b"\7" + bytes(7)
    wrong = [
        ({"word": 7, "octet": 8}, ValueError, "'octet' contradicts the members before it"),
        ({}, TypeError, "expected a dict of one of word, octet, low, high, or 8 bytes"),
        (5, TypeError, "expected a dict of one of"),
        ({"nope": 1}, TypeError, "no member 'nope'; there are word, octet, low, high"),
        ({"octet": 256}, OverflowError, "either.octet: expected an int in 0..255, got 256"),
        (b"123", ValueError, "expected 8 bytes, got 3"),
    ]
    for value, error, message in wrong:
        with pytest.raises(error, match=message):
            codec.pack(value)


def _event(b: Builder) -> int:
    inner = b.struct("", 8, [("x", _u32(b), 0), ("y", _u8(b), 32)])
    return b.struct("event", 24, [("pid", _u32(b), 0), ("", _either(b), 64), ("", inner, 128)])


def test_members_of_anonymous_structs_and_unions_are_the_structs_own() -> None:
    codec = _last(_event, "little")
    raw = bytes(range(24))
    record = codec.unpack(raw)
    assert record._fields == ("pid", "_1", "x", "y")
    assert (record.pid, record.octet, record.low, record.x, record.y) == (0x03020100, 8, 0x0B0A0908, 0x13121110, 0x14)
    assert codec.pack(record) == raw
    assert list(record.asdict()) == ["pid", "word", "octet", "low", "high", "x", "y"]
    clean = codec.unpack(raw[:4] + bytes(4) + raw[8:21] + bytes(3))
    assert codec.pack(clean.asdict()) == codec.pack(clean)
    for given in ({"octet": 1}, {"_1": {"octet": 1}}, {"word": 1, "octet": 1}):
        assert codec.pack({"pid": 0, "x": 0, "y": 0, **given}) == bytes(8) + b"\1" + bytes(15)
    with pytest.raises(TypeError, match="event: one of word, octet, low, high is missing"):
        codec.pack({"pid": 0, "x": 0, "y": 0})
    with pytest.raises(OverflowError, match=r"^event\.octet: expected an int in 0..255, got 256"):
        codec.pack({"pid": 0, "x": 0, "y": 0, "octet": 256})


def _flags(b: Builder) -> int:
    number = b.int("int", 4, signed=True)
    members = [
        ("a", number, 0, 3),
        ("b", _u32(b), 3, 7),
        ("c", b.int("_Bool", 1, bool=True), 12, 1),
        ("d", _state(b), 13, 2),
    ]
    return b.struct("flags", 4, members)


@pytest.mark.parametrize("order", ["little", "big"])
def test_bit_fields_follow_the_byte_order(order: Order) -> None:
    codec = _last(_flags, order)
    little = order == "little"
    # Bits from the low end of the little word, or from the high end of the big one.
    word = 0b101 | 77 << 3 | 1 << 12 | 2 << 13 if little else 0b101 << 29 | 77 << 22 | 1 << 19 | 2 << 17
    raw = word.to_bytes(4, order)
    record = codec.unpack(raw)
    assert record == codec.decode(raw) == (-3, 77, True, 2)
    assert record.c is True
    assert record.d.name == "STOPPED"
    assert codec.pack(record) == codec.walk_pack(record) == codec.pack((-3, 77, 1, "STOPPED")) == raw
    dirty = codec.unpack(b"\xff" * 4)
    assert (dirty.a, dirty.b) == (-1, 127)
    assert codec.pack(dirty) == codec.walk_pack(dirty) == b"\xff" * 4
    for change, message in (({"a": 4}, r"flags.a: expected an int in -4..3, got 4"), ({"b": -1}, r"flags.b: .*0..127")):
        with pytest.raises(OverflowError, match=message):
            codec.pack({"a": 0, "b": 0, "c": 0, "d": 0, **change})


def test_a_data_section_reads_as_a_struct_of_its_variables() -> None:
    def build(b: Builder) -> int:
        first, second = b.var("min_uid", _u32(b)), b.var("name", b.array(b.int("char", 1), 4))
        return b.datasec(".data", 12, [(first, 0, 4), (second, 8, 4)])

    codec = _last(build, "little")
    record = codec.unpack(b"\1\0\0\0\0\0\0\0ab\0\0")
    assert (record.min_uid, record.name) == (1, "ab")
    assert codec.pack({"min_uid": 1, "name": "ab"}) == b"\1\0\0\0\0\0\0\0ab\0\0"


DESCRIPTIONS: list[Any] = [
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "be16", "be32", "be64", "f32", "f64", "bool",
    "char[16]", "u8[3]", 5, "u32[3]", "s8[2]", "be16[2]", "char[2][4]", "ipv4", "ipv6", "mac", "ipv4[2]",
    {"a": "u8", "b": {"c": "be32", "d": "mac"}, "class": "bool[2]"}, "bpf_spin_lock", "bpf_timer[2]",
    {"lock": "bpf_spin_lock", "a": "u32", "work": "bpf_wq"},
]  # fmt: skip


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=str)
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_codec_added_to_btf_reads_back_as_itself(description: Any, order: Order) -> None:
    codec = codec_for(description, byteorder=order)
    builder = Builder(order)
    number = codec.add_to(builder)
    again = codec_for(Btf.from_bytes(builder.to_bytes())[number])
    assert (again.name, again.size, again.alignment) == (codec.name, codec.size, codec.alignment)
    raw = bytes(range(1, codec.size + 1))
    assert again.unpack(raw) == codec.unpack(raw)
    copied = Builder(order)
    assert codec_for(Btf.from_bytes(_with(copied, again))[again.add_to(copied)]).name == codec.name


def _with(builder: Builder, codec: Any) -> bytes:
    codec.add_to(builder)
    return builder.to_bytes()


@pytest.mark.parametrize("build", [_state, _either, _event, _flags], ids=lambda build: build.__name__)
@pytest.mark.parametrize("order", ["little", "big"])
def test_types_of_btf_are_added_to_btf_of_either_order(build: Callable[[Builder], int], order: Order) -> None:
    codec = _last(build, "little")
    builder = Builder(order)
    number = codec.add_to(builder)
    again = codec_for(Btf.from_bytes(builder.to_bytes())[number])
    assert (again.name, again.size) == (codec.name, codec.size)


def test_no_bytes_have_no_type() -> None:
    assert codec_for(0).add_to(Builder()) == 0
    assert codec_for({"a": "u8", "b": 0}).add_to(Builder()) == 0


NO_VALUES: list[tuple[str, Callable[[Builder], int], str]] = [
    ("fwd", lambda b: b.fwd("task"), "has no values: fwd 'task'"),
    ("function", lambda b: b.func("f", b.func_proto(0, [])), "has no values"),
    ("struct of a fwd", lambda b: b.struct("s", 8, [("x", b.fwd("task"), 0)]), "has no values: fwd 'task'"),
    ("struct of void", lambda b: b.struct("s", 8, [("x", 0, 0)]), "has no values: void"),
    ("field behind the end", lambda b: b.struct("s", 4, [("x", _u32(b), 8)]), "ends at byte 5, behind the 4"),
    ("field within a byte", lambda b: b.struct("s", 8, [("x", _u32(b), 4)]), "starts at bit 4"),
    ("struct in itself", lambda b: b.struct("s", 8, [("x", len(b), 0)]), "holds itself"),
    ("array of itself", lambda b: b.array(len(b) + 1, 3), "never end|holds itself"),
    ("huge array", lambda b: b.array(b.array(_u32(b), 1 << 30), 1 << 30), "more than 4 GiB"),
    ("bit-field of a struct", lambda b: b.struct("s", 8, [("x", b.struct("t", 4, []), 0, 3)]), "has no 3 bits"),
    ("too many bits", lambda b: b.struct("s", 8, [("x", _u8(b), 0, 9)]), "has no 9 bits"),
]


@pytest.mark.parametrize(("build", "message"), [row[1:] for row in NO_VALUES], ids=[row[0] for row in NO_VALUES])
def test_a_type_without_values_is_refused(build: Callable[[Builder], int], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        _last(build)


def test_structs_that_hold_one_another_twice_end_soon() -> None:
    builder = Builder()
    inner = builder.struct("", 8, [("x", builder.int("unsigned char", 1), 0)])
    for _ in range(40):
        inner = builder.struct("", 8, [("", inner, 0), ("", inner, 0)])
    with pytest.raises(FormatError, match=r"of 8 bytes has [0-9]+ fields or more"):
        codec_for(Btf.from_bytes(builder.to_bytes())[inner])


def test_members_that_overlap_or_go_backwards_are_walked() -> None:
    backwards = _last(lambda b: b.struct("s", 8, [("x", _u32(b), 32), ("y", _u32(b), 0)]), "little")
    assert backwards.unpack(bytes(range(8))) == (0x07060504, 0x03020100)
    assert backwards.pack({"x": 1, "y": 2}) == b"\2\0\0\0\1\0\0\0"
    overlapping = _last(lambda b: b.struct("s", 4, [("x", _u32(b), 0), ("y", _u8(b), 8)]), "little")
    assert overlapping.unpack(b"\1\2\3\4") == (0x04030201, 2)
    assert overlapping.pack(overlapping.unpack(b"\1\2\3\4")) == b"\1\2\3\4"
    inside = _last(lambda b: b.struct("t", 8, [("s", b.struct("s", 4, [("x", _u32(b), 0), ("y", _u8(b), 8)]), 32)]))
    assert inside.pack(inside.unpack(bytes(range(8)))) == bytes(range(8))


@pytest.mark.parametrize("kind", ["struct", "union"])
def test_members_that_lie_in_one_another_are_refused_before_they_take_for_ever(kind: str) -> None:
    builder = Builder()
    inner = builder.int("unsigned char", 1)
    for _ in range(40):
        inner = getattr(builder, kind)("s", 8, [("a", inner, 0), ("b", inner, 0)])
    with pytest.raises(FormatError, match=r"s of 8 bytes has [0-9]+ fields, those inside of fields counted"):
        codec_for(Btf.from_bytes(builder.to_bytes())[inner])


def test_structs_that_hold_nothing_twice_end_soon() -> None:
    builder = Builder()
    inner = builder.struct("s", 0, [])
    for _ in range(40):
        inner = builder.struct("s", 0, [("a", inner, 0), ("b", inner, 0)])
    with pytest.raises(FormatError, match=r"s of 0 bytes has [0-9]+ fields"):
        codec_for(Btf.from_bytes(builder.to_bytes())[inner])


def test_large_types_cost_nothing_until_they_are_read() -> None:
    for build in (
        lambda b: b.array(_u32(b), (1 << 30) - 1),
        lambda b: b.array(b.int("char", 1), (1 << 32) - 1),
        lambda b: b.struct("s", (1 << 32) - 1, []),
        lambda b: b.struct("s", (1 << 32) - 1, [("x", _u8(b), 0), ("y", _u8(b), (1 << 32) - 8)]),
        lambda b: b.struct("s", 1 << 20, [("x", b.array(_u32(b), 1 << 18), 0)]),
    ):
        codec = _last(build)
        with pytest.raises(ValueError, match=f"expected {codec.size} bytes, got 1"):
            codec.unpack(b"x")
