"""Types of any layout, and bytes for them: Hypothesis strategies for the tests of codecs and typed maps."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rawbpf.btf import size_of
from rawbpf.codec import Codec, codec_for
from rawbpf.testing.types import Order, btf_types

ORDERS: list[Order] = ["little", "big"]


@st.composite
def codecs(draw: st.DrawFn, orders: tuple[Order, ...] = ("little", "big")) -> Codec[Any]:
    """Draw the codec of a type in BTF, of one of these byte orders."""
    found = draw(btf_types(orders))
    codec = codec_for(found)
    assert codec.size == size_of(found)
    return codec


def buffers(codec: Codec[Any]) -> st.SearchStrategy[bytes]:
    """Return what draws bytes of the codec's size."""
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


@st.composite
def described(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
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
    inner = [draw(described(depth - 1)) for _ in range(count)]
    names = [f"f{index}" for index in range(count)]
    fields = {name: one for name, (one, _) in zip(names, inner, strict=True)}
    return fields, st.tuples(*[values for _, values in inner])
