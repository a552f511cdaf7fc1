"""Types of any layout, and bytes for them: Hypothesis strategies for the tests of codecs and typed maps."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st

from rawbpf.btf import Btf, Builder
from rawbpf.codec import Codec, codec_for

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

    def kept(self) -> tuple[int, int, int]:
        b = self.builder
        if self.draw(st.booleans()):
            return b.struct("bpf_spin_lock", 4, [("val", b.int("unsigned int", 4), 0)]), 4, 4
        return b.ptr(b.type_tag("kptr", 0)), 8, 8

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
            number, size, alignment = self.kept() if self.draw(st.integers(0, 9)) == 0 else self.any(depth)
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
def codecs(draw: st.DrawFn, orders: tuple[Order, ...] = ("little", "big")) -> Codec[Any]:
    """Draw the codec of a type in BTF, of one of these byte orders."""
    order = draw(st.sampled_from(orders))
    types = _Types(draw, order)
    number, size, _ = types.struct(2) if draw(st.booleans()) else types.any(2)
    codec = codec_for(Btf.from_bytes(types.builder.to_bytes())[number])
    assert codec.size == size
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
