"""Memory that holds values is read and written as numbers, by field and value by value, without numpy."""

from __future__ import annotations

import enum
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.codec_types import buffers, codecs

from rawbpf.codec import Codec, PerCpuCodec, codec_for
from rawbpf.codec.scalar import FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec


class Level(enum.IntEnum):
    LOW = 1


POINT = codec_for({"id": "u16", "pos": {"x": "s32", "y": "f32"}, "port": "be16", "up": "bool", "hits": "u64"})
POINTS = [(1, (-1, 0.5), 80, True, 10), (2, (7, -2.0), 443, False, 2**64 - 1), (3, (0, 1.0), 22, True, 0)]


@pytest.mark.parametrize(
    ("description", "values"),
    [
        ("u8", [0, 255]),
        ("s16", [-1, 2]),
        ("u32", [1, 2**32 - 1]),
        ("u64", [1, 2**64 - 1]),
        ("f32", [0.5, -2.0]),
        ("f64", [0.5, -2.0]),
        ("bool", [False, True]),
        (Level, [1, 7]),
        ("u32[3]", [[1, 2, 3], [4, 5, 6]]),
        ("s16[2][2]", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
    ],
)
def test_numbers_are_items_that_can_be_read_and_written(description: Any, values: list[Any]) -> None:
    codec = codec_for(description)
    memory = bytearray(codec.pack_many(values))
    view: Any = codec.view(memory)
    found: list[Any] = view.tolist()
    assert found == values
    last = 1 if view.ndim == 1 else (1,) * view.ndim
    view[last] = 0
    assert not codec.view(bytes(memory))[last]


@pytest.mark.parametrize("description", ["be32", 3, "char[4]", "mac", {"a": "u32"}], ids=str)
def test_what_is_no_number_is_a_row_of_bytes(description: Any) -> None:
    codec = codec_for(description)
    rows: Any = codec.view(bytes(range(2 * codec.size)))
    assert (rows.format, rows.shape) == ("B", (2, codec.size))
    assert rows.tolist() == [list(range(codec.size)), list(range(codec.size, 2 * codec.size))]


def test_rows_may_be_longer_than_the_values() -> None:
    rows = memoryview(bytearray(range(24))).cast("B", [3, 8])
    assert codec_for("u8").view(rows).tolist() == [0, 8, 16]
    assert list(codec_for({"a": "u8", "b": "u8"}).iter_unpack(rows)) == [(0, 1), (8, 9), (16, 17)]
    column = codec_for({"a": "u8", "b": "u8"}).column(rows, "b")
    column[1] = 200
    assert rows[1, 1] == 200
    assert codec_for(3).view(rows).shape == (3, 8)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("id", [1, 2, 3]),
        ("pos.x", [-1, 7, 0]),
        ("pos.y", [0.5, -2.0, 1.0]),
        ("up", [1, 0, 1]),
        ("hits", [10, 2**64 - 1, 0]),
    ],
)
def test_a_field_of_all_structs_is_a_column(path: str, values: list[float]) -> None:
    memory = bytearray(POINT.pack_many(POINTS))
    column = POINT.column(memory, path)
    assert column.tolist() == values
    column[2] = 1
    (_, _, third) = POINT.iter_unpack(memory)
    found: Any = third
    for name in path.split("."):
        found = getattr(found, name)
    assert found == 1


def test_a_column_of_per_cpu_values_has_an_item_per_cpu() -> None:
    codec = PerCpuCodec(codec_for({"calls": "u32", "errors": "u32", "last": "u32"}), 2)
    memory = codec.pack_many([[(1, 2, 3), (4, 5, 6)], [(7, 8, 9), (10, 11, 12)]])
    rows = memoryview(memory).cast("B", [2, codec.size])
    assert codec.column(rows, "errors").tolist() == codec.column(memory, "errors").tolist() == [2, 5, 8, 11]
    assert PerCpuCodec(codec_for("u64"), 2).view(bytes(32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("description", "path", "message"),
    [
        ({"a": "u32"}, "b", "no field 'b': there are a$"),
        ({"a": {"x": "u32"}}, "a.y", "no field 'y': there are x$"),
        ({"a": "u32"}, "a.b", "no field 'b': u32 is no struct"),
        ("u64", "a", "no field 'a': u64 is no struct"),
        ({"a": "be16"}, "a", "is be16, no number in the machine's byte order"),
        ({"a": "char[8]"}, "a", r"is char\[8\], no number"),
        ({"a": "u32[2]"}, "a", r"is u32\[2\], no number"),
        ({"a": {"x": "u32"}}, "a", "no number"),
    ],
)
def test_what_is_no_column_is_refused_with_the_reason(description: Any, path: str, message: str) -> None:
    codec = codec_for(description)
    with pytest.raises(ValueError, match=message):
        codec.column(bytes(codec.size), path)


def test_a_field_that_no_view_can_step_to_is_refused() -> None:
    rows = memoryview(bytes(24)).cast("B", [2, 12])
    with pytest.raises(ValueError, match=r"at byte 0 of values that lie 12 bytes apart.*by 8 bytes; iter_unpack\(\)"):
        codec_for({"a": "u64"}).column(rows, "a")


@pytest.mark.parametrize(
    ("memory", "error"),
    [
        (bytes(5), "expected values of 4 bytes, got 5 bytes"),
        (memoryview(bytes(6)).cast("B", [2, 3]), "expected values of 4 bytes, got rows of 3 bytes"),
    ],
    ids=["a part of one", "short rows"],
)
def test_memory_that_does_not_hold_such_values_is_refused(memory: Any, error: str) -> None:
    codec = codec_for({"a": "u32"})
    for use in (codec.view, lambda memory: list(codec.iter_unpack(memory)), lambda memory: codec.column(memory, "a")):
        with pytest.raises(ValueError, match=error):
            use(memory)
    with pytest.raises(TypeError):
        codec.view(5)


def test_in_no_memory_there_are_no_values() -> None:
    assert codec_for("u32").view(b"").tolist() == []
    assert POINT.view(b"").tolist() == POINT.column(b"", "hits").tolist() == list(POINT.iter_unpack(b"")) == []
    assert list(codec_for(0).iter_unpack(b"")) == []


@given(codec=codecs(), count=st.sampled_from([1, 2, 1025]), gap=st.sampled_from([0, 0, 1, 8]), data=st.data())
@settings(max_examples=200, deadline=None)
def test_values_and_columns_are_what_the_codec_decodes(
    codec: Codec[Any], count: int, gap: int, data: st.DataObject
) -> None:
    if not codec.size:
        return
    raws = [data.draw(buffers(codec)) for _ in range(min(count, 2))] + [bytes(codec.size)] * (count - 2)
    memory: Any = b"".join(raw + bytes(gap) for raw in raws)
    if gap:
        memory = memoryview(memory).cast("B", [count, codec.size + gap])
    values = list(codec.iter_unpack(memory))
    assert repr(values) == repr([codec.decode(raw) for raw in raws])
    for field in codec.fields if isinstance(codec, StructCodec) else ():
        if isinstance(field.codec, (IntCodec, FloatCodec)) and field.codec.byteorder == sys.byteorder:
            try:
                column = codec.column(memory, field.attribute)
            except ValueError as error:
                assert "bit-field" in str(error) or "step" in str(error) or field.codec.size > 8  # noqa: PT017
                continue
            assert repr([float(each) for each in column]) == repr([float(field.read(raw)) for raw in raws])  # type: ignore[arg-type]
