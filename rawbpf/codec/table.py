"""The layout of a struct or union as a table: offsets, types, bits, and what lies between the fields."""

from __future__ import annotations

from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.base import Codec, counted
from rawbpf.codec.scalar import IntCodec
from rawbpf.codec.structure import Field, StructCodec, gaps
from rawbpf.codec.union import UnionCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def layout_table(codec: StructCodec | UnionCodec) -> str:
    """Return a line for `codec` and one for each field, those of structs in structs and gaps included."""
    lines = [f"{codec.name}: {counted(codec.size)}, aligned to {codec.alignment}"]
    lines += [f"{at:6}  {text}" for at, text in _rows(codec, 0, "")]
    return "\n".join(lines)


def _rows(codec: Codec[object], start: int, indent: str) -> Iterator[tuple[int, str]]:
    while isinstance(codec, ArrayCodec):
        codec = codec.element  # the first of them stands for all
    if isinstance(codec, StructCodec):
        fields = sorted((*codec.fields, *codec.hidden), key=lambda field: field.bit_offset)
        whole, loose = gaps(fields, codec.size)
        blanks = [(8 * at, f"({counted(end - at)} of padding)") for at, end in whole]
        blanks += [(8 * at + _lowest(mask), f"({_bits(mask)} of padding)") for at, mask in loose]
    elif isinstance(codec, UnionCodec):
        fields, blanks = list(codec.fields), []
    else:
        return
    rows: list[tuple[int, Field | str]] = [*((field.bit_offset, field) for field in fields), *blanks]
    for at, row in sorted(rows, key=lambda row: row[0]):
        if isinstance(row, str):
            yield start + at // 8, indent + row
        else:
            yield start + row.offset, f"{indent}{row.name or row.attribute}: {_type(row)}"
            yield from _rows(row.codec, start + row.offset, f"{indent}  ")


def _type(field: Field) -> str:
    if field.width:
        last = field.shift + field.width - 1
        where = f"bit {last}" if field.width == 1 else f"bits {field.shift} to {last}"
        of = "" if field.size == 1 else f" of {field.size} bytes"
        return f"{field.codec.name} : {field.width} ({where}{of})"
    if field.codec.special:
        return f"{field.codec.name}, kept by the kernel"
    if isinstance(field.codec, ArrayCodec) and not isinstance(field.codec.element, IntCodec):
        return f"{field.codec.name}, {field.codec.element.size} bytes apart"
    return field.codec.name


def _bits(mask: int) -> str:
    count = mask.bit_count()
    return "1 bit" if count == 1 else f"{count} bits"


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
