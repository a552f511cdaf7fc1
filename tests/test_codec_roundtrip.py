"""The laws of every codec, for any layout: bytes read and packed again are the same bytes, values too.

encode(decode(raw)) == raw for any bytes, by the reference and by the compiled functions, which agree
on every value; so a key that came from a map finds its entry again.
"""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from rawbpf.btf import Btf, Builder
from rawbpf.codec import Codec, codec_for
from rawbpf.codec.structure import StructCodec

Order = Literal["little", "big"]
ORDERS: list[Order] = ["little", "big"]


class _Types:
    """Draws types into a builder; each is (id, size, alignment)."""

    def __init__(self, draw: st.DrawFn, order: Order) -> None:
        self.draw = draw
        self.builder = Builder(order)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return self.draw(st.sampled_from(["", "class", "count"])) + f"t{self.count}"

    def integer(self) -> tuple[int, int, int]:
        b, size = self.builder, self.draw(st.sampled_from([1, 2, 4, 8]))
        signed = self.draw(st.booleans())
        kind = self.draw(st.sampled_from(["int", "int", "enum", "bool", "be"]))
        if kind == "enum":
            values = [("ZERO", 0), ("ONE", 1), ("FIVE", 5)] + ([("MINUS", -1)] if signed else [])
            return (b.enum64 if size == 8 else b.enum)(self.name(), values, size, signed), size, size
        if kind == "bool":
            return b.int("_Bool", 1, bool=True), 1, 1
        if kind == "be" and size > 1:
            return b.typedef(f"__be{8 * size}", b.int(f"unsigned{size}", size)), size, size
        return b.int(f"{'s' if signed else 'u'}{size}", size, signed), size, size

    def any(self, depth: int) -> tuple[int, int, int]:
        b = self.builder
        kinds = ["integer", "integer", "integer", "char", "float", "bytes", "array", "mac", "ptr"]
        kind = self.draw(st.sampled_from(kinds + (["struct", "union", "structs"] if depth else [])))
        if kind == "char":
            count = self.draw(st.integers(0, 6))
            return b.array(b.int("char", 1, signed=True), count), count, 1
        if kind == "bytes":
            count = self.draw(st.integers(0, 20))
            return b.array(b.int("unsigned char", 1), count), count, 1
        if kind == "float":
            size = self.draw(st.sampled_from([4, 8]))
            return b.float(f"f{size}", size), size, size
        if kind == "mac":
            return b.typedef("mac", b.array(b.int("unsigned char", 1), 6)), 6, 1
        if kind == "ptr":
            return b.ptr(0), 8, 8
        if kind in {"array", "structs"}:
            element, size, alignment = self.integer() if kind == "array" else self.struct(depth - 1)
            count = self.draw(st.sampled_from([0, 1, 2, 3, 20]))
            return b.array(element, count), count * size, alignment
        if kind == "struct":
            return self.struct(depth - 1)
        if kind == "union":
            return self.union(depth - 1)
        return self.integer()

    def struct(self, depth: int) -> tuple[int, int, int]:
        members: list[Any] = []
        at, most = 0, 1  # at counts bits
        packed = self.draw(st.booleans())
        for _ in range(self.draw(st.integers(0, 5))):
            if self.draw(st.integers(0, 3)) == 0:
                number, size, alignment = self.integer()
                width = self.draw(st.integers(1, 8 * size))
                at += self.draw(st.sampled_from([0, 0, 1, 5]))
                members.append((self.name(), number, at, width))
                at += width
                continue
            number, size, alignment = self.any(depth)
            at = (at + 7) & -8
            if not packed:
                at = (at + 8 * alignment - 1) // (8 * alignment) * 8 * alignment
                most = max(most, alignment)
            anonymous = depth and self.draw(st.integers(0, 3)) == 0
            members.append(("" if anonymous and self.composite(number) else self.name(), number, at))
            at += 8 * size
        size = (at + 7) // 8 + self.draw(st.sampled_from([0, 0, 1, 9]))
        size = (size + most - 1) // most * most
        tag = self.draw(st.sampled_from(["", self.name()]))
        return self.builder.struct(tag, size, members), size, most

    def union(self, depth: int) -> tuple[int, int, int]:
        members, most, largest = [], 1, 0
        for _ in range(self.draw(st.integers(1, 3))):
            number, size, alignment = self.any(depth)
            members.append((self.name(), number, 0))
            most, largest = max(most, alignment), max(largest, size)
        size = (largest + most - 1) // most * most
        return self.builder.union(self.draw(st.sampled_from(["", self.name()])), size, members), size, most

    def composite(self, number: int) -> bool:
        kind = Btf.from_bytes(self.builder.to_bytes())[number].kind_name
        return kind in {"struct", "union"}


@st.composite
def _codecs(draw: st.DrawFn) -> Codec[Any]:
    order = draw(st.sampled_from(ORDERS))
    types = _Types(draw, order)
    number, size, _ = types.struct(2) if draw(st.booleans()) else types.any(2)
    codec = codec_for(Btf.from_bytes(types.builder.to_bytes())[number])
    assert codec.size == size
    return codec


