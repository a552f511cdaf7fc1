"""Integers, truth values, floats and arrays of them: ranges, byte orders, and what the messages say."""

from __future__ import annotations

import struct
import sys
from typing import Literal

import pytest

from rawbpf.codec import codec_for

INTS = [
    ("u8", "=B", 0, 2**8 - 1),
    ("u16", "=H", 0, 2**16 - 1),
    ("u32", "=I", 0, 2**32 - 1),
    ("u64", "=Q", 0, 2**64 - 1),
    ("s8", "=b", -(2**7), 2**7 - 1),
    ("s16", "=h", -(2**15), 2**15 - 1),
    ("s32", "=i", -(2**31), 2**31 - 1),
    ("s64", "=q", -(2**63), 2**63 - 1),
    ("be16", ">H", 0, 2**16 - 1),
    ("be32", ">I", 0, 2**32 - 1),
    ("be64", ">Q", 0, 2**64 - 1),
]


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(("name", "format", "least", "most"), INTS, ids=[row[0] for row in INTS])
def test_an_int_packs_as_struct_does(name: str, format: str, least: int, most: int) -> None:
    codec = codec_for(name)
    assert codec.name == name
    assert codec.size == codec.alignment == struct.calcsize(format)
    for number in (least, most, 1, 0x12 if most > 0x12 else 1):
        raw = struct.pack(format, number)
        assert codec.pack(number) == codec.encode(number, "") == raw
        assert codec.unpack(raw) == codec.decode(raw) == number
        assert codec.unpack(memoryview(raw)) == number


@pytest.mark.parametrize(("name", "format", "least", "most"), INTS, ids=[row[0] for row in INTS])
def test_an_int_out_of_range_is_refused_with_the_range(name: str, format: str, least: int, most: int) -> None:
    codec = codec_for(name)
    for number in (least - 1, most + 1):
        with pytest.raises(OverflowError, match=rf"^{name}: expected an int in {least}\.\.{most}, got {number}$"):
            codec.pack(number)
        with pytest.raises(OverflowError, match=rf"^here: expected an int in {least}\.\.{most}, got {number}$"):
            codec.encode(number, "here")


@pytest.mark.parametrize("value", ["1", 1.0, None, b"1", (1,)], ids=repr)
@pytest.mark.parametrize("name", ["u32", "be16", "bool"])
def test_what_is_no_int_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"expected an int in 0..[0-9]+, got .*{type(value).__name__}"):
        codec_for(name).pack(value)


def test_the_message_of_a_refused_value_has_no_second_traceback() -> None:
    for description in ("u16", {"x": "u16"}):
        with pytest.raises((TypeError, OverflowError)) as caught:
            codec_for(description).pack({"x": 70000} if isinstance(description, dict) else 70000)
        assert caught.value.__context__ is None


@pytest.mark.guest_byte_order
def test_format_is_what_memoryview_cast_reads() -> None:
    for name, code in {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "s8": "b", "s32": "i", "f64": "d"}.items():
        codec = codec_for(name)
        assert codec.format == code
        raw = bytes(range(1, codec.size + 1))
        assert memoryview(raw).cast("B").cast("B")[:].cast(code)[0] == codec.unpack(raw)  # type: ignore[call-overload]
    for name in ("bool", "f32", "char[4]", "mac", "u32[2]"):
        assert codec_for(name).format is None
    assert codec_for("u32", byteorder="big" if sys.byteorder == "little" else "little").format is None


@pytest.mark.parametrize("size", [0, 1, 3, 5])
def test_a_buffer_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^u32: expected 4 bytes, got {size}$"):
        codec_for("u32").unpack(bytes(size))


@pytest.mark.guest_byte_order
def test_the_byte_order_of_another_machine_is_kept() -> None:
    assert codec_for("u32", byteorder="big").pack(1) == b"\0\0\0\1"
    assert codec_for("u32", byteorder="little").pack(1) == b"\1\0\0\0"
    assert codec_for("be32", byteorder="little").pack(1) == b"\0\0\0\1"
    assert codec_for("u16[2]", byteorder="big").unpack(b"\0\1\0\2") == (1, 2)
    assert codec_for("f64", byteorder="big").unpack(struct.pack(">d", 1.5)) == 1.5


def test_a_bool_reads_as_bool_and_an_odd_byte_stays_an_int() -> None:
    codec = codec_for("bool")
    assert codec.unpack(b"\0") is False
    assert codec.unpack(b"\1") is True
    assert codec.unpack(b"\2") == 2
    assert [codec.pack(value) for value in (False, True, 0, 1, 2)] == [b"\0", b"\1", b"\0", b"\1", b"\2"]


