"""Sections of debug information as a linker would leave them: decompressed, with their relocations applied.

Nearly all relocations of an object file are those of its debug information, and nearly all of these add
nothing: they name the start of a section, which is 0 until files are linked. So only those are applied
that name a symbol of another value.

Source: gabi, "Section Compression"; Documentation/bpf/llvm_reloc.rst (v6.12)
"""

from __future__ import annotations

import struct
import zlib

from rawbpf.elf.container import R_BPF_64_32, R_BPF_64_64, R_BPF_64_ABS64, SHT_NOBITS, SHT_REL, SHT_RELA
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.elf.container import Container, Section

R_BPF_64_ABS32, R_BPF_64_NODYLD32 = 3, 4
SHF_COMPRESSED = 1 << 11
ELFCOMPRESS_ZLIB = 1

# How many bytes each kind writes; compilers before LLVM 13 used those of instructions for data as well.
_WIDTHS = {R_BPF_64_64: 8, R_BPF_64_ABS64: 8, R_BPF_64_ABS32: 4, R_BPF_64_NODYLD32: 4, R_BPF_64_32: 4}
_RATIO = 1032
"""More than this zlib cannot compress."""


def debug_section(elf: Container, name: str) -> bytes:
    """Return the content of the section of debug information called `name`; nothing if there is none.

    Raises: FormatError when it is damaged, or compressed in a way that is not known.
    """
    section = elf.find(name)
    if section is None or section.type == SHT_NOBITS:
        return b""
    content = bytes(section.content)
    if section.flags & SHF_COMPRESSED:
        content = _decompressed(elf, section, content)
    for table in elf.sections:
        if table.type in (SHT_REL, SHT_RELA) and table.info == section.index:
            content = _relocated(elf, name, content, table)
    return content


def _decompressed(elf: Container, section: Section, content: bytes) -> bytes:
    if len(content) < 24:
        raise FormatError(f"compressed section {section.name!r} has {len(content)} bytes", section.offset)
    kind, _, size, _ = struct.unpack_from(elf.order + "IIQQ", content)
    if kind != ELFCOMPRESS_ZLIB:
        how = "by zstd" if kind == 2 else f"in the way {kind}"
        raise FormatError(f"section {section.name!r} is compressed {how}: compile with -gz=zlib", section.offset)
    if size > _RATIO * len(content):
        raise FormatError(f"section {section.name!r} cannot have {size} bytes, compressed to {len(content)}")
    try:
        out = zlib.decompressobj().decompress(content[24:], size or 1)
    except zlib.error as error:
        raise FormatError(f"section {section.name!r} is damaged: {error}", section.offset) from error
    if len(out) != size:
        raise FormatError(f"section {section.name!r} has {len(out)} bytes instead of {size}", section.offset)
    return out


def _relocated(elf: Container, name: str, content: bytes, table: Section) -> bytes:
    record = struct.Struct(elf.order + ("QQ" if table.type == SHT_REL else "QQq"))
    entries = table.content
    if len(entries) % record.size:
        raise FormatError(f"{table.name!r} of {len(entries)} bytes is no whole number of relocations", table.offset)
    kinds = {info for _, info, *_ in record.iter_unpack(entries)}
    symbols = elf.symbols
    unknown = next((info for info in kinds if info >> 32 >= len(symbols)), None)
    if unknown is not None:
        raise FormatError(f"{table.name!r} names symbol {unknown >> 32} of {len(symbols)}", table.offset)
    values = {info: symbols[info >> 32].value for info in kinds}
    if table.type == SHT_REL and not any(values.values()):
        return content
    out = bytearray(content)
    for offset, info, *addend in record.iter_unpack(entries):
        if not addend and not values[info]:
            continue
        width = _WIDTHS.get(info & 0xFFFFFFFF)
        if width is None or offset + width > len(out):
            raise FormatError(
                f"{table.name!r}: relocation {info & 0xFFFFFFFF} of byte {offset} of {name}", table.offset
            )
        old = addend[0] if addend else int.from_bytes(out[offset : offset + width], elf.byteorder)
        number = (old + values[info]) % (1 << 8 * width)
        out[offset : offset + width] = number.to_bytes(width, elf.byteorder)
    return bytes(out)
