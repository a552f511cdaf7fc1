"""`.BTF.ext`: what instructions the functions, source lines and CO-RE relocations of an object belong to.

Reads the section of an ELF file, where records stand by section, and packs the flat arrays that
PROG_LOAD takes. Knows no instructions: offsets are numbers.

Format: Documentation/bpf/btf.rst, "ELF File Format Interface" (v6.12)
"""

from __future__ import annotations

import struct
import sys

from rawbpf.btf.kind import MAGIC
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal, TypeVar

    from rawbpf.btf.btf import Btf

    ByteOrder = Literal["little", "big"]
    R = TypeVar("R")

FUNC_INFO_SIZE = 8
LINE_INFO_SIZE = 16
CORE_RELO_SIZE = 16
_MAX_COLUMN = (1 << 10) - 1
_MAX_LINE = (1 << 22) - 1
_INSN_SIZE = 8


class FuncInfo(tuple[int, int]):
    """(offset, type_id): at byte `offset` of the section starts the function of BTF type `type_id`."""

    __slots__ = ()

    @property
    def offset(self) -> int:
        """Where the function starts, in bytes from the start of its section."""
        return self[0]

    @property
    def type_id(self) -> int:
        """The id of its `Func`."""
        return self[1]


class _Record:
    # What line and relocation records have in common: five numbers and where their strings are.
    __slots__ = ("_btf", "_numbers")

    def __init__(self, btf: Btf, numbers: tuple[int, ...]) -> None:
        self._btf = btf
        self._numbers = numbers

    @property
    def offset(self) -> int:
        """The instruction's place, in bytes from the start of its section."""
        return self._numbers[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self._numbers)


class LineInfo(_Record):
    """From byte `offset` of the section on, instructions stem from `line` of `file_name`."""

    __slots__ = ()

    @property
    def file_name_offset(self) -> int:
        """Where the file's name lies in the string section."""
        return self._numbers[1]

    @property
    def text_offset(self) -> int:
        """Where the line's text lies in the string section."""
        return self._numbers[2]

    @property
    def line(self) -> int:
        """The line's number, from 1; 0 if unknown."""
        return self._numbers[3] >> 10

    @property
    def column(self) -> int:
        """The column, from 1; 0 if unknown."""
        return self._numbers[3] & _MAX_COLUMN

    @property
    def file_name(self) -> str:
        """The source file, as the compiler was told it. Raises: FormatError when there is no such string."""
        return self._btf.string(self._numbers[1], cut=True)

    @property
    def text(self) -> str:
        """The source line itself, at most 4096 bytes. Raises: FormatError when there is no such string."""
        return self._btf.string(self._numbers[2], cut=True)

    def __repr__(self) -> str:
        return f"LineInfo(offset={self.offset}, {self.file_name}:{self.line}:{self.column}: {self.text!r})"


class CoreRelo(_Record):
    """The instruction at byte `offset` depends on the layout of type `type_id`, as `access` says."""

    __slots__ = ()

    @property
    def type_id(self) -> int:
        """The id of the type whose member is accessed."""
        return self._numbers[1]

    @property
    def access_offset(self) -> int:
        """Where `access` lies in the string section."""
        return self._numbers[2]

    @property
    def kind(self) -> int:
        """What is asked: an enum bpf_core_relo_kind, such as 0 for a field's offset."""
        return self._numbers[3]

    @property
    def access(self) -> str:
        """The way to the member, such as `0:1:2`. Raises: FormatError when there is no such string."""
        return self._btf.string(self._numbers[2])

    def __repr__(self) -> str:
        return f"CoreRelo(offset={self.offset}, type_id={self.type_id}, access={self.access!r}, kind={self.kind})"


