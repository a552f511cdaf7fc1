"""How DWARF stores values: forms, LEB128 numbers, and the abbreviations that say which form each value has.

Format: DWARF 5, section 7.5 (https://dwarfstd.org/doc/DWARF5.pdf).
"""

from __future__ import annotations

from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DW_AT_NAME = 0x03

ADDR, STRING, SDATA, STRP, UDATA, REF_ADDR, REF_UDATA = 0x01, 0x08, 0x0D, 0x0E, 0x0F, 0x10, 0x15
INDIRECT, SEC_OFFSET, EXPRLOC, FLAG_PRESENT, STRX, LINE_STRP, IMPLICIT_CONST = 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1F, 0x21
GNU_STR_INDEX = 0x1F02

# By form: the size in bytes where that is fixed; those of an offset, 4 or 8 bytes by the unit; LEB128 numbers; and
# blocks, with the size of the length before them (0: LEB128).
FIXED = {
    0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x1C: 4, 0x1E: 16, 0x20: 8,
    0x24: 8, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
}  # fmt: skip
OFFSETS = (STRP, REF_ADDR, SEC_OFFSET, 0x1D, LINE_STRP, 0x1F20, 0x1F21)
NUMBERS = (SDATA, UDATA, REF_UDATA, STRX, 0x1B, 0x22, 0x23, 0x1F01, GNU_STR_INDEX)
BLOCKS = {0x03: 2, 0x04: 4, 0x0A: 1, 0x09: 0, EXPRLOC: 0}

# What the values mean: plain numbers, references within the unit, and indices of strings.
DATA = (0x05, 0x06, 0x07, 0x0B, 0x0C)
REFERENCES = (0x11, 0x12, 0x13, 0x14)
INDICES = (0x25, 0x26, 0x27, 0x28)

_SECTION = ".debug_abbrev"
_MOST_BYTES = 10
"""More than this no number of 64 bits has."""


class Abbreviation:
    """What entries have in common: tag, and the attributes with their forms.

    `constants` are those whose value stands here; `size` is what the others take together, None where that differs
    from entry to entry.
    """

    __slots__ = ("attributes", "constants", "has_children", "is_named", "size", "tag")

    def __init__(self, tag: int, has_children: bool) -> None:
        self.tag = tag
        self.has_children = has_children
        self.attributes: list[tuple[int, int]] = []
        self.constants: dict[int, int] = {}
        self.is_named = False
        self.size: int | None = 0


def read_abbreviations(
    source: bytes, start: int, size_of: Callable[[int], int | None], most: int
) -> tuple[dict[int, Abbreviation], int]:
    """Return the abbreviations by their codes from the table at `start`, and how many bytes it has.

    `size_of`: the size of a form's values. Raises: FormatError, also for a table of more than `most` bytes.
    """
    table: dict[int, Abbreviation] = {}
    at = start
    while True:
        code, at = unsigned(source, at, _SECTION)
        if not code:
            return table, at - start
        tag, at = unsigned(source, at, _SECTION)
        abbreviation = table[code] = Abbreviation(tag, source[at : at + 1] == b"\1")
        at = _read_attributes(abbreviation, source, at + 1)
        sizes = [size_of(form) for _, form in abbreviation.attributes]
        abbreviation.size = None if None in sizes else sum(size or 0 for size in sizes)
        abbreviation.is_named = any(attribute == DW_AT_NAME for attribute, _ in abbreviation.attributes)
        if at - start > most:
            raise FormatError(f"{_SECTION}: its tables lie within one another", start)


def _read_attributes(abbreviation: Abbreviation, source: bytes, at: int) -> int:
    while True:
        attribute, at = unsigned(source, at, _SECTION)
        form, at = unsigned(source, at, _SECTION)
        if form == IMPLICIT_CONST:
            abbreviation.constants[attribute], at = signed(source, at, _SECTION)
        elif form == FLAG_PRESENT:
            abbreviation.constants[attribute] = 1
        elif attribute or form:
            abbreviation.attributes.append((attribute, form))
        else:
            return at


def unsigned(source: bytes, at: int, where: str) -> tuple[int, int]:
    """Return the LEB128 number at `at` of `source`, and where it ends; `where` is the section's name, for messages."""
    number = 0
    for index, byte in enumerate(source[at : at + _MOST_BYTES]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise FormatError(f"{where}: a number does not end", at)


def signed(source: bytes, at: int, where: str) -> tuple[int, int]:
    """Return the signed LEB128 number at `at` of `source`, and where it ends."""
    number, end = unsigned(source, at, where)
    sign = 1 << 7 * (end - at) - 1
    return (number ^ sign) - sign, end
