"""Typed keys and values on real maps: every shape of C, from descriptions, from objects, and from a map's own BTF."""

from __future__ import annotations

import ctypes
import enum
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bpffs import bpffs
from support.codec_types import buffers, codecs, described

import rawbpf
from rawbpf.codec import Codec, codec_for
from rawbpf.codec.structure import StructCodec
from rawbpf.uapi.constants import BPF_F_LOCK

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.usefixtures("settled")

OBJECTS = Path(__file__).parent / "objects"
NATIVE = ".bpf.o" if sys.byteorder == "little" else ".bpfeb.o"


# Every key that a map yields is found again ------------------------------------------


def _found_again(codec: Codec[Any], raws: list[bytes]) -> None:
    with rawbpf.Map.create("hash", key=codec, value="u32", max_entries=len(raws)) as m:
        for number, raw in enumerate(raws):
            m.raw[raw] = number.to_bytes(4, sys.byteorder)
        keys = list(m.keys())
        assert sorted(codec.pack(key) for key in keys) == sorted(set(raws))
        assert all(key in m for key in keys)
        assert [raws[m[key]] for key in keys] == [codec.pack(key) for key in keys]
        with rawbpf.Map.from_id(m.id) as again:
            assert all(key in again for key in again.keys())  # noqa: SIM118  # the view is what is tested
            assert sorted(again.key_type.pack(key) for key in again) == sorted(set(raws))
        assert m.delete_many(keys) == len(keys)
        assert list(m.keys()) == []


@given(codec=codecs(orders=(sys.byteorder,)).filter(lambda codec: codec.size), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_of_any_btf_type_is_found_whatever_its_bytes(
    backend: Backend, codec: Codec[Any], data: st.DataObject
) -> None:
    _found_again(codec, data.draw(st.lists(buffers(codec), min_size=1, max_size=5, unique=True)))


@given(one=described(), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_of_any_description_is_found_whatever_its_bytes(backend: Backend, one: Any, data: st.DataObject) -> None:
    codec = codec_for(one[0])
    raws = data.draw(st.lists(st.binary(min_size=codec.size, max_size=codec.size), min_size=1, max_size=5, unique=True))
    _found_again(codec, raws)


@given(one=described(), data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_that_is_stored_reads_back_as_it_was(backend: Backend, one: Any, data: st.DataObject) -> None:
    description, values = one
    stored = data.draw(st.lists(values, min_size=1, max_size=4))
    with rawbpf.Map.create("array", value=description, max_entries=len(stored), flags=0) as m:
        for index, value in enumerate(stored):
            m[index] = value
        assert list(m) == stored
        with rawbpf.Map.from_id(m.id) as again:
            assert list(again) == stored
            assert again.value_type.explain() == m.value_type.explain()


# From a map's own BTF ----------------------------------------------------------------


class Colour(enum.IntEnum):
    """An enumeration of a user's own."""

    RED = 1
    GREEN = -(1 << 40)


EVERY: dict[str, Any] = {
    "small": "u8", "signed": "s64", "big": "be32", "flag": "bool", "half": "f32", "real": "f64", "name": "char[5]",
    "raw": "u8[3]", "blob": 7, "grid": "u16[2][3]", "v4": "ipv4", "v6": "ipv6", "mac": "mac", "class": "u32",
    "inner": {"x": "u8", "y": {"z": "be16"}}, "words": "char[2][4]", "both": "ipv4[2]", "colour": Colour,
}  # fmt: skip
SAMPLE: dict[str, Any] = {
    "small": 255, "signed": -(2**63), "big": 1, "flag": True, "half": 0.5, "real": -math.pi, "name": "añb",
    "raw": b"\1\2\3", "blob": b"abcdefg", "grid": ((1, 2, 3), (4, 5, 6)), "v4": "10.0.0.1", "v6": "fe80::1",
    "mac": "02:00:00:00:00:01", "class": 7, "inner": {"x": 1, "y": {"z": 2}}, "words": ("ab", "cdef"),
    "both": ("127.0.0.1", "0.0.0.0"), "colour": Colour.GREEN,
}  # fmt: skip


@pytest.fixture
def every(backend: Backend) -> Iterator[Any]:
    with rawbpf.Map.create("hash", key=EVERY, value=EVERY, max_entries=8, name="every") as m:
        m[SAMPLE] = SAMPLE
        yield m


def test_every_way_to_open_a_map_gives_the_types_that_it_was_made_with(
    backend: Backend, every: Any, tmp_path: Path
) -> None:
    record = every.key_type(SAMPLE)
    assert record.colour is Colour.GREEN
    with bpffs(backend) as directory:
        every.pin(pinned := f"{directory}/every")
        openers = [
            lambda: rawbpf.Map.from_id(every.id),
            lambda: rawbpf.Map.from_fd(every.fileno()),
            lambda: rawbpf.Map.from_pin(pinned),
            lambda: rawbpf.Map.from_pin(pinned, mode="r"),
            every.dup,
        ]
        for opened in openers:
            with opened() as again:
                assert again.key_type.explain().splitlines()[1:] == every.key_type.explain().splitlines()[1:]
                assert again[record].asdict() == record.asdict()
                assert list(again) == [record]
                assert again.key_type.pack(SAMPLE) == every.key_type.pack(SAMPLE)
        every.unpin()


HOLDERS = ["hash", "lru_hash", "percpu_hash", "lru_percpu_hash", "array", "percpu_array", "cgroup_storage"]
OWNED = ["percpu_cgroup_storage", "sk_storage", "inode_storage", "task_storage", "cgrp_storage"]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.needs(f"map_type:{kind}")) for kind in HOLDERS + OWNED]
)
def test_every_type_that_may_carry_btf_tells_its_types(backend: Backend, kind: str) -> None:
    entries = 4 if "hash" in kind or "array" in kind else None
    key: Any = {"a": "u8", "b": "be32"} if "hash" in kind else None
    value: Any = {"n": "u64", "name": "char[6]", "at": {"x": "s16", "up": "bool"}}
    with (
        rawbpf.Map.create(kind, key=key, value=value, max_entries=entries) as m,
        rawbpf.Map.from_id(m.id) as again,
    ):
        assert again.value_type.explain() == m.value_type.explain()
        assert again.key_type.explain() == m.key_type.explain()
        assert "b: be32" in again.key_type.explain() or "hash" not in kind


