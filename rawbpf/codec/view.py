"""Typed views of memory that holds values: numbers, one field of many structs, values one by one. No numpy.

Memory is anything with the buffer protocol. If it has rows (two dimensions, as `columns()` and `memory()` give for
what is no number) each row begins with a value; else the values lie side by side. A view is of the memory itself,
so that it shows what is written there later and, where the memory can be written, writes there.
"""

from __future__ import annotations

from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.base import NATIVE, counted
from rawbpf.codec.percpu import PerCpuCodec
from rawbpf.codec.scalar import FloatCodec, IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from rawbpf.codec.base import Codec
    from rawbpf.codec.structure import Field

    V = TypeVar("V")

# What memoryview takes: kernel and compiler may nest arrays deeper.
_MOST_DIMENSIONS = 64
_CHUNK = 1024


def rows_of(codec: Codec[object], memory: object) -> tuple[memoryview, int]:
    """Return `memory` as bytes, and how many lie between the starts of two values.

    Raises: ValueError where values of `codec` do not lie there; TypeError for what is no memory, or has gaps.
    """
    view = memoryview(memory)  # type: ignore[arg-type]  # what has no buffer is refused here
    stride = view.nbytes // len(view) if view.ndim > 1 and view else codec.size
    octets = view if view.ndim == 1 and view.format == "B" else view.cast("B")
    if stride < codec.size or (len(octets) % stride if stride else len(octets)):
        rows = f"rows of {counted(stride)}" if view.ndim > 1 else counted(len(octets))
        raise ValueError(f"{codec.name}: expected values of {counted(codec.size)}, got {rows}")
    return octets, stride


def view_of(codec: Codec[object], memory: object) -> memoryview:
    """Return the values in `memory` as numbers, arrays of them as a dimension more, and all else as rows of bytes."""
    octets, stride = rows_of(codec, memory)
    code, size, shape = _numbers(codec)
    if code and not shape and not stride % size:
        return _cast(octets, code)[:: stride // size]
    count = len(octets) // stride if stride else 0
    if not count:
        return octets
    if code and stride == codec.size and 0 not in shape and len(shape) < _MOST_DIMENSIONS:
        return _cast(octets, code, [count, *shape])
    return octets.cast("B", [count, stride])


def column_of(codec: Codec[object], memory: object, path: str) -> memoryview:
    """Return the field at `path` of all structs in `memory` as numbers."""
    octets, stride = rows_of(codec, memory)
    inner: Codec[object] = codec
    if isinstance(codec, PerCpuCodec):
        inner, stride = codec.inner, codec.stride
    field, offset = find_field(inner, path)
    code, size, shape = _numbers(field.codec)
    if not code or shape or field.width:
        what = f"a bit-field of {field.width} bits" if field.width else field.codec.name
        raise ValueError(f"field {path!r} is {what}, no number in the machine's byte order")
    if offset % size or stride % size:
        where = f"at byte {offset} of values that lie {stride} bytes apart"
        raise ValueError(f"field {path!r} is {where}: a view cannot step there by {size} bytes; iter_unpack() reads it")
    return _cast(octets, code)[offset // size :: stride // size]


def iter_values(codec: Codec[V], memory: object) -> Iterator[V]:
    """Yield the values in `memory` in their order; so many at a time are decoded that it stays small and fast."""
    octets, stride = rows_of(codec, memory)
    size = codec.size
    for start in range(0, len(octets), _CHUNK * stride or 1):
        part = octets[start : start + _CHUNK * stride]
        if stride == size:
            yield from codec.unpack_many(part, len(part) // size)
        else:
            for at in range(0, len(part), stride):
                yield codec.unpack(part[at : at + size])


# The code of native numbers that a value consists of, the size of one, and the dimensions that they have.
def _numbers(codec: Codec[object]) -> tuple[str, int, tuple[int, ...]]:
    if isinstance(codec, ArrayCodec):
        code, size, shape = _numbers(codec.element)
        return code, size, (codec.count, *shape)
    if isinstance(codec, PerCpuCodec) and codec.stride == codec.inner.size:
        code, size, shape = _numbers(codec.inner)
        return code, size, (codec.count, *shape)
    if isinstance(codec, (IntCodec, FloatCodec)) and codec.byteorder == NATIVE:
        return codec.code or "", codec.size, ()
    return codec.format or "", codec.size, ()


def find_field(codec: Codec[object], path: str) -> tuple[Field, int]:
    """Return the field at `path`, such as `pos.x`, and its offset from the beginning. Raises: ValueError for none."""
    offset = 0
    name, *rest = path.split(".")
    while True:
        fields: dict[str, tuple[Field, int]] = {}
        for field in getattr(codec, "fields", ()):
            fields[field.attribute] = fields[field.name or field.attribute] = field, field.offset
            if not field.name:  # an anonymous union, whose members are the struct's
                for member in getattr(field.codec, "fields", ()):
                    fields.setdefault(member.attribute, (member, field.offset + member.offset))
        if name not in fields:
            there = f"there are {', '.join(fields)}" if fields else f"{codec.name} is no struct"
            raise ValueError(f"no field {name!r}: {there}")
        found, at = fields[name]
        offset += at
        if not rest:
            return found, offset
        codec = found.codec
        name, *rest = rest


def _cast(octets: memoryview, code: str, shape: list[int] | None = None) -> memoryview:
    if shape is None:
        return octets.cast(code)  # type: ignore[call-overload,no-any-return]  # a code known only at run time
    return octets.cast(code, shape)  # type: ignore[call-overload,no-any-return]  # as above
