"""Writes object files with a little DWARF, right or wrong, so that readers' inputs need not be committed."""

from __future__ import annotations

import struct
from typing import Literal

from support.elf_writer import ElfWriter

NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, CONST_VALUE, UPPER_BOUND, COUNT = 0x03, 0x0B, 0x0C, 0x0D, 0x1C, 0x2F, 0x37
LOCATION, DECLARATION, ENCODING, TYPE, DATA_BIT_OFFSET = 0x38, 0x3C, 0x3E, 0x49, 0x6B
ARRAY, ENUM, POINTER, UNIT, STRUCT, TYPEDEF, UNION, BASE, CONST = 0x01, 0x04, 0x0F, 0x11, 0x13, 0x16, 0x17, 0x24, 0x26
MEMBER, SUBRANGE, ENUMERATOR = 0x0D, 0x21, 0x28
STRING, UDATA, SDATA, REF4, FLAG_PRESENT = 0x08, 0x0F, 0x0D, 0x13, 0x19


def leb(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class DwarfWriter:
    """One unit of DWARF 4: `entry()` adds an entry with these values, `end()` ends a row of children."""

    def __init__(self, byteorder: Literal["little", "big"] = "little") -> None:
        self.byteorder = byteorder
        self.order = "<" if byteorder == "little" else ">"
        self.abbreviations = bytearray()
        self.entries = bytearray()
        self._codes: dict[tuple[object, ...], int] = {}
        self.entry(UNIT, children=True)

    @property
    def here(self) -> int:
        """Where in the unit the next entry will lie."""
        return 11 + len(self.entries)

    def entry(self, tag: int, *, children: bool = False, **values: int | str | bytes) -> int:
        """Add an entry and return where it lies. A value is a name, a number, or the bytes of a block."""
        at = self.here
        shape: list[tuple[int, int]] = []
        body = b""
        for word, value in values.items():
            attribute = globals()[word.upper()]
            if isinstance(value, str):
                shape.append((attribute, STRING))
                body += value.encode() + b"\0"
            elif isinstance(value, bytes):
                shape.append((attribute, 0x0A))
                body += bytes([len(value)]) + value
            elif attribute == TYPE:
                shape.append((attribute, REF4))
                body += struct.pack(self.order + "I", value)
            elif value < 0:
                shape.append((attribute, SDATA))
                body += bytes([value & 0x7F])
            else:
                shape.append((attribute, UDATA))
                body += leb(value)
        key = tag, children, *shape
        if key not in self._codes:
            self._codes[key] = code = len(self._codes) + 1
            self.abbreviations += leb(code) + leb(tag) + bytes([children])
            self.abbreviations += b"".join(leb(number) for pair in shape for number in pair) + b"\0\0"
        self.entries += leb(self._codes[key]) + body
        return at

    def end(self) -> None:
        """End the children of the entry that has them."""
        self.entries += b"\0"

    def int(self, name: str = "int", size: int = 4) -> int:
        """Add a signed integer."""
        return self.entry(BASE, name=name, encoding=5, byte_size=size)

    def info(self) -> bytes:
        """Return `.debug_info`."""
        entries = self.entries + b"\0"
        return struct.pack(self.order + "IHIB", 7 + len(entries), 4, 0, 8) + entries

    def build(self) -> bytes:
        """Return the object file."""
        return elf(self.byteorder, debug_info=self.info(), debug_abbrev=bytes(self.abbreviations) + b"\0")


def elf(byteorder: Literal["little", "big"] = "little", **sections: bytes) -> bytes:
    """Return an object file with these sections of debug information, and no other."""
    writer = ElfWriter(byteorder)
    for name, content in sections.items():
        writer.section(f".{name}", content, flags=0)
    return writer.build()
