"""An ELF file again, with other contents, sizes and names of some sections; everything else as it was.

Sections are laid out one behind the other in their order, so that nothing is left of what was replaced.

Source: include/uapi/linux/elf.h, elf(5)
"""

from __future__ import annotations

import struct

from rawbpf.elf.container import SHT_NOBITS, SHT_NULL, SHT_PROGBITS, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.elf.container import Section

_HEADER = "IIQQQQIIQQ"
_MAX_ALIGNMENT = 4096
_SHOFF, _SHSTRNDX, _PHOFF, _PHNUM = 40, 62, 32, 56


class Rewriter:
    """The object file `data`, called `name`: `elf` is what it was, `to_bytes()` what becomes of it.

    Raises: as `read`.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.elf = read(data, name)
        self._data = data
        self._contents: dict[int, bytes] = {}
        self._empty: dict[int, int] = {}
        self._names: dict[int, str] = {}

    def replace(self, section: Section, content: bytes) -> None:
        """Give a section other bytes, also one that had none in the file."""
        self._contents[section.index] = content

    def resize(self, section: Section, size: int) -> None:
        """Give a section that has no bytes in the file another size."""
        self._empty[section.index] = size

    def rename(self, section: Section, name: str) -> None:
        """Give a section another name."""
        self._names[section.index] = name

    def to_bytes(self) -> bytes:
        """Return the file."""
        order = self.elf.order
        start = int.from_bytes(self._data[_SHOFF : _SHOFF + 8], self.elf.byteorder)
        count = len(self.elf.sections)
        packed = struct.Struct(order + _HEADER)
        headers = [list(packed.unpack_from(self._data, start + index * packed.size)) for index in range(count)]
        self._rename(headers, order)
        out = bytearray(self._data[:64])
        for index in sorted(range(count), key=lambda index: headers[index][4]):
            header, section = headers[index], self.elf.sections[index]
            if section.type == SHT_NULL:
                continue
            if section.type == SHT_NOBITS and index not in self._contents:
                header[4], header[5] = len(out), self._empty.get(index, section.size)
                continue
            content = self._contents.get(index)
            if content is None:
                content = bytes(section.content)
            elif section.type == SHT_NOBITS:
                header[1] = SHT_PROGBITS
            # A damaged file may ask for any alignment.
            out += bytes(-len(out) % min(max(header[8], 1), _MAX_ALIGNMENT))
            header[4], header[5] = len(out), len(content)
            out += content
        out += bytes(-len(out) % 8)
        struct.pack_into(order + "Q", out, _SHOFF, len(out))
        # What a loader of processes would read is not there in an object file.
        struct.pack_into(order + "Q", out, _PHOFF, 0)
        struct.pack_into(order + "H", out, _PHNUM, 0)
        return bytes(out) + b"".join(packed.pack(*header) for header in headers)

    def _rename(self, headers: list[list[int]], order: str) -> None:
        if not self._names:
            return
        (index,) = struct.unpack_from(order + "H", self._data, _SHSTRNDX)
        strings = bytearray(self._contents.get(index) or bytes(self.elf.sections[index].content))
        for section, name in self._names.items():
            headers[section][0] = len(strings)
            strings += name.encode("utf-8", "surrogateescape") + b"\0"
        self._contents[index] = bytes(strings)