class Bits(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint32, 3), ("mid", ctypes.c_uint32, 7), ("rest", ctypes.c_uint32, 22)]


class Either(ctypes.Union):
    _fields_ = [("number", ctypes.c_uint64), ("text", ctypes.c_char * 8), ("bits", Bits)]


class Outer(ctypes.Structure):
    _anonymous_ = ("either",)
    _fields_ = [
        ("kind", ctypes.c_int8),
        ("either", Either),
        ("bits", Bits * 2),
        ("raw", ctypes.c_ubyte * 3),
        ("real", ctypes.c_double),
        ("grid", ctypes.c_int16 * 2 * 3),
        ("up", ctypes.c_bool),
    ]


class Packed(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("tag", ctypes.c_uint8), ("number", ctypes.c_uint32), ("more", ctypes.c_int64)]


class Loose(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("tag", ctypes.c_uint8), ("real", ctypes.c_float)]


class Network(ctypes.BigEndianStructure):
    _fields_ = (("port", ctypes.c_uint16), ("address", ctypes.c_uint32))


CLASSES = [Bits, Either, Outer, Packed, Network]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_ctypes_class_tells_its_layout_to_whoever_opens_the_map(backend: Backend, cls: Any) -> None:
    with (
        rawbpf.Map.create("hash", key=cls, value=cls, max_entries=4) as m,
        rawbpf.Map.from_id(m.id) as again,
    ):
        assert [row.partition(":")[2] for row in again.key_type.explain().splitlines()] == [
            row.partition(":")[2] for row in m.key_type.explain().splitlines()
        ]
        for raw in (bytes(m.key_type.size), bytes(range(1, m.key_type.size + 1))):
            m.raw[raw] = raw
            assert again[again.key_type.unpack(raw)] == again.value_type.unpack(raw)
            assert m.raw[m.key_type.pack(cls.from_buffer_copy(raw))] == raw
        assert {m.key_type.pack(key) for key in m} == {again.key_type.pack(key) for key in again}


def test_a_float_that_is_not_aligned_is_bytes_to_whoever_opens_the_map(backend: Backend) -> None:
    # The kernel takes no BTF with such a float, and the other fields shall have their types.
    with (
        rawbpf.Map.create("hash", key=Loose, value="u32", max_entries=4) as m,
        rawbpf.Map.from_id(m.id) as again,
    ):
        m[Loose(1, 0.5)] = 7
        assert list(m) == [(1, 0.5)]
        assert list(again) == [(1, m.key_type.pack((1, 0.5))[1:])]
        assert again[next(iter(again))] == 7


def test_an_unknown_number_of_an_enumeration_stays_an_int(backend: Backend) -> None:
    with rawbpf.Map.create("hash", key=Colour, value=Colour, max_entries=4) as m:
        m[Colour.RED] = Colour.GREEN
        m["GREEN"] = 5
        m[-7] = "RED"
        assert m.snapshot() == {1: -(1 << 40), -(1 << 40): 5, -7: 1}
        assert {type(key) for key in m} == {Colour, int}
        assert m[1] is Colour.GREEN
        assert type(m[Colour.GREEN]) is int
        with rawbpf.Map.from_id(m.id) as again:
            assert again["RED"].name == "GREEN"
            assert again.snapshot() == m.snapshot()


# From objects ------------------------------------------------------------------------