class BtfExt:
    """The records of a `.BTF.ext` section, as dicts from section name to records in the file's order."""

    __slots__ = ("core_relo", "func_info", "line_info")

    func_info: dict[str, list[FuncInfo]]
    line_info: dict[str, list[LineInfo]]
    core_relo: dict[str, list[CoreRelo]]

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, btf: Btf) -> BtfExt:
        """Read the section's bytes. `btf`: the same file's `.BTF`, which holds the strings.

        Raises: FormatError, with the offset, for bytes that are no `.BTF.ext`.
        """
        view = memoryview(data).cast("B")
        order = "<" if btf.byteorder == "little" else ">"
        if len(view) < 24:
            raise FormatError(f"no .BTF.ext: {len(view)} bytes are too few for a header of 24", 0)
        magic, version, flags, header = struct.unpack_from(order + "HBBI", view, 0)
        if magic != MAGIC:
            raise FormatError(f"no .BTF.ext of the byte order of its .BTF: magic is {magic:#06x}, not {MAGIC:#06x}", 0)
        if version != 1 or flags:
            raise FormatError(f".BTF.ext of version {version} with flags {flags:#x} is unknown; version 1 is known", 2)
        if header < 24 or header > len(view):
            raise FormatError(f".BTF.ext header size {header} is not from 24 to {len(view)}", 4)
        # Compilers before clang 10 wrote no relocations, and a header without their place.
        places = (*struct.unpack_from(order + "6I" if header >= 32 else order + "4I", view, 8), 0, 0)
        ext = cls()
        ext.func_info = _records(view, btf, order, header, places[0], places[1], "func_info", "2I", FuncInfo)
        ext.line_info = _records(
            view, btf, order, header, places[2], places[3], "line_info", "4I", lambda numbers: LineInfo(btf, numbers)
        )
        ext.core_relo = _records(
            view, btf, order, header, places[4], places[5], "core_relo", "4I", lambda numbers: CoreRelo(btf, numbers)
        )
        return ext

    def __repr__(self) -> str:
        counts = (f"{sum(map(len, getattr(self, part).values()))} {part}" for part in self.__slots__)
        return f"<BtfExt: {', '.join(counts)}>"


def pack_func_info(records: Iterable[tuple[int, int]], byteorder: ByteOrder = sys.byteorder) -> bytes:
    """Return what `func_info` of PROG_LOAD takes, records of 8 bytes.

    `records`: (instruction, type id) each; the instruction's number counts slots of 8 bytes.
    """
    return _pack("2I", byteorder, records)


def pack_line_info(records: Iterable[tuple[int, int, int, int, int]], byteorder: ByteOrder = sys.byteorder) -> bytes:
    """Return what `line_info` of PROG_LOAD takes, records of 16 bytes.

    `records`: (instruction, string offset of the file's name, string offset of the text, line, column)
    each; the instruction's number counts slots of 8 bytes. A line or column too large is cut.
    """
    packed = (
        (insn, name, text, min(line, _MAX_LINE) << 10 | min(column, _MAX_COLUMN))
        for insn, name, text, line, column in records
    )
    return _pack("4I", byteorder, packed)


def pack_core_relo(records: Iterable[tuple[int, int, int, int]], byteorder: ByteOrder = sys.byteorder) -> bytes:
    """Return what `core_relos` of PROG_LOAD takes, records of 16 bytes. Since: Linux 5.17

    `records`: (instruction, type id, string offset of the access string, kind) each; the
    instruction's number counts slots of 8 bytes (the kernel's record has bytes here).
    """
    return _pack("4I", byteorder, ((insn * _INSN_SIZE, type, access, kind) for insn, type, access, kind in records))


def _pack(layout: str, byteorder: ByteOrder, records: Iterable[tuple[int, ...]]) -> bytes:
    pack = struct.Struct(("<" if byteorder == "little" else ">") + layout).pack
    return b"".join(pack(*record) for record in records)


def _records(
    view: memoryview,
    btf: Btf,
    order: str,
    header: int,
    start: int,
    size: int,
    what: str,
    layout: str,
    make: Callable[[tuple[int, ...]], R],
) -> dict[str, list[R]]:
    found: dict[str, list[R]] = {}
    if not size:
        return found
    at, end = header + start, header + start + size
    if end > len(view) or size < 4:
        raise FormatError(f"{what} (at {start}, {size} bytes) does not lie within .BTF.ext of {len(view)} bytes", 8)
    known = struct.calcsize(order + layout)
    (stride,) = struct.unpack_from(order + "I", view, at)
    if stride < known or stride % 4:
        raise FormatError(f"{what} records of {stride} bytes: at least {known} and whole words were expected", at)
    # A newer compiler's records may be longer: what stands behind the known fields is skipped.
    unpacker = struct.Struct(f"{order}{layout}{stride - known}x")
    at += 4
    while at < end:
        if at + 8 > end:
            raise FormatError(f"{what} ends within the header of a section", at)
        name, count = struct.unpack_from(order + "2I", view, at)
        at += 8
        if not count or count * stride > end - at:
            raise FormatError(f"{what} has {count} records of {stride} bytes in {end - at} bytes", at - 4)
        records = found.setdefault(btf.string(name), [])
        records += map(make, unpacker.iter_unpack(view[at : at + count * stride]))
        at += count * stride
    return found
