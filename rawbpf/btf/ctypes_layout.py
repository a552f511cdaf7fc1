"""Where ctypes would put the fields of a class, and what to write so that they come where they are.

Gaps are filled by fields called `_pad...`, since ctypes has none without a name. Bit-fields share
storage of one size, where ctypes and compilers agree; where they cannot, they are bytes.
"""

from __future__ import annotations

from rawbpf.btf.declarator import printable, quoted
from rawbpf.btf.types import Composite, Struct
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_UNITS = (1, 2, 4, 8)
_BYTE = "ctypes.c_uint8"


class Field:
    """A member: `expression` is its ctypes class, `offset` and `bits` are bits, `size` and `align` bytes."""

    __slots__ = ("align", "anonymous", "bits", "comment", "expression", "name", "offset", "signed", "size")

    def __init__(
        self,
        name: str,
        expression: str,
        offset: int,
        size: int,
        align: int,
        bits: int = 0,
        signed: bool = False,
        comment: str = "",
        anonymous: bool = False,
    ) -> None:
        self.name = name
        self.expression = expression
        self.offset = offset
        self.size = size
        self.align = align
        self.bits = bits
        self.signed = signed
        self.comment = comment
        self.anonymous = anonymous

    def line(self) -> str:
        """Return what stands for it in `_fields_`."""
        width = f", {self.bits}" if self.bits else ""
        comment = f"  # {printable(self.comment)}" if self.comment else ""
        return f"({quoted(self.name)}, {self.expression}{width}),{comment}"


def integer(size: int, signed: bool) -> str:
    """Return the ctypes class of an integer of 1, 2, 4 or 8 bytes."""
    return f"ctypes.c_{'' if signed else 'u'}int{8 * size}"


def arranged(type: Composite, fields: Sequence[Field]) -> tuple[bool, int, list[str]]:
    """Return whether the class is packed, its alignment, and the lines of its `_fields_`.

    Raises: FormatError for members that overlap, or end behind the type.
    """
    if not isinstance(type, Struct):
        return _union(type, fields)
    units = list(_with_units(type, fields))
    for packed in (False, True):
        found = _struct(type, units, packed)
        if found is not None:
            align, lines = found
            return packed, align, lines
    raise FormatError(f"{type!r} has members that overlap, or end behind it")


def _union(type: Composite, fields: Sequence[Field]) -> tuple[bool, int, list[str]]:
    if any(field.offset or field.bits > 8 * field.size or field.size > type.size for field in fields):
        raise FormatError(f"{type!r} has members that do not start with it, or end behind it")
    lines = [field.line() for field in fields]
    align = max((field.align for field in fields), default=1)
    longest = max((field.size for field in fields), default=0)
    packed = bool(type.size % align)
    if -(-longest // align) * align != type.size and (not packed or longest != type.size):
        lines.append(Field("_pad0", f"{_BYTE} * {type.size}", 0, type.size, 1).line())
    return packed, 1 if packed else align, lines


def _struct(type: Composite, units: Sequence[list[Field]], packed: bool) -> tuple[int, list[str]] | None:
    at, align = 0, 1
    lines = []
    for unit in units:
        first = unit[0]
        start, own = first.offset // 8, 1 if packed else first.align
        if start < at or start % own:
            return None
        if -(-at // own) * own != start:
            lines.append(_pad(at, start))
        lines += [field.line() for field in unit]
        at = start + first.size
        align = max(align, own)
    if at > type.size or type.size % align:
        return None
    if -(-at // align) * align != type.size:
        lines.append(_pad(at, type.size))
    return align, lines


def _pad(start: int, end: int) -> str:
    return Field(f"_pad{start}", f"{_BYTE} * {end - start}", 8 * start, end - start, 1).line()


def _with_units(type: Composite, fields: Sequence[Field]) -> Iterator[list[Field]]:
    # Each field by itself, but bit-fields that share storage together.
    at = end = 0
    while at < len(fields):
        if not fields[at].bits:
            if fields[at].offset % 8:
                raise FormatError(f"{type!r} has a member {fields[at].name!r} that starts within a byte")
            yield [fields[at]]
            end = fields[at].offset // 8 + fields[at].size
            at += 1
            continue
        stop = at
        while stop < len(fields) and fields[stop].bits:
            stop += 1
        limit = fields[stop].offset // 8 if stop < len(fields) else type.size
        run = fields[at:stop]
        yield from _units_of(type, run, end, limit)
        end = limit if stop == len(fields) else max(end, -(-(run[-1].offset + run[-1].bits) // 8))
        at = stop


def _units_of(type: Composite, run: Sequence[Field], start: int, limit: int) -> Iterator[list[Field]]:
    if any(run[at].offset + run[at].bits > run[at + 1].offset for at in range(len(run) - 1)):
        raise FormatError(f"{type!r} has bit-fields that overlap")
    first, last = run[0].offset, run[-1].offset + run[-1].bits
    for size in (run[0].size, *_UNITS):
        unit = 8 * size
        if (
            size in _UNITS
            and first // unit * size >= start
            and -(-last // unit) * size <= limit
            and all(field.offset // unit == (field.offset + field.bits - 1) // unit for field in run)
        ):
            yield from _in_storage(run, size)
            return
    # They lie across what ctypes has for them.
    names = ", ".join(f"{field.name}: {field.bits} bits from bit {field.offset - first // 8 * 8}" for field in run)
    length = -(-last // 8) - first // 8
    yield [Field(f"_bits{first // 8}", f"{_BYTE} * {length}", first // 8 * 8, length, 1, comment=names)]


def _in_storage(run: Sequence[Field], size: int) -> Iterator[list[Field]]:
    unit = 8 * size
    filler = integer(size, False)
    units: dict[int, list[Field]] = {}
    ends: dict[int, int] = {}
    for field in run:
        base = field.offset // unit * unit
        into = units.setdefault(base, [])
        gap = field.offset - ends.get(base, base)
        if gap:
            into.append(Field(f"_pad{field.offset - gap}_bits", filler, base, size, size, gap))
        own = integer(size, field.signed)
        into.append(Field(field.name, own, base, size, size, field.bits, comment=field.comment))
        ends[base] = field.offset + field.bits
    last = max(units)
    for base, into in units.items():
        # The next one would be put into what is left of this storage.
        if base != last and ends[base] < base + unit:
            left = base + unit - ends[base]
            into.append(Field(f"_pad{ends[base]}_bits", filler, base, size, size, left))
        yield into
