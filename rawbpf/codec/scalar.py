"""Integers, truth values and floating-point numbers of any byte order.

A truth value is a byte that knows two values by name, as an enumeration knows its own: whatever else
the byte holds stays an int, so that it packs to the bytes that it came from.
"""

from __future__ import annotations

from struct import Struct, calcsize, pack
from struct import error as StructError  # noqa: N812

from rawbpf.codec.base import NATIVE, Codec, counted, refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import ByteOrder, Raw

ORDER = {"little": "<", "big": ">"}
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
TRUTH: Mapping[int, int] = {0: False, 1: True}

# Names that C has for them: what bpftool prints for a map's key, and what reads back as the same codec.
_C_NAMES = {
    (1, False): "unsigned char",
    (1, True): "signed char",
    (2, False): "unsigned short",
    (2, True): "short",
    (4, False): "unsigned int",
    (4, True): "int",
    (8, False): "unsigned long long",
    (8, True): "long long",
    (16, False): "unsigned __int128",
    (16, True): "__int128",
}
_MANY = 512
_BY_ARRAY = ("I", "L")
# Python has a quick way from an int of more than 30 bits to a C long, and none to a long long.
_AS_LONG = {"Q": "L", "q": "l"} if calcsize("l") == 8 else {}


class IntCodec(Codec[int]):
    """An integer of `size` bytes. `known`: numbers that are shown as something better; the rest stay ints."""

    def __init__(
        self,
        size: int,
        signed: bool,
        byteorder: ByteOrder = NATIVE,
        name: str = "",
        known: Mapping[int, int] | None = None,
    ) -> None:
        self.size = size
        self.signed = signed
        self.byteorder: ByteOrder = byteorder if size > 1 else NATIVE
        self.alignment = min(size, 8) if size in (1, 2, 4, 8, 16) else 1
        self.known = known
        swapped = "" if self.byteorder == NATIVE else self.byteorder[0] + "e"
        self.name = name or f"{swapped}{'s' if signed else '' if swapped else 'u'}{8 * size}"
        self.least = -(1 << 8 * size - 1) if signed else 0
        self.most = (1 << 8 * size - signed) - 1
        code = CODES.get(size)
        self.code = code.lower() if code and signed else code
        if self.code:
            struct = Struct(ORDER[self.byteorder] + self.code)
            self._pack, self._unpack = struct.pack, struct.unpack
            if known is None and self.byteorder == NATIVE:
                self.format = self.code

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of an int, or of anything that is one (`__index__`)."""
        if self.code:
            try:
                return self._pack(value)
            except (StructError, TypeError):
                pass
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> int:
        """Return the int of exactly `size` bytes."""
        if self.code:
            try:
                number: int = self._unpack(buffer)[0]
            except StructError:
                pass
            else:
                return number if self.known is None else self.known.get(number, number)
        return Codec.unpack(self, buffer)

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of `value`; messages open with `where`."""
        number = as_int(self.by_name(value, where), self.least, self.most, where)
        return number.to_bytes(self.size, self.byteorder, signed=self.signed)

    def decode(self, raw: bytes) -> int:
        """Return the int of `raw`, or what stands for it."""
        number = int.from_bytes(raw, self.byteorder, signed=self.signed)
        return number if self.known is None else self.known.get(number, number)

    def by_name(self, value: object, where: str) -> object:  # noqa: ARG002
        """Return the number that `value` names, where numbers have names."""
        return value

    def unpack_many(self, buffer: Raw, count: int) -> list[int]:
        """Return the first `count` ints of `buffer`."""
        view = memoryview(buffer)[: count * self.size]
        if self.format is None or len(view) != count * self.size:
            return Codec.unpack_many(self, buffer, count)
        numbers: list[int] = view.cast("B").cast(self.format).tolist()  # type: ignore[call-overload]  # an integer code
        return numbers

    def pack_many(self, values: Iterable[object]) -> bytes:
        """Return the bytes of all `values` side by side."""
        values = values if isinstance(values, (list, tuple)) else list(values)
        if self.format:
            try:
                return _joined(self.format, values)
            except (StructError, TypeError, OverflowError):
                pass
        return Codec.pack_many(self, values)

    def explain(self) -> str:
        """Return the range, size and byte order."""
        order = f", {self.byteorder}-endian" if self.size > 1 else ""
        return f"{self.name}: an int in {self.least}..{self.most}, {counted(self.size)}{order}"

    def build(self, builder: Builder) -> int:
        """Add the C type, behind a `__be` or `__le` typedef where the byte order is not the target's."""
        if self.known is TRUTH:
            return builder.int("_Bool", 1, bool=True)
        plain = builder.int(_C_NAMES.get((self.size, self.signed), self.name), self.size, signed=self.signed)
        if self.size == 1 or self.byteorder == builder.byteorder:
            return plain
        return builder.typedef(f"__{self.byteorder[0]}e{8 * self.size}", plain)


