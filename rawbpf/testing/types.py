"""Types of any layout, drawn by Hypothesis: what keys and values of maps can be, and how clang lays it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder

if TYPE_CHECKING:
    from rawbpf.btf.types import Type

Order = Literal["little", "big"]


@st.composite
def btf_types(draw: st.DrawFn, orders: tuple[Order, ...] = ("little", "big")) -> Type:
    """Draw a BTF type of fixed size, in one of these byte orders: numbers, enums, arrays, structs, unions, in depth.

    With bitfields, padding, packed and anonymous members, and fields that are the kernel's alone.
    """
    types = _Types(draw, draw(st.sampled_from(orders)))
    number, _, _ = types.struct(2) if draw(st.booleans()) else types.any(2)
    return Btf.from_bytes(types.builder.to_bytes())[number]


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
