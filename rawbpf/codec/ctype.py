"""Codecs of ctypes classes: Structure, Union, arrays and simple types, as ctypes laid them out."""

from __future__ import annotations

import ctypes

from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.base import NATIVE, Codec
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import BytesCodec, TextCodec
from rawbpf.codec.union import UnionCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.base import ByteOrder
    from rawbpf.codec.structure import Place

_SIGNED = "bhilq"
_UNSIGNED = "BHILQPzZu"
_OTHER: ByteOrder = "big" if NATIVE == "little" else "little"


def codec_of_ctype(cls: type) -> Codec[object]:
    """Return the codec of a ctypes class; pointers are ints. Raises TypeError for what the kernel cannot hold."""
    if issubclass(cls, (ctypes.Structure, ctypes.Union)):
        order = _OTHER if hasattr(cls, "_swappedbytes_") else NATIVE
        size, alignment = ctypes.sizeof(cls), ctypes.alignment(cls)
        if issubclass(cls, ctypes.Structure):
            return StructCodec(cls.__name__, size, _places(cls, order), alignment, order, cls)
        return UnionCodec(cls.__name__, size, _places(cls, order), alignment, order, cls)
    if issubclass(cls, ctypes.Array):
        element: type = getattr(cls, "_type_")  # noqa: B009  # a descriptor to type checkers
        length = ctypes.sizeof(cls) // ctypes.sizeof(element) if ctypes.sizeof(element) else 0
        if element is ctypes.c_char:
            return TextCodec(length)
        if element is ctypes.c_ubyte:
            return BytesCodec(length)
        return ArrayCodec(codec_of_ctype(element), length)
    code = getattr(cls, "_type_", None)
    size = ctypes.sizeof(cls)  # type: ignore[arg-type]  # a ctypes class, as its _type_ told the caller
    order = _OTHER if size > 1 and getattr(cls, f"__ctype_{_OTHER[0]}e__", None) is cls else NATIVE
    if not isinstance(code, str):
        return IntCodec(size, False, order, "ptr")
    if code in _SIGNED or code in _UNSIGNED:
        return IntCodec(size, code in _SIGNED, order)
    if code in "fd":
        return FloatCodec(size, order)
    if code == "?":
        return IntCodec(1, False, order, "bool", TRUTH)
    if code == "c":
        return IntCodec(1, True, order)
    if code == "g":
        return BytesCodec(size, "long double")
    raise TypeError(f"{cls.__name__} cannot be in a key or value: it means nothing outside of this process")


def _places(cls: type, order: ByteOrder) -> list[Place]:
    places: list[Place] = []
    for base in reversed(cls.__mro__):
        anonymous = base.__dict__.get("_anonymous_", ())
        for name, kind, *width in base.__dict__.get("_fields_", ()):
            member = getattr(base, name)
            codec = codec_of_ctype(kind)
            offset = 8 * member.offset
            bits = 0
            if width:
                # ctypes counts from the least significant bit of the storage in either byte order.
                bits, low = member.size >> 16, member.size & 0xFFFF
                if low + bits > 8 * codec.size:
                    # Python before 3.14 puts them beside the storage that it reads.
                    raise TypeError(f"{cls.__name__}.{name}: ctypes misplaces bit-fields of mixed types; use one type")
                offset += low if order == "little" else 8 * codec.size - low - bits
            places.append(("" if name in anonymous else name, codec, offset, bits))
    return places
