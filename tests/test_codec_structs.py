"""C structs: laid out as ctypes lays them out, walked and compiled alike, and refused by the path of the field."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawbpf.btf import Btf, Builder
from rawbpf.codec import Codec, Record, codec_for
from rawbpf.codec.structure import StructCodec

SIMPLE: dict[str, type] = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "s8": ctypes.c_int8,
    "s16": ctypes.c_int16,
    "s32": ctypes.c_int32,
    "s64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "bool": ctypes.c_bool,
}
NATIVE_BASE = ctypes.Structure
SWAPPED_BASE = ctypes.BigEndianStructure if sys.byteorder == "little" else ctypes.LittleEndianStructure
INTS = [name for name in SIMPLE if name[0] in "us"]


def _array(element: Any, count: int) -> type:
    array: type = element * count
    return array


def _struct(codec: Codec[Any]) -> StructCodec:
    assert isinstance(codec, StructCodec)
    return codec


@st.composite
def _fields(draw: st.DrawFn, depth: int = 2) -> tuple[dict[str, Any], list[tuple[str, type]]]:
    """The same struct twice: as a dict for codec_for and as _fields_ for ctypes."""
    described: dict[str, Any] = {}
    fields: list[tuple[str, type]] = []
    for index in range(draw(st.integers(1, 6))):
        kinds = [*SIMPLE, "char", "bytes", "array"] + (["struct"] if depth else [])
        kind = draw(st.sampled_from(kinds))
        name, count = f"f{index}", draw(st.integers(1, 5))
        if kind == "char":
            described[name], own = f"char[{count}]", _array(ctypes.c_char, count)
        elif kind == "bytes":
            described[name], own = count, _array(ctypes.c_ubyte, count)
        elif kind == "array":
            element = draw(st.sampled_from(INTS[1:]))
            described[name], own = f"{element}[{count}]", _array(SIMPLE[element], count)
        elif kind == "struct":
            inner, inner_fields = draw(_fields(depth - 1))
            described[name], own = inner, type("record", (NATIVE_BASE,), {"_fields_": inner_fields})
        else:
            described[name], own = kind, SIMPLE[kind]
        fields.append((name, own))
    return described, fields


def _members(instance: Any) -> Any:
    """The value of a ctypes instance as plain Python, by ctypes' own reading."""
    if isinstance(instance, (ctypes.Structure, ctypes.Union)):
        return {field[0]: _members(getattr(instance, field[0])) for field in instance._fields_}
    return tuple(map(_members, instance)) if isinstance(instance, ctypes.Array) else instance


def _same(mine: Any, theirs: Any) -> None:
    if isinstance(mine, Record):
        assert list(mine.asdict()) == list(theirs)
        for one, two in zip(mine, theirs.values(), strict=True):
            _same(one, two)
    elif isinstance(mine, (str, bytes)) and isinstance(theirs, bytes):
        assert (mine.encode("utf-8", "surrogateescape") if isinstance(mine, str) else mine.split(b"\0")[0]) == theirs
    elif isinstance(mine, (bytes, tuple)):
        assert list(mine) == list(theirs)
    elif isinstance(theirs, bool):
        assert bool(mine) is theirs
    else:
        assert repr(float(mine)) == repr(float(theirs))