def _buffers(codec: Codec[Any]) -> st.SearchStrategy[bytes]:
    # A pattern again and again, or a few bytes among zeros, so that padding is clean as often as not.
    size = codec.size
    tiled = st.binary(min_size=1, max_size=16).map(lambda tile: (tile * (size // len(tile) + 1))[:size])
    pokes = st.lists(st.tuples(st.integers(0, max(0, size - 1)), st.sampled_from([1, 5, 128, 255])), max_size=4)
    return st.one_of(tiled, pokes.map(lambda pairs: _poked(size, pairs)))


def _poked(size: int, pairs: list[tuple[int, int]]) -> bytes:
    buffer = bytearray(size)
    for at, value in pairs[: len(buffer)]:
        buffer[at] = value
    return bytes(buffer)


@given(codec=_codecs(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_pack_to_the_bytes_they_came_from(codec: Codec[Any], data: st.DataObject) -> None:
    raw = data.draw(_buffers(codec))
    value, reference = codec.unpack(raw), codec.decode(raw)
    # Not by ==: a NaN is not equal to itself.
    assert repr(value) == repr(reference) == repr(codec.unpack(memoryview(raw)))
    assert type(value) is type(reference)
    for one in (value, reference):
        assert codec.pack(one) == codec.encode(one, "") == raw
        if isinstance(codec, StructCodec):
            assert codec.walk_pack(one) == raw
    assert hash(value) is not None
    assert codec.hashable
    many = codec.unpack_many(raw + raw, 2)
    assert repr(many) == repr([value, value])
    assert codec.pack_many(many) == raw + raw
    if "nan" not in repr(value):
        assert value == reference
        assert hash(value) == hash(reference)


@given(codec=_codecs(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_values_are_equal_exactly_when_their_bytes_are(codec: Codec[Any], data: st.DataObject) -> None:
    one = data.draw(_buffers(codec))
    two = bytearray(one)
    if two:
        at = data.draw(st.integers(0, len(two) - 1))
        two[at] ^= 1 << data.draw(st.integers(0, 7))
    values = codec.unpack(one), codec.unpack(bytes(two))
    if not any(word in repr(values) for word in ("nan", "-0.0")) and "0.0" not in repr(values):
        assert (values[0] == values[1]) == (one == bytes(two))


@given(codec=_codecs(), data=st.data(), value=st.deferred(lambda: _junk))
@settings(max_examples=200, deadline=None)
def test_a_codec_packs_or_refuses_whatever_it_is_given(codec: Codec[Any], data: st.DataObject, value: Any) -> None:
    if isinstance(codec, StructCodec) and codec.fields and data.draw(st.booleans()):
        record = codec.unpack(bytes(codec.size))
        field = data.draw(st.sampled_from(record._fields))
        value = {**dict(zip(record._fields, record, strict=True)), field: value}
    results: list[Any] = []
    for pack in (codec.pack, lambda value: codec.encode(value, codec.label)):
        try:
            results.append(pack(value))
        except (TypeError, ValueError, OverflowError) as error:
            results.append((type(error), str(error)))
    assert results[0] == results[1]
    assert results[0] or not codec.size
    if isinstance(results[0], bytes):
        assert len(results[0]) == codec.size
        assert codec.pack(codec.unpack(results[0])) == results[0]


_junk: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-2, 300), st.floats(), st.text(max_size=6),
        st.binary(max_size=9), st.sampled_from(["ONE", "02:00:00:00:00:01", 2**32, -(2**31), 2**64 - 1]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=4,
)  # fmt: skip


@st.composite
def _described(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """A description, and the values that read back as they were written."""
    kind = draw(
        st.sampled_from(["int", "int", "char", "bytes", "bool", "f32", "f64", "array", "ipv4", "ipv6", "mac", "struct"])
    )
    if kind == "int" or (kind in {"struct", "array"} and not depth):
        bits = draw(st.sampled_from([8, 16, 32, 64]))
        letter = draw(st.sampled_from(["u", "s", "be"] if bits > 8 else ["u", "s"]))
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if letter == "s" else (0, (1 << bits) - 1)
        return f"{letter}{bits}", st.integers(low, high)
    count = draw(st.integers(1, 5))
    if kind == "char":
        text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=count)
        return f"char[{count}]", text.filter(lambda value: len(value.encode()) <= count)
    if kind == "bytes":
        return draw(st.sampled_from([count, f"u8[{count}]"])), st.binary(min_size=count, max_size=count)
    if kind == "bool":
        return "bool", st.booleans()
    if kind in {"f32", "f64"}:
        return kind, st.floats(width=32 if kind == "f32" else 64, allow_nan=False)
    if kind == "ipv4":
        return kind, st.ip_addresses(v=4)
    if kind == "ipv6":
        return kind, st.ip_addresses(v=6)
    if kind == "mac":
        return kind, st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
    if kind == "array":
        return f"s16[{count}]", st.tuples(*[st.integers(-(1 << 15), (1 << 15) - 1)] * count)
    inner = [draw(_described(depth - 1)) for _ in range(count)]
    names = [f"f{index}" for index in range(count)]
    described = {name: one for name, (one, _) in zip(names, inner, strict=True)}
    return described, st.tuples(*[values for _, values in inner])


@given(described=_described(), order=st.sampled_from(ORDERS), data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_reads_back_as_it_was_written(described: Any, order: Order, data: st.DataObject) -> None:
    description, values = described
    codec = codec_for(description, byteorder=order)
    value = data.draw(values)
    raw = codec.pack(value)
    assert raw == codec.encode(value, "")
    assert len(raw) == codec.size
    assert codec.unpack(raw) == codec.decode(raw) == value
    assert hash(codec.unpack(raw)) == hash(value)
    if isinstance(codec, StructCodec):
        record = codec.unpack(raw)
        assert codec.pack(record.asdict()) == codec.walk_pack(record.asdict()) == codec.pack(list(record)) == raw