needs_elf = pytest.mark.needs("module:elftools")
KEY = {"kind": 200, "address": 0x0A000001, "name": "lo0", "up": True, "level": "LOW"}


@pytest.fixture
def obj(backend: Backend) -> Iterator[rawbpf.Object]:
    with rawbpf.ObjectSpec.from_file(OBJECTS / f"typed{NATIVE}").load() as loaded:
        assert loaded.programs["fill"].run().retval == 0
        yield loaded


@pytest.mark.real_kernel("programs run there only")
@needs_elf
@pytest.mark.needs("prog_type:syscall")
@pytest.mark.parametrize("by_id", [False, True], ids=["by-name", "by-id"])
def test_what_a_program_wrote_field_by_field_reads_field_by_field(obj: rawbpf.Object, by_id: bool) -> None:
    typed: Any = obj.maps["typed"]
    with rawbpf.Map.from_id(typed.id) if by_id else typed.dup() as m:
        [(key, value)] = m.items()
        assert (key.kind, key.address, key.name, key.up, key.level.name) == (200, 0x0A000001, "lo0", True, "LOW")
        assert value.at == ((-1, 100000), (2, -3))
        assert (value.whole, value.low, value.high, value.bytes[4]) == (0x511223344, 0x11223344, 5, 5)
        assert (value.ready, value.mode, value.delta, value.wide) == (1, 6, -7, 0xABCDEF0123)
        assert (value.door.name, value.port, value.sign) == ("OPEN", 443, -128)
        assert value.mac == bytes(range(1, 7))
        assert value.tight == ((1, 0xFFFFFFFE), (2, 3))
        assert value.matrix == ((1, -2, 3), (-4, 5, -6))
        assert (value.pointer, value.last) == (0, 2**64 - 1)
        raw = m.raw[m.key_type.pack(key)]
        for codec_pack, codec_unpack in (
            (m.value_type.pack, m.value_type.unpack),
            (m.value_type.walk_pack, m.value_type.walk_unpack),
        ):
            assert codec_pack(value) == codec_pack(value.asdict()) == codec_pack(tuple(value)) == raw
            assert codec_unpack(raw) == value
        assert m[KEY] == value
        assert key in m
        m[KEY] = value._replace(delta=15, door=9, at=((5, 6), (7, 8)))
        assert (m[key].delta, m[key].door, m[key].at[1].y) == (15, 9, 8)
        with pytest.raises(OverflowError, match=r"value\.delta: expected an int in -16\.\.15, got 16"):
            m[KEY] = value._replace(delta=16)


@pytest.mark.real_kernel("programs run there only")
@needs_elf
@pytest.mark.needs("prog_type:syscall")
def test_what_the_kernel_keeps_in_a_value_of_an_object_is_left_out(obj: rawbpf.Object) -> None:
    guarded: Any = obj.maps["guarded"]
    assert guarded.value_type.explain().splitlines()[1:] == [
        "     0  lock: bpf_spin_lock, kept by the kernel",
        "     4  hits: u32",
        "     8  timer: bpf_timer, kept by the kernel",
        "    24  sum: u64",
    ]
    guarded["HIGH"] = {"hits": 10, "sum": 100}
    assert obj.programs["fill"].run().retval == 0
    assert guarded.lookup("HIGH", BPF_F_LOCK) == (11, 111)
    assert [key.name for key in guarded] == ["HIGH"]


@pytest.mark.real_kernel("programs run there only")
@needs_elf
@pytest.mark.needs("prog_type:syscall")
def test_a_data_section_opened_by_id_reads_as_its_variables(obj: rawbpf.Object) -> None:
    maps = {info.name: info.id for info in rawbpf.maps() if info.id in {m.id for m in obj.maps.values()}}
    with rawbpf.Map.from_id(maps["typed.bss"]) as bss, rawbpf.Map.from_id(maps["typed.data"]) as data:
        assert bss[0].runs == 1
        assert data[0].origin == (-3, 4)
        obj.programs["fill"].run()
        assert bss[0].runs == 2


@needs_elf
@pytest.mark.parametrize("name", ["key", "value"])
def test_both_byte_orders_have_the_same_layout(name: str) -> None:
    little, big = (
        codec_for(getattr(rawbpf.ObjectSpec.from_file(OBJECTS / f"typed{end}").maps["typed"], name))
        for end in (".bpf.o", ".bpfeb.o")
    )
    assert isinstance(little, StructCodec)
    assert isinstance(big, StructCodec)
    assert (little.byteorder, big.byteorder) == ("little", "big")
    places = [[(field.name, field.bit_offset, field.width) for field in codec.fields] for codec in (little, big)]
    assert places[0] == places[1]
    for codec in (little, big):
        raw = bytes(range(1, codec.size + 1))
        record = codec.unpack(raw)
        assert record == codec.walk_unpack(raw)
        assert codec.pack(record) == codec.walk_pack(record) == raw