FLOATS = [
    ("f64", 1.5, struct.pack("=d", 1.5)),
    ("f32", -0.25, struct.pack("=f", -0.25)),
    ("f64", 3, struct.pack("=d", 3.0)),
    ("f32", float("inf"), struct.pack("=f", float("inf"))),
]


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(("name", "value", "raw"), FLOATS, ids=[f"{row[0]} {row[1]}" for row in FLOATS])
def test_a_float_packs_as_struct_does(name: str, value: float, raw: bytes) -> None:
    codec = codec_for(name)
    assert codec.pack(value) == raw
    assert codec.unpack(raw) == value


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFF812345, 0xFFC00001], ids=hex)
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_nan_keeps_its_bits(bits: int, order: Literal["little", "big"]) -> None:
    double = bits >> 31 << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
    for name, raw in (("f32", bits.to_bytes(4, order)), ("f64", double.to_bytes(8, order))):
        codec = codec_for(name, byteorder=order)
        number = codec.unpack(raw)
        assert isinstance(number, float)
        assert number != number  # noqa: PLR0124
        assert codec.pack(number) == raw
        record = codec_for({"x": name}, byteorder=order)
        assert record.pack(record.unpack(raw)) == raw


def test_a_float_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError, match="f32: expected a float of 32 bits, got 1e"):
        codec_for("f32").pack(1e300)
    with pytest.raises(TypeError, match=r"f64: expected a float, got '1' \(str\)"):
        codec_for("f64").pack("1")


@pytest.mark.guest_byte_order
def test_arrays_are_tuples_and_take_sequences() -> None:
    codec = codec_for("u16[3]")
    assert (codec.name, codec.size, codec.alignment) == ("u16[3]", 6, 2)
    assert codec.unpack(codec.pack([1, 2, 3])) == (1, 2, 3)
    assert codec.pack(range(3)) == codec.pack((0, 1, 2))
    grid = codec_for("s8[2][3]")
    assert grid.name == "s8[2][3]"
    assert grid.unpack(bytes([1, 2, 3, 4, 5, 255])) == ((1, 2, 3), (4, 5, -1))
    assert codec_for("bool[2]").unpack(b"\0\1") == (False, True)
    assert codec_for("u32[0]").unpack(b"") == ()
    assert codec_for("u64[5000]").unpack(codec_for("u64[5000]").pack(tuple(range(5000)))) == tuple(range(5000))


REFUSED = [
    ("u16[3]", [1, 2], ValueError, r"^u16\[3\]: expected 3 elements, got 2$"),
    ("u16[3]", "abc", TypeError, r"expected a sequence of 3, got 'abc' \(str\)"),
    ("u16[3]", 5, TypeError, r"expected a sequence of 3, got 5 \(int\)"),
    ("u16[3]", [1, 2, 70000], OverflowError, r"^u16\[3\]\[2\]: expected an int in 0..65535, got 70000$"),
    ("u16[2][2]", [[1, 2], [3, "x"]], TypeError, r"^u16\[2\]\[2\]\[1\]\[1\]: expected an int"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), REFUSED, ids=[repr(row[1]) for row in REFUSED])
def test_an_array_names_the_element_it_refuses(name: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        codec_for(name).pack(value)


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("count", [0, 1, 5, 2000])
@pytest.mark.parametrize("name", ["u8", "u32", "s64", "be32", "f64", "bool", "char[3]", "mac", "u16[2]"])
def test_many_are_as_many_ones(name: str, count: int) -> None:
    codec = codec_for(name)
    raw = bytes(index % 100 for index in range(count * codec.size))
    values = codec.unpack_many(raw, count)
    assert values == [codec.unpack(raw[at * codec.size : (at + 1) * codec.size]) for at in range(count)]
    assert codec.pack_many(values) == codec.pack_many(iter(values)) == raw
    assert codec.unpack_many(raw + b"more", count) == values
    with pytest.raises(ValueError, match=r"expected .* bytes"):
        codec.unpack_many(raw, count + 1)


def test_many_name_the_index_they_refuse() -> None:
    with pytest.raises(OverflowError, match=r"^\[1\]: expected an int in 0..255, got 256$"):
        codec_for("u8").pack_many([1, 256])
    with pytest.raises(TypeError, match=r"^\[700\]: expected an int"):
        codec_for("u8").pack_many([*[1] * 700, "x"])
    with pytest.raises(OverflowError, match=r"^\[1\].x: expected an int"):
        codec_for({"x": "u8"}).pack_many([{"x": 1}, {"x": 256}])


NO_TYPES = [
    ("u23", "did you mean u"),
    ("", "expected one of u8"),
    ("u32[", "an array is written"),
    ("u32[x]", "an array is written"),
    ("u32[-1]", "an array is written"),
    ("u32[2]x", "an array is written"),
    ("char", "expected one of"),
    ("u64[4294967295]", "more than 4294967295 bytes"),
    ("U32", "did you mean u32"),
]


@pytest.mark.parametrize(("name", "message"), NO_TYPES, ids=[row[0] for row in NO_TYPES])
def test_a_name_that_is_no_type_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_for(name)


@pytest.mark.parametrize("description", [None, int, 1.5, True, str, object(), ["u32"]], ids=repr)
def test_what_describes_no_type_is_refused(description: object) -> None:
    with pytest.raises(TypeError, match="is no type of keys or values"):
        codec_for(description)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot have -1 bytes"):
        codec_for(-1)


def test_a_codec_describes_itself() -> None:
    codec = codec_for("u32")
    assert codec_for(codec) is codec
    assert codec_for("u32") is codec
    assert codec(7) == 7
    assert codec.explain().startswith("u32: an int in 0..4294967295, 4 bytes, ")
    assert repr(codec) == "<codec u32, 4 bytes>"
