"""numpy's description of the same bytes: dtypes of codecs, and arrays over memory that holds values.

Loaded when somebody asks for arrays, and the only module that imports numpy. Everything lies in a dtype where C has
it, padding included, so that arrays are views and nothing is converted:

- Numbers are numbers in their own byte order, enumerations and pointers too; `bool` is `?`, true for all but 0.
- `char[N]` is `S N`: bytes up to the last that is not NUL. `u8[N]`, `mac`, `ipv6`, numbers of 16 bytes and whatever
  numpy has no type for are N numbers `u1`. `ipv4` is a big-endian `u4`: compare with `int(IPv4Address(...))`.
- Arrays are subarrays. Structs and unions have their fields by the names that records have; members of unions overlap,
  those of anonymous unions are fields of the struct. What the kernel keeps for itself is left out.
- Bit-fields have no dtype. Those that share bytes are one field `_bits_N`, N being the offset of the first byte: an
  unsigned number where that takes 1, 2, 4 or 8 bytes, else so many `u1`. `codec.explain()` says which bits are whose.
- Per-CPU values are a subarray, one for each CPU. Where they are no multiple of 8 bytes, which they lie apart, its
  elements are structs with one field, `value`.
"""

from __future__ import annotations

from rawbpf.codec.address import Ipv4Codec
from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.descriptor import DescriptorCodec
from rawbpf.codec.percpu import PerCpuCodec
from rawbpf.codec.prefix import PrefixCodec
from rawbpf.codec.scalar import CODES, ORDER, TRUTH, FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import TextCodec
from rawbpf.codec.union import UnionCodec
from rawbpf.codec.view import rows_of

try:
    import numpy as np
except ImportError as error:
    raise ImportError(
        "arrays and dtypes need numpy, which is not installed: pip install numpy. Without it there are memoryviews: "
        "columns(), memory(), and view(), column() and iter_unpack() of a codec"
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    from rawbpf.codec.base import ByteOrder, Codec
    from rawbpf.codec.structure import Field

    DType: TypeAlias = np.dtype[Any]
    Array: TypeAlias = np.ndarray[Any, Any]


def dtype_of(codec: Codec[object]) -> DType:
    """Return the dtype of values of `codec`. Raises: ValueError for more bytes than numpy can count."""
    if isinstance(codec, IntCodec) and codec.size in CODES:
        if codec.known is TRUTH and codec.size == 1:
            return _dtype("?")
        return _dtype(f"{ORDER[codec.byteorder]}{'i' if codec.signed else 'u'}{codec.size}")
    if isinstance(codec, FloatCodec):
        return _dtype(f"{ORDER[codec.byteorder]}f{codec.size}")
    if isinstance(codec, TextCodec) and codec.size:
        return _dtype(f"S{codec.size}")
    if isinstance(codec, ArrayCodec) and codec.size:
        return _many(dtype_of(codec.element), codec.count)
    if isinstance(codec, (StructCodec, UnionCodec)):
        return _fields(_members(codec.fields, 0), codec.size)
    if isinstance(codec, PerCpuCodec):
        return _many(_widened(dtype_of(codec.inner), codec.stride), codec.count)
    if isinstance(codec, Ipv4Codec):
        return _dtype(">u4")
    if isinstance(codec, DescriptorCodec):
        return _dtype(f"=u{codec.size}")
    if isinstance(codec, PrefixCodec):
        length, address = f"{ORDER[codec.byteorder]}u4", ">u4" if codec.family == "ipv4" else ("u1", (16,))
        return _fields([("prefixlen", _dtype(length), 0), ("address", _dtype(address), 4)], codec.size)
    whole = getattr(codec, "whole", None)  # a table of functions is written by parts, and is a struct to read
    return dtype_of(whole) if isinstance(whole, StructCodec) else _dtype(("u1", (codec.size,)))


def array_of(codec: Codec[object], memory: object) -> Array:
    """Return the values in `memory` as an array over that memory."""
    octets, stride = rows_of(codec, memory)
    plain = dtype_of(codec)
    wide = _widened(plain, stride)
    array: Array = np.frombuffer(octets, wide)
    inner = isinstance(codec, PerCpuCodec) and codec.stride != codec.inner.size
    return array["value"] if inner or wide is not plain else array


def joined(arrays: Sequence[Array]) -> Array:
    """Return the elements of `arrays`, one at least and all of one dtype, as one array, which is not for writing."""
    whole: Array = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    at = 0
    for array in arrays:
        whole[at : at + len(array)] = array
        at += len(array)
    whole.flags.writeable = False
    return whole


def _dtype(meaning: Any) -> DType:  # noqa: ANN401  # one of the many ways to say it
    made: DType = np.dtype(meaning)
    return made


def _many(dtype: DType, count: int) -> DType:
    base, shape = dtype.subdtype or (dtype, ())
    return _dtype((base, (count, *shape)))


# One value in `stride` bytes.
def _widened(dtype: DType, stride: int) -> DType:
    return dtype if dtype.itemsize == stride else _fields([("value", dtype, 0)], stride)


def _fields(fields: Sequence[tuple[str, DType, int]], size: int) -> DType:
    names, formats, offsets = [[each[part] for each in fields] for part in range(3)]
    return _dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


# The fields of a struct or union that begins at `start`: name, dtype and offset of each.
def _members(fields: Sequence[Field], start: int) -> list[tuple[str, DType, int]]:
    found: dict[str, tuple[str, DType, int]] = {}
    for field in fields:
        if not field.width and (field.name or not isinstance(field.codec, UnionCodec)):
            found[field.attribute] = field.attribute, dtype_of(field.codec), start + field.offset
    for at, end, order in _runs(fields):
        name = f"_bits_{start + at}"
        while name in found:
            name += "_"
        size = end - at
        number = _dtype(f"{ORDER[order]}u{size}" if size in CODES else ("u1", (size,)))
        found[name] = name, number, start + at
    for field in fields:
        if not field.name and isinstance(field.codec, UnionCodec):
            for member in _members(field.codec.fields, start + field.offset):
                found.setdefault(member[0], member)
    return sorted(found.values(), key=lambda each: each[2])


# The bytes that bit-fields share with each other: start, end and their byte order.
def _runs(fields: Sequence[Field]) -> Iterator[tuple[int, int, ByteOrder]]:
    bits = sorted((field for field in fields if field.width), key=lambda field: field.offset)
    while bits:
        first = bits.pop(0)
        end = first.end
        while bits and bits[0].offset < end:
            end = max(end, bits.pop(0).end)
        yield first.offset, end, first.byteorder
