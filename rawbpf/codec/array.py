"""Arrays of anything but bytes and characters: tuples."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812

from rawbpf.codec.base import Codec, refuse
from rawbpf.codec.scalar import ORDER, IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import Raw

# A struct of millions of numbers is a Struct of as many codes: beyond this, tolist() does it.
_STRUCT = 4096


class ArrayCodec(Codec[tuple[object, ...]]):
    """`count` elements side by side."""

    def __init__(self, element: Codec[object], count: int) -> None:
        length = count
        self.element = element
        # However many elements of no size there are, there is nothing to read.
        self.count = count = count if element.size else 0
        self.size = count * element.size
        self.alignment = element.alignment
        self.leaves = count * element.leaves
        self.hashable = element.hashable
        self.special = element.special
        base, bracket, rest = element.name.partition("[")
        self.name = f"{base}[{length}]{bracket}{rest}"
        self._struct = None
        if isinstance(element, IntCodec) and element.code and element.known is None and count <= _STRUCT:
            self._struct = Struct(f"{ORDER[element.byteorder]}{count}{element.code}")

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of a sequence of exactly `count` elements."""
        if self._struct and (type(value) is tuple or type(value) is list):
            try:
                return self._struct.pack(*value)
            except (StructError, TypeError):
                pass
        elif (type(value) is tuple or type(value) is list) and len(value) == self.count:
            try:
                return self.element.pack_many(value)
            except (TypeError, ValueError, OverflowError):
                pass
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> tuple[object, ...]:
        """Return the elements of exactly `size` bytes."""
        if self._struct:
            try:
                return self._struct.unpack(buffer)
            except StructError:
                pass
        elif len(buffer) == self.size:
            return tuple(self.element.unpack_many(buffer, self.count))
        return Codec.unpack(self, buffer)

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of all elements; messages open with `where[index]`."""
        values = self.elements(value, where)
        return b"".join(self.element.encode(one, f"{where}[{index}]") for index, one in enumerate(values))

    def decode(self, raw: bytes) -> tuple[object, ...]:
        """Return the elements of `raw`."""
        size = self.element.size
        return tuple(self.element.decode(raw[index * size : (index + 1) * size]) for index in range(self.count))

    def elements(self, value: object, where: str) -> list[object]:
        """Return `value` as a list of `count`. Raises TypeError, ValueError."""
        if isinstance(value, (str, bytes, bytearray, dict, set, frozenset)) or not hasattr(value, "__iter__"):
            raise refuse(where, f"a sequence of {self.count}", value)
        values = list(value)
        if len(values) != self.count:
            raise ValueError(f"{where}: expected {self.count} elements, got {len(values)}")
        return values

    def explain(self) -> str:
        """Return the number of elements, and what each is."""
        return f"{self.name}: {self.count} times, {self.element.size} bytes apart: {self.element.explain()}"

    def build(self, builder: Builder) -> int:
        """Add an array type."""
        element = self.element.add_to(builder)
        return builder.array(element, self.count) if element else 0
