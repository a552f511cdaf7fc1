"""Where a C compiler puts the fields of a struct that was given as a dict."""

from __future__ import annotations

from rawbpf.codec import codec_for
from rawbpf.codec.structure import StructCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.codec import Description
    from rawbpf.codec.base import ByteOrder


def struct_of(fields: Mapping[str, Description], byteorder: ByteOrder, name: str) -> StructCodec:
    """Return the codec of a struct with `fields` in this order. Raises TypeError, ValueError."""
    if not fields:
        raise ValueError("a struct needs at least one field")
    places = []
    at, alignment = 0, 1
    for field, description in fields.items():
        if not (str(field).isascii() and str(field).isidentifier()):
            raise ValueError(f"{field!r} cannot be the name of a field in C")
        codec = codec_for(description, byteorder=byteorder)
        at = round_up(at, codec.alignment)
        alignment = max(alignment, codec.alignment)
        places.append((field, codec, 8 * at, 0))
        at += codec.size
    return StructCodec(name, round_up(at, alignment), places, alignment, byteorder)


def round_up(size: int, alignment: int) -> int:
    """Return the next multiple of `alignment`, a power of two."""
    return (size + alignment - 1) & -alignment
