"""The laws of every codec, for any layout: bytes read and packed again are the same bytes, values too.

encode(decode(raw)) == raw for any bytes, by the reference and by the compiled functions, which agree
on every value; so a key that came from a map finds its entry again.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.codec_types import ORDERS, buffers, codecs, described

from rawbpf.codec import Codec, codec_for
from rawbpf.codec.structure import StructCodec
from rawbpf.testing.types import Order


@given(codec=codecs(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_pack_to_the_bytes_they_came_from(codec: Codec[Any], data: st.DataObject) -> None:
    raw = data.draw(buffers(codec))
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


@given(codec=codecs(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_values_are_equal_exactly_when_their_bytes_are(codec: Codec[Any], data: st.DataObject) -> None:
    one = data.draw(buffers(codec))
    two = bytearray(one)
    if two:
        at = data.draw(st.integers(0, len(two) - 1))
        two[at] ^= 1 << data.draw(st.integers(0, 7))
    values = codec.unpack(one), codec.unpack(bytes(two))
    if not any(word in repr(values) for word in ("nan", "-0.0")) and "0.0" not in repr(values):
        assert (values[0] == values[1]) == (one == bytes(two))


@given(codec=codecs(), data=st.data(), value=st.deferred(lambda: _junk))
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


@given(one=described(), order=st.sampled_from(ORDERS), data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_reads_back_as_it_was_written(one: Any, order: Order, data: st.DataObject) -> None:
    description, values = one
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
