"""What the kernel keeps in a value - locks, timers, pointers - is no field of a record, for both kinds of codec."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rawbpf.btf import Btf, Builder
from rawbpf.btf.types import Struct, strip
from rawbpf.codec import codec_for
from rawbpf.codec.struct_ops import StructOpsCodec, is_value
from rawbpf.codec.structure import StructCodec

VALUE: Any = {"lock": "bpf_spin_lock", "count": "u64", "timer": "bpf_timer", "last": "u32", "work": "bpf_wq"}


def _value() -> StructCodec:
    codec = codec_for(VALUE, name="value")
    assert isinstance(codec, StructCodec)
    return codec


def test_a_record_has_no_field_for_what_is_the_kernels() -> None:
    codec = _value()
    assert (codec.size, codec.alignment) == (56, 8)
    record: Any = codec(count=5, last=6)
    assert record == (5, 6)
    assert record._fields == ("count", "last")
    assert record.asdict() == {"count": 5, "last": 6}
    raw = codec.pack({"count": 5, "last": 6})
    assert raw == codec.walk_pack((5, 6)) == codec.pack(record)
    assert [raw[:8], raw[16:32], raw[40:56]] == [bytes(8), bytes(16), bytes(16)]


def test_bytes_in_their_place_are_kept_as_padding_is() -> None:
    codec = _value()
    raw = bytes(range(1, 57))
    record: Any = codec.unpack(raw)
    assert repr(record) == repr(codec.walk_unpack(raw))
    assert len(record) == 2
    assert codec.pack(record) == codec.walk_pack(record) == raw


@pytest.mark.parametrize("name", ["lock", "timer", "work"])
def test_a_value_for_it_is_refused(name: str) -> None:
    codec = _value()
    for pack in (codec.pack, codec.walk_pack):
        with pytest.raises(TypeError, match=f"^value: '{name}' \\(bpf_.*\\) is the kernel's own: leave it out$"):
            pack({"count": 1, "last": 2, name: 0})


def _timer(b: Builder) -> int:
    return b.struct("bpf_timer", 16, [("__opaque", b.array(b.int("unsigned long long", 8), 2), 0)])


def _pointer(tag: str) -> Callable[[Builder], int]:
    return lambda b: b.ptr(b.type_tag(tag, b.fwd("task_struct")))


MEMBERS: list[Any] = [
    pytest.param(lambda b: b.struct("bpf_spin_lock", 4, [("val", b.int("unsigned int", 4), 0)]), True, id="lock"),
    pytest.param(_timer, True, id="timer"),
    pytest.param(lambda b: b.array(_timer(b), 2), True, id="array"),
    pytest.param(lambda b: b.struct("bpf_rb_root", 16, []), True, id="root"),
    pytest.param(_pointer("kptr"), True, id="kptr"),
    pytest.param(_pointer("kptr_untrusted"), True, id="kptr_untrusted"),
    pytest.param(_pointer("percpu_kptr"), True, id="percpu_kptr"),
    pytest.param(_pointer("uptr"), False, id="uptr"),
    pytest.param(_pointer("rcu"), False, id="rcu"),
    pytest.param(lambda b: b.struct("bpf_spin_locker", 4, []), False, id="other-struct"),
]


@pytest.mark.parametrize(("member", "special"), MEMBERS)
@pytest.mark.parametrize("anonymous", [False, True], ids=["direct", "anonymous"])
def test_btf_tells_what_is_the_kernels(member: Any, special: bool, anonymous: bool) -> None:
    b = Builder()
    u32 = b.int("unsigned int", 4)
    members = [("before", u32, 0), ("own", member(b), 64), ("after", u32, 32)]
    struct = b.struct("" if anonymous else "value", 40, members)
    if anonymous:
        struct = b.struct("value", 48, [("", struct, 0), ("more", u32, 320)])
    codec: Any = codec_for(Btf.from_bytes(b.to_bytes())[struct])
    assert ("own" in codec.record._fields) == (not special)
    assert [field.name for field in codec.hidden] == (["own"] if special else [])
    # What is added to other BTF has it still: the kernel must find it.
    again = Builder()
    copied: Any = codec_for(Btf.from_bytes(_with(again, codec))[len(again) - 1])
    assert copied.explain() == codec.explain()
    assert ("kept by the kernel" in codec.explain()) == special


def _with(builder: Builder, codec: StructCodec) -> bytes:
    assert codec.build(builder) == len(builder) - 1
    return builder.to_bytes()


class Colour(enum.IntEnum):
    """An enumeration of a user's own."""

    RED = 1
    GREEN = 2