class FloatCodec(Codec[float]):
    """A floating-point number of 4 or 8 bytes."""

    def __init__(self, size: int, byteorder: ByteOrder = NATIVE) -> None:
        self.size = self.alignment = size
        self.byteorder: ByteOrder = byteorder
        self.name = f"f{8 * size}"
        self.code = "f" if size == 4 else "d"
        struct = Struct(ORDER[byteorder] + self.code)
        self._pack, self._unpack = struct.pack, struct.unpack
        if size == 8 and byteorder == NATIVE:
            self.format = "d"

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of `value`, a float or an int; messages open with `where`."""
        if type(value) is OddFloat and len(value.raw) == self.size:
            return value.raw if self.byteorder == NATIVE else value.raw[::-1]
        try:
            return self._pack(value)
        except (StructError, TypeError):
            raise refuse(where, "a float", value) from None
        except OverflowError:
            raise OverflowError(f"{where}: expected a float of {8 * self.size} bits, got {shown(value)}") from None

    def decode(self, raw: bytes) -> float:
        """Return the float of `raw`."""
        number: float = self._unpack(raw)[0]
        if number != number and self._pack(number) != raw:  # noqa: PLR0124
            return OddFloat.of(number, raw if self.byteorder == NATIVE else raw[::-1])
        return number

    def explain(self) -> str:
        """Return the size and byte order."""
        return f"{self.name}: a float, {counted(self.size)}, {self.byteorder}-endian"

    def build(self, builder: Builder) -> int:
        """Add the C type."""
        return builder.float("float" if self.size == 4 else "double", self.size)


class OddFloat(float):
    """A NaN that Python's wider floats cannot hold exactly; `raw` is its bytes in native order.

    Reading a 4-byte NaN widens it, which sets the bit that tells quiet from signalling.
    """

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, number: float, raw: bytes) -> OddFloat:
        """Return `number` with its bytes."""
        self = cls(number)
        self.raw = raw
        return self


def as_int(value: object, least: int, most: int, where: str) -> int:
    """Return `value` as an int in `least..most`. Raises TypeError, OverflowError."""
    index = getattr(type(value), "__index__", None)
    if index is None:
        raise refuse(where, f"an int in {least}..{most}", value)
    number: int = index(value)
    if not least <= number <= most:
        raise OverflowError(f"{where}: expected an int in {least}..{most}, got {shown(number)}")
    return number


def _joined(format: str, values: list[object] | tuple[object, ...]) -> bytes:
    format = _AS_LONG.get(format, format)
    if len(values) < _MANY or format not in _BY_ARRAY:
        return pack(f"{len(values)}{format}", *values)
    # A quarter faster than struct, but 2 ms to import: only for many.
    from array import array

    numbers: array[int] = array(format, values)  # type: ignore[arg-type]  # what is no number is refused here
    return numbers.tobytes()
