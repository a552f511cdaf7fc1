"""Per-CPU values: one per possible CPU, 8 bytes apart at least, combined by field."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from rawbpf.codec import Codec, PerCpu, PerCpuCodec, codec_for

STATS: dict[str, Any] = {"count": "u64", "last": "u64", "comm": "char[16]"}
LAYOUTS: list[tuple[Any, int]] = [
    ("u8", 8), ("u32", 8), ("u64", 8), ("be32", 8), ("bool", 8), ("f64", 8), ("u32[3]", 16), ("char[9]", 16), (0, 0),
    ({"a": "u32"}, 8), ({"a": "u64", "b": "u8"}, 16), (STATS, 32),
]  # fmt: skip


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(("inner", "stride"), LAYOUTS, ids=[str(row[0]) for row in LAYOUTS])
def test_values_lie_at_multiples_of_eight_bytes(inner: Any, stride: int) -> None:
    one = codec_for(inner)
    codec: Codec[Any] = PerCpuCodec(one, 3)
    assert codec.size == 3 * stride
    pieces = [bytes((7 * cpu + at) % 100 for at in range(one.size)) for cpu in range(3)]
    raw = b"".join(piece.ljust(stride, b"\0") for piece in pieces)
    value = codec.unpack(raw)
    assert value == codec.decode(raw) == codec.unpack(memoryview(raw))
    assert value == tuple(one.unpack(piece) for piece in pieces)
    assert isinstance(value, PerCpu)
    assert codec.pack(value) == codec.encode(value, "") == codec.pack(list(value)) == codec.pack(tuple(value)) == raw
    filled = PerCpu.filled(value[0])
    assert codec.pack(filled) == codec.encode(filled, "") == pieces[0].ljust(stride, b"\0") * 3
    assert codec.pack(codec(*value)) == codec.pack(codec(value)) == raw


def test_what_lies_between_the_values_is_not_read() -> None:
    codec = PerCpuCodec(codec_for("u32", byteorder="little"), 2)
    assert codec.unpack(b"\1\0\0\0\xff\xff\xff\xff\2\0\0\0\xff\xff\xff\xff") == (1, 2)


REFUSED = [
    ("u32", [1, 2], ValueError, "u32: expected 3 values, one per possible CPU, got 2"),
    ("u32", 5, TypeError, "u32: expected 3 values, one per possible CPU, or PerCpu.filled(value), got 5 (int)"),
    ("u32", "abc", TypeError, "or PerCpu.filled(value), got 'abc' (str)"),
    ("u32", [1, -2, 3], OverflowError, "u32[1]: expected an int in 0..4294967295, got -2"),
    ("u32", PerCpu.filled(-1), OverflowError, "u32[0]: expected an int in 0..4294967295, got -1"),
    ({"a": "u8"}, [(1,), (2,), (300,)], OverflowError, "[2].a: expected an int in 0..255, got 300"),
]


@pytest.mark.parametrize(("inner", "value", "error", "message"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_is_no_value_per_cpu_is_refused(inner: Any, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        PerCpuCodec(codec_for(inner), 3).pack(value)
    assert message in str(caught.value)


def test_a_record_is_the_value_of_one_cpu() -> None:
    inner = codec_for({"a": "u8", "b": "u8", "c": "u8"})
    with pytest.raises(TypeError, match=r"or PerCpu.filled\(value\), got record\(a=1, b=2, c=3\)"):
        PerCpuCodec(inner, 3).pack(inner(1, 2, 3))


@pytest.mark.parametrize("size", [0, 8, 23, 25])
def test_a_buffer_of_another_size_is_refused(size: int) -> None:
    for inner in ("u32", {"a": "u32"}):
        with pytest.raises(ValueError, match=f"expected 24 bytes, got {size}"):
            PerCpuCodec(codec_for(inner), 3).unpack(bytes(size))


@pytest.mark.guest_byte_order
def test_numbers_are_combined() -> None:
    values = PerCpu([1, 2, 6])
    assert (values.sum(), values.min(), values.max(), values.mean()) == (9, 1, 6, 3.0)
    assert PerCpu([0.5, 1.5]).sum() == 2.0
    assert PerCpu([2**64 - 1, 2**64 - 1]).sum() == 2**65 - 2


@pytest.mark.guest_byte_order
def test_records_are_combined_by_field_and_keep_the_first_of_what_is_no_number() -> None:
    codec = PerCpuCodec(codec_for({**STATS, "pos": {"x": "s8", "ok": "bool"}, "per": "u16[2]"}, name="stats"), 2)
    first: Any = (1, 10, "sh", (-1, True), (1, 2))
    values = codec.unpack(codec.pack([first, (2, 5, "ls", (3, False), (10, 20))]))
    total = values.sum()
    assert total == (3, 15, "sh", (2, True), (11, 22))
    assert type(total) is type(values[0])
    assert repr(total).startswith("stats(count=3, last=15, comm='sh', pos=")
    assert values.min() == (1, 5, "sh", (-1, True), (1, 2))
    assert values.max() == (2, 10, "sh", (3, True), (10, 20))
    assert values.mean() == (1.5, 7.5, "sh", (1.0, True), (5.5, 11.0))


def test_a_sum_has_no_padding() -> None:
    inner = codec_for({"a": "u8", "b": "u32"}, byteorder="little")
    codec = PerCpuCodec(inner, 2)
    dirty = codec.unpack(b"\1\xff\xff\xff\2\0\0\0" * 2)
    assert codec.pack(dirty) == b"\1\xff\xff\xff\2\0\0\0" * 2
    assert dirty.sum() == (2, 4)
    assert inner.pack(dirty.sum()) == b"\2\0\0\0\4\0\0\0"


def test_what_is_no_number_keeps_the_first() -> None:
    for first, second in (("a", "b"), (b"a", b"b"), (True, False)):
        assert PerCpu([first, second]).sum() is first
    with pytest.raises(IndexError):
        PerCpu(()).sum()


def test_what_is_a_number_on_some_cpus_only_keeps_the_first_whichever_that_is() -> None:
    codec = PerCpuCodec(codec_for("bool"), 3)
    for raw in ((2, 1, 0), (1, 2, 0)):  # a byte other than 0 and 1 stays an int
        values = codec.unpack(b"".join(bytes([one]).ljust(8, b"\0") for one in raw))
        assert {values.sum(), values.min(), values.max(), values.mean()} == {values[0]}


def test_what_is_filled_has_no_sum_as_it_has_no_cpus() -> None:
    with pytest.raises(TypeError, match=r"PerCpu.filled\(7\) is to be written"):
        PerCpu.filled(7).sum()


def test_it_is_an_immutable_sequence() -> None:
    values = PerCpu([3, 4])
    assert (len(values), values[1], list(values), 4 in values) == (2, 4, [3, 4], True)
    assert repr(values) == "PerCpu([3, 4])"
    assert repr(PerCpu.filled(3)) == "PerCpu.filled(3)"
    assert {values: 1}[PerCpu([3, 4])] == 1
    assert pickle.loads(pickle.dumps(values)) == values
    with pytest.raises(AttributeError):
        values.x = 1  # type: ignore[attr-defined]