@given(both=_fields(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_dict_is_laid_out_as_ctypes_lays_it_out(both: tuple[dict[str, Any], list[Any]], data: st.DataObject) -> None:
    described, fields = both
    mirror: Any = type("mirror", (NATIVE_BASE,), {"_fields_": fields})
    codec = _struct(codec_for(described))
    of_ctypes = _struct(codec_for(mirror))
    for one in (codec, of_ctypes):
        assert (one.size, one.alignment) == (ctypes.sizeof(mirror), ctypes.alignment(mirror))
        assert [(field.name, field.offset) for field in one.fields] == [
            (name, getattr(mirror, name).offset) for name, _ in fields
        ]
    raw = data.draw(st.binary(min_size=codec.size, max_size=codec.size))
    record = codec.unpack(raw)
    _same(record, _members(mirror.from_buffer_copy(raw)))
    for one in (codec, of_ctypes):
        assert repr(tuple(one.unpack(raw))) == repr(tuple(one.decode(raw))) == repr(tuple(record))
        assert one.pack(one.unpack(raw)) == one.walk_pack(one.decode(raw)) == raw


@st.composite
def _bit_fields(draw: st.DrawFn) -> list[Any]:
    # ctypes itself misreads runs of bit-fields of several types, before Python 3.14.
    storage: Any = SIMPLE[draw(st.sampled_from(INTS))]
    fields: list[Any] = []
    for index in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            fields.append((f"f{index}", storage, draw(st.integers(1, 8 * ctypes.sizeof(storage)))))
        else:
            fields.append((f"f{index}", SIMPLE[draw(st.sampled_from(INTS))]))
    return fields


@pytest.mark.parametrize("base", [NATIVE_BASE, SWAPPED_BASE], ids=["native", "swapped"])
@given(fields=_bit_fields(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_bit_fields_read_and_write_as_in_ctypes(base: type, fields: list[Any], data: st.DataObject) -> None:
    mirror: Any = type("mirror", (base,), {"_fields_": fields})
    codec = _struct(codec_for(mirror))
    raw = data.draw(st.binary(min_size=codec.size, max_size=codec.size))
    theirs = mirror.from_buffer_copy(raw)
    expected = tuple(getattr(theirs, field[0]) for field in fields)
    assert tuple(codec.unpack(raw)) == tuple(codec.decode(raw)) == expected
    assert codec.pack(codec.unpack(raw)) == codec.walk_pack(codec.unpack(raw)) == raw
    fresh = bytes(mirror(*expected))
    assert codec.pack(expected) == codec.walk_pack(expected) == codec.pack(theirs.__class__(*expected)) == fresh


def test_ctypes_structs_of_all_sorts_are_read() -> None:
    class Base(ctypes.Structure):
        _fields_ = [("a", ctypes.c_uint8)]

    class Either(ctypes.Union):
        _fields_ = [("word", ctypes.c_uint32), ("octets", ctypes.c_ubyte * 4)]

    class Packed(Base):
        _pack_ = 1
        if sys.version_info >= (3, 13):
            _layout_ = "ms"
        _anonymous_ = ("either",)
        _fields_ = [  # noqa: RUF012
            ("either", Either),
            ("p", ctypes.c_void_p),
            ("q", ctypes.POINTER(ctypes.c_int)),
            ("name", ctypes.c_char * 3),
        ]

    codec = codec_for(Packed)
    assert codec.size == ctypes.sizeof(Packed)
    record: Any = codec.unpack(bytes(Packed(1, Either(2), 3, None, b"xyz")))
    assert (record.a, record.word, record.octets, record.p, record.q, record.name) == (
        1, 2, (2).to_bytes(4, sys.byteorder), 3, 0, "xyz",
    )  # fmt: skip
    assert codec.pack({"a": 1, "word": 2, "p": 3, "q": 0, "name": "xyz"}) == codec.pack(record)
    assert codec.pack(Packed(1, Either(2), 3, None, b"xyz")) == codec.pack(record)
    with pytest.raises(TypeError, match="py_object cannot be in a key or value"):
        codec_for(ctypes.py_object)


EVENT: dict[str, Any] = {
    "pos": {"x": "u16", "y": "u16"},
    "comm": "char[4]",
    "ids": "u8[2][1]",
    "mac": "mac",
    "f": "f32",
    "ok": "bool",
    "two": "u16[2]",
}
GOOD: dict[str, Any] = {
    "pos": {"x": 1, "y": 2},
    "comm": "sh",
    "ids": [b"\1", b"\2"],
    "mac": "02:00:00:00:00:01",
    "f": 1,
    "ok": True,
    "two": (1, 2),
}
REFUSED = [
    ({"pos": {"x": 70000, "y": 2}}, OverflowError, "event.pos.x: expected an int in 0..65535, got 70000"),
    ({"pos": {"x": 1}}, TypeError, "event.pos: field 'y' is missing"),
    ({"pos": {"x": 1, "y": 2, "z": 3}}, TypeError, "event.pos: no field 'z'; there are x, y"),
    ({"pos": (1, 2, 3)}, TypeError, "event.pos: expected 2 values (x, y), got 3"),
    ({"pos": 5}, TypeError, "event.pos: expected a record, dict or tuple of x, y, got 5 (int)"),
    ({"comm": "12345"}, ValueError, "event.comm: expected at most 4 bytes, got 5: '12345'"),
    ({"ids": [b"\1", b""]}, ValueError, "event.ids[1]: expected 1 bytes, got 0: b''"),
    ({"mac": "x"}, ValueError, "event.mac: expected an Ethernet address such as '02:00:00:00:00:01', got 'x'"),
    ({"f": "1"}, TypeError, "event.f: expected a float, got '1' (str)"),
    ({"two": {1, 2}}, TypeError, "event.two: expected a sequence of 2, got {1, 2} (set)"),
    ({"two": {1: 2, 3: 4}}, TypeError, "event.two: expected a sequence of 2, got {1: 2, 3: 4} (dict)"),
    ({"ok": 256}, OverflowError, "event.ok: expected an int in 0..255, got 256"),
    ({"nope": 1}, TypeError, "event: no field 'nope'; there are pos, comm, ids, mac, f, ok, two"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_refused_value_names_the_path_of_the_field(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    codec = _struct(codec_for(EVENT, name="event"))
    assert codec.pack(GOOD) == codec.walk_pack(GOOD) == codec.pack(codec.unpack(codec.pack(GOOD)))
    for value in ({**GOOD, **change}, {**GOOD, **change, "f": GOOD["f"] if "f" not in change else change["f"]}):
        for pack in (codec.pack, codec.walk_pack):
            with pytest.raises(error) as caught:
                pack(value)
            assert str(caught.value) == message


@pytest.mark.parametrize("value", [5, "abcdef", b"abcdef", None, {1, 2}, ()], ids=repr)
def test_what_is_no_struct_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"^event: expected .*pos, comm, ids, mac, f, ok, two"):
        codec_for(EVENT, name="event").pack(value)


def test_a_record_of_another_struct_is_refused() -> None:
    other = codec_for({"lat": "u16", "lon": "u16"}, name="place")(1, 2)
    with pytest.raises(TypeError, match=r"^point: expected a record of x, y, got place\(lat=1, lon=2\) \(place\)"):
        codec_for({"x": "u16", "y": "u16"}, name="point").pack(other)


def test_an_anonymous_struct_is_named_by_its_fields() -> None:
    codec = codec_for({"x": "u16", "y": "u16"})
    assert codec.name == "struct {x, y}"
    with pytest.raises(OverflowError, match=r"^x: expected an int"):
        codec.pack((70000, 1))
    with pytest.raises(TypeError, match=r"^struct {x, y}: field 'y' is missing"):
        codec.pack({"x": 1})
    with pytest.raises(TypeError, match=r"^struct {x, y}: expected a record, dict or tuple of x, y, got 5"):
        codec.pack(5)
    with pytest.raises(ValueError, match=r"expected 4 bytes, got 3"):
        codec.unpack(bytes(3))


def test_equal_layouts_share_their_code() -> None:
    one = codec_for({"a": "u32", "b": "u32"}, name="one")
    two = codec_for({"c": "u32", "d": "u32"}, name="two")
    assert one.pack is one.pack
    assert one.unpack.__code__ is two.unpack.__code__
    assert one.unpack(bytes(8)) == two.unpack(bytes(8))
    assert repr(two.unpack(bytes(8))) == "two(c=0, d=0)"


def test_many_structs_are_as_many_ones() -> None:
    descriptions: list[dict[str, Any]] = [{"a": "u32", "b": "u32"}, {"a": "u8", "b": "u32"}, EVENT]
    for description in descriptions:
        codec = codec_for(description)
        clean = codec.pack(codec.unpack(bytes(codec.size)))
        for raw in (clean * 3, clean + bytes(range(codec.size)) + clean):
            records = codec.unpack_many(raw, 3)
            assert records == [codec.unpack(raw[at : at + codec.size]) for at in range(0, 3 * codec.size, codec.size)]
            assert codec.pack_many(records) == raw
        with pytest.raises(ValueError, match="expected 4 times"):
            codec.unpack_many(clean * 3, 4)


def test_a_wide_or_deep_struct_is_packed_too() -> None:
    wide = codec_for({f"f{index}": "u8" for index in range(3000)})
    raw = bytes(index % 251 for index in range(3000))
    assert wide.pack(wide.unpack(raw)) == raw
    fields: Any = wide.unpack(raw)
    assert bytes(fields) == raw
    deep: Any = "u8"
    for _ in range(30):
        deep = {"a": deep, "b": "u32"}
    codec = codec_for(deep)
    raw = bytes(index % 251 for index in range(codec.size))
    assert codec.pack(codec.unpack(raw)) == raw == _struct(codec).walk_pack(_struct(codec).walk_unpack(raw))


class _Celsius(Codec[float]):
    """A codec of a user's own: tenths of a degree in two bytes."""

    name = "celsius"
    size = alignment = 2

    def pack(self, value: object, /) -> bytes:
        if not isinstance(value, (int, float)):
            raise TypeError(f"expected degrees, got {value!r}")
        return int(value * 10).to_bytes(2, "little", signed=True)

    def unpack(self, buffer: bytes | bytearray | memoryview, /) -> float:
        return int.from_bytes(buffer, "little", signed=True) / 10


def test_a_codec_of_ones_own_works_wherever_a_type_does() -> None:
    codec = codec_for({"at": "u32", "inside": _Celsius(), "tail": "u16"}, name="reading")
    raw = codec.pack({"at": 1, "inside": -1.5, "tail": 2})
    assert raw == (1).to_bytes(4, sys.byteorder) + b"\xf1\xff" + (2).to_bytes(2, sys.byteorder)
    assert codec.unpack(raw) == (1, -1.5, 2)
    with pytest.raises(TypeError, match=r"^reading\.inside: expected degrees, got 'hot'$"):
        codec.pack({"at": 1, "inside": "hot", "tail": 2})
    builder = Builder()
    number = codec.add_to(builder)
    inside = codec_for(Btf.from_bytes(builder.to_bytes())[number])
    assert inside.unpack(raw) == (1, b"\xf1\xff", 2)  # to others it is so many bytes
    assert codec_for(_Celsius()).unpack_many(b"\1\0\2\0", 2) == [0.1, 0.2]


NO_STRUCTS = [({}, "at least one field"), ({"a b": "u8"}, "cannot be the name of a field"), ({"": "u8"}, "cannot be")]


@pytest.mark.parametrize(("description", "message"), NO_STRUCTS, ids=[repr(row[0]) for row in NO_STRUCTS])
def test_a_dict_that_is_no_struct_is_refused(description: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_for(description)


def test_explain_shows_offsets_and_gaps() -> None:
    codec = codec_for({"a": "u8", "b": "u32", "c": {"d": "u8", "e": "u16"}, "f": "u8[3]"}, name="s")
    assert codec.explain().splitlines() == [
        "struct s: 16 bytes, aligned to 4",
        "     0  a: u8",
        "     1  (3 bytes of padding)",
        "     4  b: u32",
        "     8  c: struct {d, e}",
        "     8    d: u8",
        "     9    (1 byte of padding)",
        "    10    e: u16",
        "    12  f: u8[3]",
        "    15  (1 byte of padding)",
    ]


def test_explain_shows_bits_unions_and_elements() -> None:
    b = Builder("little")
    u32, u16, char = b.int("unsigned int", 4), b.int("unsigned short", 2), b.int("char", 1, signed=True)
    point = b.struct("point", 4, [("x", u16, 0), ("y", u16, 16)])
    either = b.union("either", 8, [("number", u32, 0), ("text", b.array(char, 8), 0)])
    outer = b.struct(
        "outer",
        32,
        [
            ("flag", u32, 0, 1), ("kind", u32, 3, 7), ("", either, 32), ("points", b.array(point, 2), 96),
            ("lock", b.struct("bpf_spin_lock", 4, [("val", u32, 0)]), 160),
            ("object", b.ptr(b.type_tag("kptr", point)), 192),
        ],
    )  # fmt: skip
    codec = codec_for(Btf.from_bytes(b.to_bytes())[outer])
    assert codec.explain().splitlines() == [
        "struct outer: 32 bytes, aligned to 8",
        "     0  flag: u32 : 1 (bit 0)",
        "     0  (2 bits of padding)",
        "     0  kind: u32 : 7 (bits 3 to 9 of 2 bytes)",
        "     1  (6 bits of padding)",
        "     2  (2 bytes of padding)",
        "     4  _2: union either",
        "     4    number: u32",
        "     4    text: char[8]",
        "    12  points: struct point[2], 4 bytes apart",
        "    12    x: u16",
        "    14    y: u16",
        "    20  lock: bpf_spin_lock, kept by the kernel",
        "    24  object: kptr, kept by the kernel",
    ]
