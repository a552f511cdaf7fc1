"""DWARF as a tree of entries: units, abbreviations and attributes, and nothing of what C makes of them.

Written for files from anywhere and for finding one name among tens of thousands of entries: every step
goes forward in the section, an entry whose attributes have fixed sizes is stepped over at once, and only
what is asked for is decoded. Reads versions 2 to 5.

Format: DWARF 5, chapter 7 (https://dwarfstd.org/doc/DWARF5.pdf).
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from rawbpf.elf import dwarf_form as form_of
from rawbpf.elf.debug import debug_section
from rawbpf.elf.dwarf_form import Abbreviation, read_abbreviations, signed, unsigned
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from rawbpf.elf.container import Container

DW_AT_STR_OFFSETS_BASE = 0x72
_DW_UT_TYPE, _DW_UT_SKELETON, _DW_UT_SPLIT_COMPILE, _DW_UT_SPLIT_TYPE = 2, 4, 5, 6

_MAX_NAME = 4096
_SLACK = 1 << 16


class Unit:
    """A compilation unit: where its entries lie, and what it takes to read them."""

    __slots__ = ("abbreviations", "address_size", "end", "first", "offset_size", "start", "strings_at", "version")

    def __init__(self, start: int, end: int, version: int, offset_size: int) -> None:
        self.start = start
        self.end = end
        self.version = version
        self.offset_size = offset_size
        self.address_size = 8
        self.first = 0
        self.strings_at = 0
        self.abbreviations: dict[int, Abbreviation] = {}

    def size_of(self, form: int) -> int | None:
        """Return the size of a value of `form`, None where that differs from value to value."""
        if form == form_of.ADDR or (form == form_of.REF_ADDR and self.version == 2):
            return self.address_size
        return self.offset_size if form in form_of.OFFSETS else form_of.FIXED.get(form)


class Entry:
    """One entry: `tag`, and attributes by number. `end` is where its attributes end."""

    __slots__ = ("_dwarf", "_places", "abbreviation", "end", "offset", "tag", "unit")

    def __init__(self, dwarf: Dwarf, unit: Unit, offset: int, abbreviation: Abbreviation, at: int) -> None:
        self._dwarf = dwarf
        self.unit = unit
        self.offset = offset
        self.abbreviation = abbreviation
        self.tag = abbreviation.tag
        self._places: dict[int, tuple[int, int]] = {}
        for attribute, declared in abbreviation.attributes:
            form = declared
            if form == form_of.INDIRECT:
                form, at = dwarf.unsigned(at)
                if form in (form_of.INDIRECT, form_of.IMPLICIT_CONST):
                    raise FormatError(f".debug_info: form {form:#x} cannot be indirect", at)
            self._places[attribute] = form, at
            at = dwarf.skip(unit, form, at)
        self.end = at

    def __contains__(self, attribute: int) -> bool:
        return attribute in self._places or attribute in self.abbreviation.constants

    def number(self, attribute: int) -> int | None:
        """Return a constant or flag; None where the entry has none, or gives an expression."""
        if attribute in self.abbreviation.constants:
            return self.abbreviation.constants[attribute]
        form, at = self._places.get(attribute, (0, 0))
        if form in form_of.DATA:
            return self._dwarf.fixed(at, form_of.FIXED[form])
        if form == form_of.UDATA:
            return self._dwarf.unsigned(at)[0]
        if form == form_of.SDATA:
            return self._dwarf.signed(at)[0]
        return None

    def block(self, attribute: int) -> bytes:
        """Return the bytes of an expression; none where the entry has none."""
        form, at = self._places.get(attribute, (0, 0))
        if form not in form_of.BLOCKS:
            return b""
        start, size = self._dwarf.block(form, at)
        return self._dwarf.info[start : start + size]

    def text(self, attribute: int) -> str:
        """Return a string, empty where the entry has none."""
        form, at = self._places.get(attribute, (0, 0))
        return self._dwarf.text(self.unit, form, at).decode("utf-8", "backslashreplace") if form else ""

    def reference(self, attribute: int) -> int | None:
        """Return the offset of the entry that is referred to; None where there is none, or it is of another file."""
        form, at = self._places.get(attribute, (0, 0))
        if form in form_of.REFERENCES:
            return self.unit.start + self._dwarf.fixed(at, form_of.FIXED[form])
        if form == form_of.REF_UDATA:
            return self.unit.start + self._dwarf.unsigned(at)[0]
        if form == form_of.REF_ADDR:
            return self._dwarf.fixed(at, self.unit.address_size if self.unit.version == 2 else self.unit.offset_size)
        return None


class Dwarf:
    """The entries of an object's `.debug_info`."""

    def __init__(self, elf: Container) -> None:
        self.byteorder: Literal["little", "big"] = elf.byteorder
        self._order = elf.order
        self.info = debug_section(elf, ".debug_info")
        self._abbreviations = debug_section(elf, ".debug_abbrev")
        self._strings = debug_section(elf, ".debug_str")
        self._line_strings = debug_section(elf, ".debug_line_str")
        self._string_offsets = debug_section(elf, ".debug_str_offsets")
        self._tables: dict[tuple[int, int, int, bool], dict[int, Abbreviation]] = {}
        # What lies within others is read once for each of them. Files that say that all does would take the square of
        # their size, so there are so many bytes of abbreviations, and so many attributes, and not more.
        self._unread = 4 * len(self._abbreviations) + _SLACK
        self._left = 4 * len(self.info) + _SLACK
        self._units: list[Unit] = []
        at = 0
        while at < len(self.info):
            unit = self._unit(at)
            self._units.append(unit)
            at = unit.end
        self._starts = [unit.start for unit in self._units]

    # Entries ---------------------------------------------------------------------

    def entry(self, offset: int) -> Entry:
        """Return the entry at `offset` of `.debug_info`. Raises: FormatError where there is none."""
        index = bisect_right(self._starts, offset) - 1
        unit = self._units[index] if index >= 0 else None
        if unit is None or not unit.first <= offset < unit.end:
            raise FormatError(f".debug_info has no entry at byte {offset}", offset)
        abbreviation, at = self._begin(unit, offset)
        if abbreviation is None:
            raise FormatError(f".debug_info has no entry at byte {offset}", offset)
        return Entry(self, unit, offset, abbreviation, at)

    def with_tags(self, tags: frozenset[int]) -> Iterator[Entry]:
        """Yield every entry with one of `tags` and a name."""
        for unit in self._units:
            at = unit.first
            while at < unit.end:
                abbreviation, after = self._begin(unit, at)
                if abbreviation is None:
                    at = after
                elif abbreviation.is_named and abbreviation.tag in tags:
                    entry = Entry(self, unit, at, abbreviation, after)
                    yield entry
                    at = entry.end
                else:
                    at = self._over(unit, abbreviation, after)

    def children(self, entry: Entry) -> Iterator[Entry]:
        """Yield the entries right below `entry`. Raises: FormatError where they never end."""
        if not entry.abbreviation.has_children:
            return
        unit, at, depth = entry.unit, entry.end, 0
        while depth >= 0:
            if at >= unit.end:
                raise FormatError(f".debug_info: the entry at byte {entry.offset} does not end", entry.offset)
            abbreviation, after = self._begin(unit, at)
            if abbreviation is None:
                depth -= 1
                at = after
                continue
            if depth == 0:
                child = Entry(self, unit, at, abbreviation, after)
                yield child
                at = child.end
            else:
                at = self._over(unit, abbreviation, after)
            depth += abbreviation.has_children

    def _begin(self, unit: Unit, at: int) -> tuple[Abbreviation | None, int]:
        # The abbreviation of the entry at `at`, None for the mark that ends a row of them, and where attributes begin.
        code, after = self.unsigned(at)
        if not code:
            self._left -= 1
            return None, after
        abbreviation = unit.abbreviations.get(code)
        if abbreviation is None:
            raise FormatError(f".debug_info: abbreviation {code} is unknown", at)
        self._left -= 1 + len(abbreviation.attributes)
        if self._left < 0:
            raise FormatError(".debug_info: its entries lie within one another without end", at)
        return abbreviation, after

    def _over(self, unit: Unit, abbreviation: Abbreviation, at: int) -> int:
        if abbreviation.size is not None:
            return at + abbreviation.size
        return Entry(self, unit, at, abbreviation, at).end

    # Units -----------------------------------------------------------------------

    def _unit(self, start: int) -> Unit:
        length, offset_size, at = self.fixed(start, 4), 4, start + 4
        if length == 0xFFFFFFFF:
            length, offset_size, at = self.fixed(at, 8), 8, at + 8
        elif length >= 0xFFFFFFF0:
            raise FormatError(f".debug_info: a unit of {length:#x} bytes", start)
        end = at + length
        if end > len(self.info):
            raise FormatError(f".debug_info: a unit ends at byte {end} of {len(self.info)}", start)
        version = self.fixed(at, 2)
        if not 2 <= version <= 5:
            raise FormatError(f".debug_info: DWARF of version {version} is unknown; 2 to 5 are known", at)
        unit = Unit(start, end, version, offset_size)
        at += 2
        if version == 5:
            kind = self.fixed(at, 1)
            unit.address_size = self.fixed(at + 1, 1)
            table = self.fixed(at + 2, offset_size)
            at += 2 + offset_size
            if kind in (_DW_UT_SKELETON, _DW_UT_SPLIT_COMPILE):
                at += 8
            elif kind in (_DW_UT_TYPE, _DW_UT_SPLIT_TYPE):
                at += 8 + offset_size
        else:
            table = self.fixed(at, offset_size)
            unit.address_size = self.fixed(at + offset_size, 1)
            at += offset_size + 1
        if unit.address_size not in (2, 4, 8):
            raise FormatError(f".debug_info: addresses of {unit.address_size} bytes", start)
        unit.first = at
        unit.abbreviations = self._table(table, unit)
        # Where the unit's string offsets begin, it says itself; by default behind the header of a section of one.
        unit.strings_at = 4 + offset_size if version == 5 else 0
        if at < end:
            abbreviation, after = self._begin(unit, at)
            if abbreviation is not None:
                entry = Entry(self, unit, at, abbreviation, after)
                form, place = entry._places.get(DW_AT_STR_OFFSETS_BASE, (0, 0))
                if form == form_of.SEC_OFFSET:
                    unit.strings_at = self.fixed(place, offset_size)
        return unit

    def _table(self, start: int, unit: Unit) -> dict[int, Abbreviation]:
        key = start, unit.offset_size, unit.address_size, unit.version == 2
        table = self._tables.get(key)
        if table is None:
            table, read = read_abbreviations(self._abbreviations, start, unit.size_of, self._unread)
            self._unread -= read
            self._tables[key] = table
        return table

    # Forms -----------------------------------------------------------------------

    def skip(self, unit: Unit, form: int, at: int) -> int:
        """Return where the value of `form` at `at` ends."""
        size = unit.size_of(form)
        if size is not None:
            return at + size
        if form in form_of.NUMBERS:
            return self.unsigned(at)[1]
        if form in form_of.BLOCKS:
            start, size = self.block(form, at)
            return start + size
        if form == form_of.STRING:
            end = self.info.find(b"\0", at)
            if end >= 0:
                return end + 1
        raise FormatError(f".debug_info: form {form:#x} is unknown, or does not end", at)

    def fixed(self, at: int, size: int) -> int:
        """Return the unsigned number of `size` bytes at `at`."""
        raw = self.info[at : at + size]
        if len(raw) != size:
            raise FormatError(f".debug_info ends at byte {len(self.info)}, within a value", at)
        return int.from_bytes(raw, self.byteorder)

    def unsigned(self, at: int) -> tuple[int, int]:
        """Return the LEB128 number at `at`, and where it ends."""
        # One byte is most of them.
        if at < len(self.info) and self.info[at] < 0x80:
            return self.info[at], at + 1
        return unsigned(self.info, at, ".debug_info")

    def signed(self, at: int) -> tuple[int, int]:
        """Return the signed LEB128 number at `at`, and where it ends."""
        return signed(self.info, at, ".debug_info")

    def block(self, form: int, at: int) -> tuple[int, int]:
        """Return where the bytes of a block begin, and how many they are."""
        width = form_of.BLOCKS[form]
        if width:
            return at + width, self.fixed(at, width)
        size, start = self.unsigned(at)
        return start, size

    def text(self, unit: Unit, form: int, at: int) -> bytes:
        """Return the string of `form` at `at`; empty if it is none, or of another file."""
        if form == form_of.STRING:
            return _text(self.info, at, ".debug_info")
        if form == form_of.STRP:
            return _text(self._strings, self.fixed(at, unit.offset_size), ".debug_str")
        if form == form_of.LINE_STRP:
            return _text(self._line_strings, self.fixed(at, unit.offset_size), ".debug_line_str")
        if form in form_of.INDICES:
            index = self.fixed(at, form_of.FIXED[form])
        elif form in (form_of.STRX, form_of.GNU_STR_INDEX):
            index = self.unsigned(at)[0]
        else:
            return b""
        place = unit.strings_at + index * unit.offset_size
        try:
            offset: int = struct.unpack_from(
                self._order + ("I" if unit.offset_size == 4 else "Q"), self._string_offsets, place
            )[0]
        except (struct.error, OverflowError):
            raise FormatError(f".debug_str_offsets has no string {index}", place) from None
        return _text(self._strings, offset, ".debug_str")


def _text(source: bytes, at: int, where: str) -> bytes:
    end = source.find(b"\0", at, at + _MAX_NAME + 1)
    if end < 0:
        raise FormatError(f"{where}: a string does not end, or has more than {_MAX_NAME} bytes", at)
    return source[at:end]
