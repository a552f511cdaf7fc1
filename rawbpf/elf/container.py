"""The ELF container: section headers, symbols and relocations, and nothing of what they mean to BPF.

pyelftools reads the headers; symbols and relocations are unpacked here, and only those of sections
that matter, because debug information has ten thousands more.

Source: include/uapi/linux/elf.h, elf(5); relocation types: LLVM's docs "BPF relocations"
(Documentation/bpf/llvm_reloc.rst at v6.12).
"""

from __future__ import annotations

import io
import struct

from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from elftools.elf.elffile import ELFFile

EM_BPF = 247
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 0, 1, 2, 3, 4, 8, 9
SHF_ALLOC, SHF_EXECINSTR = 2, 4
SHN_UNDEF, SHN_LORESERVE, SHN_ABS = 0, 0xFF00, 0xFFF1
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
STV_INTERNAL, STV_HIDDEN = 1, 2

R_BPF_64_64 = 1
R_BPF_64_ABS64 = 2
R_BPF_64_32 = 10
_GNU_ABS64 = 12  # as the assembler of binutils 2.40 has it, R_BPF_DATA_64

_MAX_NAME = 4096
_HEADER = struct.Struct("<IIQQQQIIQQ")
_MACHINES = {
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S390",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
}
_HOW = "compile with clang -O2 -g -target bpf -c"


class Section:
    """A section header; `content` is cut out of the file on demand."""

    __slots__ = ("_file", "alignment", "flags", "index", "info", "link", "name", "offset", "size", "type")

    def __init__(self, file: memoryview, index: int, name: str, header: tuple[int, ...]) -> None:
        self._file = file
        self.index = index
        self.name = name
        self.type, self.flags, self.offset, self.size, self.link, self.info, self.alignment = header

    @property
    def is_code(self) -> bool:
        """Whether it holds instructions."""
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR)

    @property
    def content(self) -> memoryview:
        """Its bytes. Raises: FormatError when they lie outside the file, or the section has none in it."""
        if self.type == SHT_NOBITS:
            raise FormatError(f"section {self.name!r} has no bytes in the file", self.offset)
        if self.offset + self.size > len(self._file):
            end = self.offset + self.size
            raise FormatError(f"section {self.name!r} ends at byte {end} of a file of {len(self._file)}", self.offset)
        return self._file[self.offset : self.offset + self.size]

    def __repr__(self) -> str:
        return f"<Section {self.index} {self.name!r}, {self.size} bytes>"


class Symbol:
    """A symbol; `section` is its section's index, SHN_UNDEF (0) for what others define."""

    __slots__ = ("bind", "name", "section", "size", "type", "value", "visibility")

    def __init__(self, name: str, info: int, other: int, section: int, value: int, size: int) -> None:
        self.name = name
        self.bind = info >> 4
        self.type = info & 15
        self.visibility = other & 3
        self.section = section
        self.value = value
        self.size = size

    @property
    def is_needed(self) -> bool:
        """Whether it is for others to define: the kernel, or another object."""
        return self.section == SHN_UNDEF and self.bind in (STB_GLOBAL, STB_WEAK) and self.type == STT_NOTYPE

    def __repr__(self) -> str:
        return f"<Symbol {self.name!r} at {self.value} of section {self.section}>"


