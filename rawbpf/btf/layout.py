"""Sizes and alignments of BTF types, as the compiler that wrote them laid them out.

Knows types and nothing of values: that is codec's. Source: kernel/bpf/btf.c:__btf_resolve_size (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.types import (
    MAX_DEPTH,
    Array,
    Composite,
    Const,
    Datasec,
    Enum,
    Float,
    Int,
    Ptr,
    Restrict,
    Type,
    Typedef,
    TypeTag,
    Var,
    Volatile,
    strip,
)
from rawbpf.errors import FormatError

__all__ = ["align_of", "element_of", "size_of", "strip"]

MAX_SIZE = (1 << 32) - 1


def size_of(type: Type) -> int:
    """Return how many bytes a value of `type` takes, that of a variable for a variable.

    Raises: FormatError for types without a size (void, functions, forward declarations), for more
    than 4 GiB, and for references that never end.
    """
    count, at = 1, type
    for _ in range(MAX_DEPTH):
        if isinstance(at, (Int, Composite, Enum, Float, Datasec)):
            return _checked(count * at.size, type)
        if isinstance(at, Ptr):
            return _checked(count * at.btf.pointer_size, type)
        if isinstance(at, Array):
            count = _checked(count * at.length, type)
        elif not isinstance(at, (Typedef, Const, Volatile, Restrict, TypeTag, Var)):
            raise FormatError(f"{type!r} has no size: {at.kind_name} {at.name!r}")
        at = at.type
    raise FormatError(f"references from {type!r} on never end")


def align_of(type: Type) -> int:
    """Return the alignment of `type` in bytes; 1 for a packed struct.

    Raises: FormatError for types without an alignment and for references that never end.
    """
    return _align(type, {}, 0)


def element_of(type: Type) -> Type:
    """Return `type` itself or, of an array of any number of dimensions, that of an element; `strip`ped.

    Raises: FormatError when arrays, typedefs or qualifiers never end.
    """
    for _ in range(MAX_DEPTH):
        type = strip(type)
        if not isinstance(type, Array):
            return type
        type = type.type
    raise FormatError(f"arrays from {type!r} on never end")


def _align(type: Type, known: dict[int, int], depth: int) -> int:
    at = type
    for _ in range(MAX_DEPTH):
        if isinstance(at, (Typedef, Const, Volatile, Restrict, TypeTag, Var, Array)):
            at = at.type
            continue
        if isinstance(at, Ptr):
            return at.btf.pointer_size
        if isinstance(at, (Int, Enum, Float)):
            return min(at.size, at.btf.pointer_size) or 1
        if isinstance(at, Composite):
            return _align_members(at, known, depth)
        raise FormatError(f"{type!r} has no alignment: {at.kind_name} {at.name!r}")
    raise FormatError(f"references from {type!r} on never end")


def _align_members(composite: Composite, known: dict[int, int], depth: int) -> int:
    # Each struct is looked at once, or a few that hold one another twice would take for ever.
    if composite.id in known:
        return known[composite.id]
    if depth == MAX_DEPTH:
        raise FormatError(f"{composite!r} is nested more than {MAX_DEPTH} deep")
    known[composite.id] = 1
    largest = 1
    for _, type, offset, bits in composite.members:
        own = _align(type, known, depth + 1)
        if not bits and offset % (8 * own):
            return 1  # packed: the compiler would not have placed it here
        largest = max(largest, own)
    if composite.size % largest:
        largest = 1
    known[composite.id] = largest
    return largest


def _checked(size: int, type: Type) -> int:
    if size > MAX_SIZE:
        raise FormatError(f"{type!r} has more than 4 GiB")
    return size
