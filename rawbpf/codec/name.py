"""Names of types: `u32`, `char[16]`, `be16`, `ipv4`, `f64[2][3]`."""

from __future__ import annotations

from rawbpf.codec.base import NATIVE, shown
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.base import ByteOrder, Codec

_INTS = {
    "u8": (1, False), "u16": (2, False), "u32": (4, False), "u64": (8, False),
    "s8": (1, True), "s16": (2, True), "s32": (4, True), "s64": (8, True),
}  # fmt: skip
_BIG = {"be16": 2, "be32": 4, "be64": 8}
_FLOATS = {"f32": 4, "f64": 8}
_ADDRESSES = ("ipv4", "ipv6", "mac")
_SPECIAL = ("bpf_spin_lock", "bpf_timer", "bpf_wq")
NAMES = (*_INTS, *_BIG, *_FLOATS, "bool", "char[N]", *_ADDRESSES, *_SPECIAL)
"""The names of types, besides `T[N]`."""
_LARGEST = (1 << 32) - 1

_known: dict[tuple[str, str], Codec[object]] = {}


def named(name: str, byteorder: ByteOrder = NATIVE) -> Codec[object]:
    """Return the codec of the type called `name`. Raises ValueError for a name that says no type."""
    codec = _known.get((name, byteorder))
    if codec is None:
        codec = _parsed(name, byteorder)
        if "[" not in name:
            _known[name, byteorder] = codec
    return codec


def _parsed(name: str, byteorder: ByteOrder) -> Codec[object]:
    base, *rest = name.split("[")
    counts: list[int] = []
    for part in rest:
        number, close, after = part.partition("]")
        number = number.strip()
        if not close or after.strip() or not (number.isascii() and number.isdecimal()):
            raise ValueError(f"{shown(name)} is no type: an array is written T[N], with N a number")
        counts.append(int(number))
    codec = _elements(base.strip(), counts, byteorder)
    if codec is None:
        raise ValueError(f"{shown(name)} is no type: expected one of {', '.join(NAMES)}, or T[N]{_close(base.strip())}")
    for count in reversed(counts):
        from rawbpf.codec.array import ArrayCodec

        codec = ArrayCodec(codec, count)
    if codec.size > _LARGEST:
        raise ValueError(f"{shown(name)} has more than {_LARGEST} bytes")
    return codec


# The codec of one element. Of bytes and characters that is the innermost array, whose count it takes.
def _elements(base: str, counts: list[int], byteorder: ByteOrder) -> Codec[object] | None:
    if base in {"char", "u8"} and counts:
        from rawbpf.codec.text import BytesCodec, TextCodec

        return TextCodec(counts.pop()) if base == "char" else BytesCodec(counts.pop())
    if base in _INTS:
        return IntCodec(*_INTS[base], byteorder)
    if base in _BIG:
        return IntCodec(_BIG[base], False, "big", base)
    if base in _FLOATS:
        return FloatCodec(_FLOATS[base], byteorder)
    if base == "bool":
        return IntCodec(1, False, NATIVE, "bool", TRUTH)
    if base in _ADDRESSES:
        from rawbpf.codec.address import address_codec

        return address_codec(base)
    if base in _SPECIAL:
        from rawbpf.codec.special import NAMED, SpecialCodec

        return SpecialCodec(base, *NAMED[base])
    return None


def _close(base: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(base, [*_INTS, *_BIG, *_FLOATS, "bool", "char", *_ADDRESSES, *_SPECIAL], 1)
    return f"; did you mean {close[0]}?" if close and base != "char" else ""