class Wide(enum.IntEnum):
    """One that needs 64 bits and a sign."""

    LOW = -(1 << 40)
    HIGH = 1 << 40


class Unsigned(enum.IntEnum):
    """One that needs all of 32 bits."""

    MOST = (1 << 32) - 1


ENUMS: list[Any] = [(Colour, 4), (Wide, 8), (Unsigned, 4)]


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(("cls", "size"), ENUMS, ids=[row[0].__name__ for row in ENUMS])
def test_an_int_enum_is_a_description(cls: type[enum.IntEnum], size: int) -> None:
    codec: Any = codec_for(cls)
    assert codec.size == size
    for member in cls:
        raw = codec.pack(member)
        assert codec.unpack(raw) is codec.decode(raw) is member
        assert codec.pack(member.name) == codec.encode(int(member), "") == raw
    unknown = codec.unpack(codec.pack(7))
    assert (type(unknown), unknown) == (int, 7)
    record: Any = codec_for({"a": cls, "b": "u8"})
    assert record.unpack(record.pack((next(iter(cls)), 1))).a is next(iter(cls))
    assert record.walk_unpack(record.pack((7, 1))) == (7, 1)
    b = Builder()
    again: Any = codec_for(Btf.from_bytes(_bytes(b, codec))[len(b) - 1])
    assert {one.name: int(one) for one in again.known.values()} == {one.name: int(one) for one in cls}


def _bytes(builder: Builder, codec: Any) -> bytes:
    codec.add_to(builder)
    return builder.to_bytes()


class Huge(enum.IntEnum):
    """One that C does not have."""

    MOST = 1 << 64


class Words(enum.Enum):
    """One whose members are no numbers."""

    A = "a"


def test_an_int_enum_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="Huge has numbers that do not fit into 64 bits"):
        codec_for(Huge)
    with pytest.raises(TypeError, match="Words is no type of keys or values"):
        codec_for(Words)


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("members", [["common", "data"], ["refcnt", "state", "data"]], ids=["newer", "before 6.9"])
def test_a_table_of_programs_is_told_by_what_the_kernel_puts_around_it(members: list[str]) -> None:
    b = Builder()
    u32 = b.int("unsigned int", 4)
    table = b.struct("some_ops", 8, [("first", u32, 0), ("second", u32, 32)])
    pair = b.struct("bpf_struct_ops_common_value", 8, [("refcnt", u32, 0), ("state", u32, 32)])
    places = {"common": (pair, 0), "refcnt": (u32, 0), "state": (u32, 32), "data": (table, 64)}
    b.struct("bpf_struct_ops_some_ops", 16, [(name, *places[name]) for name in members])
    value = Btf.from_bytes(b.to_bytes()).find("bpf_struct_ops_some_ops", Struct)
    assert value is not None
    assert is_value(value)
    assert not is_value(strip(value.members[-1][1]))
    codec = StructOpsCodec(value)
    assert codec.pack({"second": 7}) == bytes(12) + (7).to_bytes(4, sys.byteorder)
    record: Any = codec.unpack(b"".join(i.to_bytes(4, sys.byteorder) for i in (1, 2, 3, 4)))
    common = getattr(record, "common", record)
    assert (common.refcnt, common.state, record.data) == (1, 2, (3, 4))
