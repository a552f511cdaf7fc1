"""Items of numpy arrays, compared with what codecs decode from the same bytes."""

from __future__ import annotations

from typing import Any

from rawbpf.codec import Codec
from rawbpf.codec.address import Ipv4Codec
from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import TextCodec
from rawbpf.codec.union import UnionCodec


def differences(codec: Codec[Any], raw: bytes, item: Any, where: str = "") -> list[str]:
    """Return where `item` of an array is not what the codec decodes from `raw`."""
    value: Any = codec.decode(raw)
    if isinstance(codec, (StructCodec, UnionCodec)):
        found = []
        for field in codec.fields:
            if field.width:
                name = next(
                    name for name in item.dtype.names if name.startswith("_bits_") and covers(item, name, field)
                )
                at = item.dtype.fields[name][1]
                size = item.dtype.fields[name][0].itemsize
                part = item[name]
                number = int.from_bytes(part.tobytes(), field.byteorder) if part.ndim else int(part)
                if field.byteorder == "little":
                    shift = field.bit_offset - 8 * at
                else:
                    shift = 8 * (at + size) - field.bit_offset - field.width
                number = number >> shift & (1 << field.width) - 1
                if number != int(field.read(raw)) & (1 << field.width) - 1:  # type: ignore[call-overload]
                    found.append(f"{where}.{field.attribute}")
            elif field.name or not isinstance(field.codec, UnionCodec):
                offset = item.dtype.fields[field.attribute][1]
                part = raw[field.offset : field.end]
                found += [f"{where}.{field.attribute} at {offset}"] * (offset != field.offset)
                found += differences(field.codec, part, item[field.attribute], f"{where}.{field.attribute}")
            else:
                for member in field.codec.fields:
                    if not member.width and member.name and member.attribute in item.dtype.names:
                        part = raw[field.offset + member.offset : field.offset + member.end]
                        found += differences(member.codec, part, item[member.attribute], f"{where}.{member.attribute}")
        return found
    if isinstance(codec, ArrayCodec):
        size, found = codec.element.size, []
        assert len(item) == codec.count
        for index in range(codec.count):
            part = raw[index * size : (index + 1) * size]
            found += differences(codec.element, part, item[index], f"{where}[{index}]")
        return found
    same = raw == item.tobytes()
    if isinstance(codec, IntCodec) and codec.known is TRUTH:
        same = bool(value) == bool(item)
    elif isinstance(codec, (IntCodec, Ipv4Codec)) and codec.size <= 8:
        same = int(item) == int(value)
    elif isinstance(codec, FloatCodec):
        same = repr(float(item)) == repr(float(value))
    elif isinstance(codec, TextCodec) and codec.size:
        same = bytes(item) == raw.rstrip(b"\0")
    return [] if same else [f"{where}: {value!r} is {item!r}"]


def covers(item: Any, name: str, field: Any) -> bool:
    dtype, at = item.dtype.fields[name][:2]
    return bool(at <= field.offset and field.end <= at + dtype.itemsize)
