"""Where a C compiler would put the members of a struct, and what to write so that they come where they are.

BTF has offsets and no attributes: alignment shows as a gap, packing as a member where none would be.
Gaps are filled with bit-fields without a name, which are no members. Pure; knows sizes and no names.

Source: the System V ABI, "Bit-Fields", which clang follows for BPF.
"""

from __future__ import annotations

from rawbpf.btf.types import (
    MAX_DEPTH,
    Array,
    Composite,
    Const,
    Enum,
    Float,
    Int,
    Member,
    Ptr,
    Restrict,
    Struct,
    Typedef,
    TypeTag,
    Volatile,
    strip,
)
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rawbpf.btf.base import Type

    # (bit where the gap starts, bit where it ends)
    Gap = tuple[int, int]

PLAIN_FLOATS = {4: "float", 8: "double"}
"""The floating-point numbers that BPF has in C, by their sizes in bytes; others are written as their bytes."""
_NUMBERS = (1, 2, 4, 8, 16)
_UNITS = ((64, "long"), (32, "int"), (16, "short"), (8, "char"))
# A longer gap is filled by an array instead.
_LONG_GAP = 8 * 1024


class Placement:
    """How a struct or union is written: `packed` or not, and the `gaps` before each member and, last, at the end."""

    __slots__ = ("align", "gaps", "packed")

    def __init__(self, packed: bool, align: int, gaps: list[Gap]) -> None:
        self.packed = packed
        self.align = align
        self.gaps = gaps


class Placer:
    """Places the members of the structs and unions of one header."""

    def __init__(self) -> None:
        self._known: dict[int, Placement] = {}

    def place(self, composite: Composite, depth: int = 0) -> Placement:
        """Return how to write `composite` so that its members lie where it says.

        Raises: FormatError when no compiler could have put them there.
        """
        found = self._known.get(composite.id)
        if found is None:
            if depth > MAX_DEPTH:
                raise FormatError(f"{composite!r} is nested more than {MAX_DEPTH} deep")
            members = []
            for member in composite.members:
                if member.bit_size and not isinstance(strip(member.type), (Int, Enum)):
                    raise FormatError(f"{composite!r} has a bit-field {member.name!r} that is no number")
                members.append((member, *self._shape(member.type, depth + 1)))
            place = _in_struct if isinstance(composite, Struct) else _in_union
            found = place(composite, members, False) or place(composite, members, True)
            if found is None:
                raise FormatError(f"{composite!r} has members that overlap, or end behind it")
            self._known[composite.id] = found
        return found

    def _shape(self, type: Type, depth: int) -> tuple[int, int]:
        # Bytes, and their alignment, of what is written for a type.
        count, at = 1, type
        for _ in range(MAX_DEPTH):
            if isinstance(at, Float) and at.size not in PLAIN_FLOATS:
                return count * at.size, 1
            if isinstance(at, (Int, Enum, Float)):
                if at.size not in _NUMBERS:
                    raise FormatError(f"{at!r} has {at.size} bytes")
                return count * at.size, at.size
            if isinstance(at, Ptr):
                return count * at.btf.pointer_size, at.btf.pointer_size
            if isinstance(at, Composite):
                return count * at.size, self.place(at, depth).align
            if isinstance(at, Array):
                count *= at.length
            elif not isinstance(at, (Typedef, Const, Volatile, Restrict, TypeTag)):
                raise FormatError(f"{type!r} cannot be in a struct: {at.kind_name} {at.name!r}")
            at = at.type
        raise FormatError(f"references from {type!r} on never end")


def _in_struct(composite: Composite, members: Sequence[tuple[Member, int, int]], packed: bool) -> Placement | None:
    at, align = 0, 1
    gaps = []
    for (_, _, offset, bits), size, own_align in members:
        unit = 1 if packed else 8 * own_align
        if offset < at or bits > 8 * size:
            return None
        if not bits:
            unit = 8 if packed else unit
            if offset % unit:
                return None
            gaps.append((at, offset) if _up(at, unit) != offset else (at, at))
            at = offset + 8 * size
        else:
            if not packed and offset // unit != (offset + bits - 1) // unit:
                return None
            gaps.append((at, offset))
            at = offset + bits
        align = max(align, 1 if packed else own_align)
    end = 8 * composite.size
    if composite.size % align or at > end:
        return None
    gaps.append((at, end) if _up(at, 8 * align) != end else (at, at))
    return Placement(packed, align, gaps)


def _in_union(composite: Composite, members: Sequence[tuple[Member, int, int]], packed: bool) -> Placement | None:
    longest, align = 0, 1
    for (_, _, offset, bits), size, own_align in members:
        if offset or bits > 8 * size:
            return None
        longest = max(longest, bits or 8 * size)
        align = max(align, 1 if packed else own_align)
    end = 8 * composite.size
    if composite.size % align or longest > end:
        return None
    filler = (0, end) if _up(longest, 8 * align) != end else (0, 0)
    return Placement(packed, align, [(0, 0)] * len(members) + [filler])


def fill(gap: Gap, in_union: bool = False) -> Iterator[str]:
    """Yield the members, without the `;`, that fill a gap."""
    at, end = gap
    while at < end:
        if at % 8 == 0 and end - at > (64 if in_union else _LONG_GAP):
            yield f"unsigned char __pad{at // 8}[{(end - at) // 8}]"
            at = end - end % 8
            continue
        # To the next boundary of the largest unit that ends in the gap.
        step, word = next(
            ((unit - at % unit, word) for unit, word in _UNITS if at + unit - at % unit <= end), (end - at, "char")
        )
        yield f"{word}: {step}"
        at += step


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
