"""Writes small ELF object files, whole or damaged, so that parsers' inputs need not be committed."""

from __future__ import annotations

import struct
from typing import Literal

PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
ALLOC, EXEC = 2, 4
LOCAL, GLOBAL, WEAK = 0, 1, 2
NOTYPE, OBJECT, FUNC, SECTION = 0, 1, 2, 3
HIDDEN = 2


class ElfWriter:
    """Collects sections, symbols and relocations; `build()` gives the file."""

    def __init__(self, byteorder: Literal["little", "big"] = "little", machine: int = 247) -> None:
        self.byteorder = byteorder
        self.machine = machine
        self._order = "<" if byteorder == "little" else ">"
        self._sections: list[tuple[str, int, int, bytes, int]] = []
        self._symbols: list[bytes] = [bytes(24)]
        self._names = b"\0"
        self._relocations: dict[int, list[bytes]] = {}
        self.relocation_type = REL

    def section(
        self,
        name: str,
        content: bytes = b"",
        *,
        type: int = PROGBITS,
        flags: int = ALLOC,
        size: int | None = None,
    ) -> int:
        """Add a section, return its index; `size` differs from the content's for NOBITS or a lie."""
        self._sections.append((name, type, flags, content, len(content) if size is None else size))
        return len(self._sections)

    def code(self, name: str, content: bytes) -> int:
        return self.section(name, content, flags=ALLOC | EXEC)

    def symbol(
        self,
        name: str,
        section: int,
        value: int = 0,
        size: int = 0,
        *,
        type: int = FUNC,
        bind: int = GLOBAL,
        visibility: int = 0,
    ) -> int:
        """Add a symbol, return its index."""
        entry = struct.pack(
            self._order + "IBBHQQ", len(self._names), bind << 4 | type, visibility, section, value, size
        )
        self._names += name.encode() + b"\0"
        self._symbols.append(entry)
        return len(self._symbols) - 1

    def relocate(self, section: int, offset: int, kind: int, symbol: int) -> None:
        entry = struct.pack(self._order + "QQ", offset, symbol << 32 | kind)
        self._relocations.setdefault(section, []).append(entry)

    def build(self) -> bytes:
        rows: list[tuple[str, int, int, bytes, int, int, int]] = [("", 0, 0, b"", 0, 0, 0)]
        for name, kind, flags, content, size in self._sections:
            rows.append((name, kind, flags, content, size, 0, 0))
        symtab = len(rows) + len(self._relocations)
        for section, entries in self._relocations.items():
            content = b"".join(entries)
            rows.append((f".rel{rows[section][0]}", self.relocation_type, 0, content, len(content), symtab, section))
        content = b"".join(self._symbols)
        rows.append((".symtab", SYMTAB, 0, content, len(content), symtab + 1, 1))
        rows.append((".strtab", STRTAB, 0, self._names, len(self._names), 0, 0))
        names = b""
        places = []
        for name in (*(row[0] for row in rows), ".shstrtab"):
            places.append(len(names))
            names += name.encode() + b"\0"
        rows.append((".shstrtab", STRTAB, 0, names, len(names), 0, 0))
        body = b""
        headers = b""
        for place, (_, kind, flags, content, size, link, info) in zip(places, rows, strict=True):
            headers += struct.pack(
                self._order + "IIQQQQIIQQ", place, kind, flags, 0, 64 + len(body), size, link, info, 8, 0
            )
            if kind != NOBITS:
                body += content
        ident = b"\x7fELF\x02" + (b"\1" if self.byteorder == "little" else b"\2") + b"\1" + bytes(9)
        start = 64 + len(body)
        return (
            ident
            + struct.pack(
                self._order + "HHIQQQIHHHHHH",
                1,
                self.machine,
                1,
                0,
                0,
                start,
                0,
                64,
                0,
                0,
                64,
                len(rows),
                len(rows) - 1,
            )
            + body
            + headers
        )