class Container:
    """An ELF file of BPF: its sections, and symbols and relocations as they are asked for."""

    __slots__ = ("_symbols", "_tables", "byteorder", "order", "sections")

    def __init__(self, byteorder: Literal["little", "big"], sections: list[Section]) -> None:
        self.byteorder = byteorder
        self.order = "<" if byteorder == "little" else ">"
        self.sections = sections
        self._symbols: list[Symbol] | None = None
        self._tables: dict[int, list[Section]] | None = None

    def find(self, name: str) -> Section | None:
        """Return the first section of this name, or None."""
        return next((section for section in self.sections if section.name == name), None)

    def section_of(self, symbol: Symbol) -> Section | None:
        """Return the section in which `symbol` lies, or None for undefined and special ones."""
        return self.sections[symbol.section] if 0 < symbol.section < len(self.sections) else None

    def label(self, symbol: Symbol) -> str:
        """Return what messages call `symbol`: its name, or its section's where it has none."""
        section = self.section_of(symbol)
        return symbol.name or (section.name if section is not None else "")

    @property
    def symbols(self) -> list[Symbol]:
        """Every symbol, by index. Raises: FormatError when the table or its strings lie outside the file."""
        if self._symbols is None:
            table = next((section for section in self.sections if section.type == SHT_SYMTAB), None)
            self._symbols = [] if table is None else self._read_symbols(table)
        return self._symbols

    def _read_symbols(self, table: Section) -> list[Symbol]:
        content = table.content
        if len(content) % 24:
            raise FormatError(f"a symbol table of {len(content)} bytes is no whole number of symbols", table.offset)
        if not 0 < table.link < len(self.sections):
            raise FormatError(f"the symbol table names section {table.link} for its strings", table.offset)
        strings = bytes(self.sections[table.link].content)
        return [
            Symbol(_string(strings, name), info, other, section, value, size)
            for name, info, other, section, value, size in struct.iter_unpack(self.order + "IBBHQQ", content)
        ]

    def relocations(self, of: Section) -> list[tuple[int, int, Symbol]]:
        """Return (offset, type, symbol) of each relocation of section `of`.

        Raises: FormatError when a table is damaged or names a symbol that does not exist.
        """
        if self._tables is None:
            self._tables = {}
            for table in self.sections:
                if table.type in (SHT_REL, SHT_RELA):
                    self._tables.setdefault(table.info, []).append(table)
        out: list[tuple[int, int, Symbol]] = []
        for table in self._tables.get(of.index, ()):
            if table.type == SHT_RELA:
                raise FormatError(
                    f"section {table.name!r} is of type RELA; BPF's relocations are of type REL", table.offset
                )
            content = table.content
            if len(content) % 16:
                raise FormatError(
                    f"{table.name!r} of {len(content)} bytes is no whole number of relocations", table.offset
                )
            symbols = self.symbols
            for offset, info in struct.iter_unpack(self.order + "QQ", content):
                if info >> 32 >= len(symbols):
                    raise FormatError(f"{table.name!r} names symbol {info >> 32} of {len(symbols)}", table.offset)
                if offset >= of.size:
                    raise FormatError(f"{table.name!r} relocates byte {offset} of {of.size}", table.offset)
                kind = info & 0xFFFFFFFF
                out.append((offset, R_BPF_64_ABS64 if kind == _GNU_ABS64 else kind, symbols[info >> 32]))
        return out


def read(data: bytes | memoryview, name: str, *, any_machine: bool = False) -> Container:
    """Return the container in `data`; `name` is the file's, for messages.

    `any_machine`: whatever it was compiled for. Raises: FormatError for what is no 64-bit ELF object file of BPF;
    ImportError without pyelftools.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:4]) != b"\x7fELF":
        raise FormatError(f"{name}: not an ELF file (it begins with {bytes(view[:4])!r}): {_HOW}", 0)
    file = _open(name, view)
    byteorder: Literal["little", "big"] = "little" if file.little_endian else "big"
    machine = int.from_bytes(view[18:20], byteorder)
    if file.elfclass != 64 or (machine != EM_BPF and not any_machine):
        of = _MACHINES.get(machine, f"number {machine}") if machine != EM_BPF else "32-bit BPF"
        raise FormatError(f"{name}: not a BPF object: machine is {of}: {_HOW}", 18)
    headers = _headers(name, view, file, ">" if byteorder == "big" else "<")
    index = file.get_shstrndx() if headers else 0
    sections = [Section(view, i, "", (h[1], h[2], *h[4:9])) for i, h in enumerate(headers)]
    # Overlapping sections could make a small file cost as much as the square of its size.
    if sum(section.size for section in sections if section.type not in (SHT_NULL, SHT_NOBITS)) > len(view):
        raise FormatError(f"{name}: the sections' sizes together exceed the file's {len(view)} bytes")
    if sections:
        if index >= len(sections):
            raise FormatError(f"{name}: section names are said to lie in section {index} of {len(sections)}", 62)
        strings = bytes(sections[index].content)
        for section, header in zip(sections, headers, strict=True):
            section.name = _string(strings, header[0])
    return Container(byteorder, sections)


def _open(name: str, view: memoryview) -> ELFFile:
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise ImportError("reading an object file needs pyelftools: pip install pyelftools") from error
    if len(view) < 64:
        raise FormatError(f"{name}: {len(view)} bytes are too few for an ELF header", 0)
    try:
        return ELFFile(io.BytesIO(view))
    except (ELFError, ValueError, KeyError) as error:
        raise FormatError(f"{name}: damaged ELF header: {error}", 0) from error


def _headers(name: str, view: memoryview, file: ELFFile, order: str) -> list[tuple[int, ...]]:
    start, size = int(file["e_shoff"]), int(file["e_shentsize"])
    if start == 0:
        return []
    if size != _HEADER.size:
        raise FormatError(f"{name}: section headers of {size} bytes instead of 64", 58)
    if start + size > len(view):
        raise FormatError(f"{name}: the section headers at byte {start} lie outside the file of {len(view)} bytes", 40)
    # num_sections looks into the first header when there are more than e_shnum can tell.
    count = file.num_sections()
    if start + count * size > len(view):
        raise FormatError(f"{name}: {count} section headers at byte {start} lie outside the file", 40)
    return list(struct.iter_unpack(f"{order}IIQQQQIIQQ", view[start : start + count * size]))


def _string(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset, offset + _MAX_NAME)
    if end < 0:
        raise FormatError(f"a name at byte {offset} of the string table of {len(strings)} bytes does not end")
    return strings[offset:end].decode("utf-8", "surrogateescape")
