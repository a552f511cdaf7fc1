"""numpy's dtypes of codecs: what an array shows of any bytes is what the codec decodes, field by field."""

from __future__ import annotations

import ctypes
import enum
import sys
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrays import differences
from support.codec_types import ORDERS, buffers, codecs, described

from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.codec import Codec, PerCpuCodec, codec_for
from rawbpf.codec.descriptor import DescriptorCodec, MapId
from rawbpf.codec.prefix import PrefixCodec
from rawbpf.testing.types import Order

pytestmark = pytest.mark.needs("module:numpy")


@given(codec=codecs(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_an_array_shows_what_the_codec_of_any_type_decodes(codec: Codec[Any], data: st.DataObject) -> None:
    assert codec.dtype.itemsize == codec.size
    if codec.size:
        raws = [data.draw(buffers(codec)) for _ in range(2)]
        array = codec.as_numpy(b"".join(raws))
        assert len(array) == 2
        assert [differences(codec, raw, item) for raw, item in zip(raws, array, strict=True)] == [[], []]


@given(one=described(), order=st.sampled_from(ORDERS), data=st.data())
@settings(max_examples=200, deadline=None)
def test_an_array_shows_what_the_codec_of_any_description_decodes(one: Any, order: Order, data: st.DataObject) -> None:
    description, values = one
    codec = codec_for(description, byteorder=order)
    raw = codec.pack(data.draw(values))
    (item,) = codec.as_numpy(raw)
    assert differences(codec, raw, item) == []


@given(inner=codecs().filter(lambda codec: codec.size > 0), count=st.integers(1, 4), data=st.data())
@settings(max_examples=200, deadline=None)
def test_an_array_has_a_dimension_for_the_cpus(inner: Codec[Any], count: int, data: st.DataObject) -> None:
    codec = PerCpuCodec(inner, count)
    assert codec.dtype.itemsize == codec.size
    raw = data.draw(buffers(codec))
    array = codec.as_numpy(raw + raw)
    assert array.shape[:2] == (2, count)
    for row in array:
        for cpu, item in enumerate(row):
            start = cpu * codec.stride
            assert differences(inner, raw[start : start + inner.size], item) == []


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(ctypes.Structure):
    _fields_ = (("flag", ctypes.c_uint8), ("wide", ctypes.c_uint64))


def bits(order: Order) -> Codec[Any]:
    b = Builder(order)
    word = b.int("unsigned int", 4)
    members: list[Any] = [("a", word, 0, 3), ("b", word, 3, 10), ("c", word, 24, 8), ("after", word, 32)]
    b.struct("packed", 8, members)
    return codec_for(Btf.from_bytes(b.to_bytes())["packed"])


def anonymous() -> Codec[Any]:
    b = Builder(sys.byteorder)
    word, half = b.int("unsigned int", 4), b.int("unsigned short", 2)
    either = b.union("", 4, [("whole", word, 0), ("low", half, 0)])
    b.struct("holder", 8, [("class", word, 0), ("", either, 32)])
    return codec_for(Btf.from_bytes(b.to_bytes())["holder"])


BITS = ["_bits_0", "_bits_3", "after"]
NATIVE = "<" if sys.byteorder == "little" else ">"
DTYPES: list[Any] = [
    pytest.param(codec_for("u32"), f"{NATIVE}u4", id="u32"),
    pytest.param(codec_for("s64"), f"{NATIVE}i8", id="s64"),
    pytest.param(codec_for("be16"), ">u2", id="be16"),
    pytest.param(codec_for("u32", byteorder="big"), ">u4", id="u32 of the other order"),
    pytest.param(codec_for("f32"), f"{NATIVE}f4", id="f32"),
    pytest.param(codec_for("bool"), "?", id="bool"),
    pytest.param(codec_for(Level), f"{NATIVE}u4", id="enum"),
    pytest.param(codec_for("char[16]"), "S16", id="text"),
    pytest.param(codec_for("u8[6]"), ("u1", (6,)), id="bytes"),
    pytest.param(codec_for("mac"), ("u1", (6,)), id="mac"),
    pytest.param(codec_for("ipv4"), ">u4", id="ipv4"),
    pytest.param(codec_for("ipv6"), ("u1", (16,)), id="ipv6"),
    pytest.param(codec_for("u16[3][2]"), (f"{NATIVE}u2", (3, 2)), id="arrays"),
    pytest.param(
        codec_for({"a": "u8", "class": "u32"}),
        {"names": ["a", "class_"], "formats": ["u1", f"{NATIVE}u4"], "offsets": [0, 4], "itemsize": 8},
        id="struct",
    ),
    pytest.param(
        codec_for({"lock": "bpf_spin_lock", "n": "u32"}),
        {"names": ["n"], "formats": [f"{NATIVE}u4"], "offsets": [4], "itemsize": 8},
        id="what the kernel keeps",
    ),
    pytest.param(
        codec_for(Pair),
        {"names": ["flag", "wide"], "formats": ["u1", f"{NATIVE}u8"], "offsets": [0, 8], "itemsize": 16},
        id="ctypes",
    ),
    pytest.param(
        bits("little"),
        {
            "names": ["_bits_0", "_bits_3", "after"],
            "formats": ["<u2", "u1", "<u4"],
            "offsets": [0, 3, 4],
            "itemsize": 8,
        },
        id="bit-fields",
    ),
    pytest.param(
        bits("big"),
        {
            "names": ["_bits_0", "_bits_3", "after"],
            "formats": [">u2", "u1", ">u4"],
            "offsets": [0, 3, 4],
            "itemsize": 8,
        },
        id="bit-fields of the other order",
    ),
    pytest.param(
        anonymous(),
        {
            "names": ["class_", "whole", "low"],
            "formats": [f"{NATIVE}u4", f"{NATIVE}u4", f"{NATIVE}u2"],
            "offsets": [0, 4, 4],
            "itemsize": 8,
        },
        id="anonymous union",
    ),
    pytest.param(
        PrefixCodec("ipv6"),
        {
            "names": ["prefixlen", "address"],
            "formats": [f"{NATIVE}u4", ("u1", (16,))],
            "offsets": [0, 4],
            "itemsize": 20,
        },
        id="prefix",
    ),
    pytest.param(DescriptorCodec("a map", MapId), f"{NATIVE}u4", id="id"),
    pytest.param(PerCpuCodec(codec_for("u64"), 4), (f"{NATIVE}u8", (4,)), id="per CPU"),
    pytest.param(
        PerCpuCodec(codec_for("u32"), 2),
        ({"names": ["value"], "formats": [f"{NATIVE}u4"], "offsets": [0], "itemsize": 8}, (2,)),
        id="per CPU, with gaps",
    ),
]


@pytest.mark.parametrize(("codec", "expected"), DTYPES)
def test_a_type_of_c_is_a_type_of_numpy(codec: Codec[Any], expected: Any) -> None:
    import numpy as np

    assert codec.dtype == np.dtype(expected)


def test_addresses_compare_as_numbers() -> None:
    codec = codec_for({"address": "ipv4", "hits": "u32"})
    rows = codec.pack_many([("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.1.1", 3)])
    array = codec.as_numpy(rows)
    inside = array["address"] >> 8 == int(ip_address("10.0.0.0")) >> 8
    assert array["hits"][inside].tolist() == [1, 2]


def test_an_array_is_the_memory_itself_and_keeps_it() -> None:
    codec = codec_for({"a": "u32", "b": "u64"})
    memory = bytearray(32)
    array = codec.as_numpy(memory)
    array["b"][1] = 7
    assert codec.unpack(bytes(memory[16:])) == (0, 7)
    memory[16] = 5
    assert array["a"].tolist() == [0, 5]
    with pytest.raises(BufferError):
        memory.clear()
    assert not codec.as_numpy(bytes(memory)).flags.writeable


def test_rows_may_be_longer_than_the_values() -> None:
    rows = memoryview(bytes(range(32))).cast("B", [4, 8])
    assert codec_for("u32").as_numpy(rows).tobytes() == b"".join(bytes(rows)[at : at + 4] for at in (0, 8, 16, 24))
    assert codec_for({"a": "u8", "b": "u8"}).as_numpy(rows)["b"].tolist() == [1, 9, 17, 25]


def test_of_no_values_there_is_an_empty_array() -> None:
    assert codec_for({"a": "u32"}).as_numpy(b"").shape == (0,)
    assert codec_for("u32[3]").as_numpy(b"").shape == (0, 3)


def test_without_numpy_the_error_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "rawbpf.codec.dtype", raising=False)
    codec = codec_for("u32")
    for use in (lambda: codec.dtype, lambda: codec.as_numpy(bytes(4))):
        with pytest.raises(ImportError, match=r"pip install numpy.*columns\(\), memory\(\)"):
            use()


def test_more_bytes_than_numpy_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        _ = codec_for("u64[500000000]").dtype
