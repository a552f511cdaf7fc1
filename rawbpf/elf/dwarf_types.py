"""Types of DWARF, found by name and turned into BTF, so that one reader of types serves both.

Needed for what BTF lacks: clang describes in BTF what maps, variables and functions are made of, and a
struct that only the body of a program uses stands in DWARF alone. A pointer becomes one to nothing: in a
record it is a number.

Format: DWARF 5, chapter 5 (https://dwarfstd.org/doc/DWARF5.pdf).
"""

from __future__ import annotations

from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.btf.kind import MAX_DEPTH
from rawbpf.elf.container import read
from rawbpf.elf.dwarf import Dwarf
from rawbpf.elf.dwarf_form import DW_AT_NAME, unsigned
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.btf.base import Type
    from rawbpf.btf.build import MemberSpec
    from rawbpf.elf.dwarf import Entry

_ARRAY, _CLASS, _ENUM, _POINTER, _REFERENCE, _STRUCT, _SUBROUTINE = 0x01, 0x02, 0x04, 0x0F, 0x10, 0x13, 0x15
_TYPEDEF, _UNION, _BASE, _CONST, _VOLATILE, _RESTRICT, _ATOMIC = 0x16, 0x17, 0x24, 0x26, 0x35, 0x37, 0x47
_UNSPECIFIED = 0x3B
_MEMBER, _SUBRANGE, _ENUMERATOR = 0x0D, 0x21, 0x28
_NUMBERS = (_POINTER, _REFERENCE, _SUBROUTINE, _UNSPECIFIED)

_BYTE_SIZE, _BIT_OFFSET, _BIT_SIZE, _CONST_VALUE, _UPPER_BOUND, _COUNT = 0x0B, 0x0C, 0x0D, 0x1C, 0x2F, 0x37
_LOCATION, _DECLARATION, _ENCODING, _TYPE, _DATA_BIT_OFFSET = 0x38, 0x3C, 0x3E, 0x49, 0x6B
_PLUS_UCONST = 0x23

_ATE_BOOLEAN, _ATE_FLOAT, _ATE_SIGNED, _ATE_SIGNED_CHAR = 0x02, 0x04, 0x05, 0x06
_UNSIGNED = (0x07, 0x08, 0x10)

# The first ones go before the others where several are called alike.
_ORDER = ((_STRUCT, _CLASS, _UNION), (_TYPEDEF,), (_ENUM,), (_BASE,))
_WORDS = {"struct": (_STRUCT, _CLASS), "union": (_UNION,), "enum": (_ENUM,)}
_NAMED = frozenset(tag for tags in _ORDER for tag in tags)


def find_type(data: bytes, file: str, name: str, word: str = "") -> Type | None:
    """Return the struct, union, typedef, enum or base type called `name` of the object file in `data`, as BTF.

    None where DWARF has none, or there is no DWARF. `file` is the file's name, for messages. `word`: only a `struct`,
    a `union` or an `enum`.
    Raises: FormatError for damaged bytes; ImportError without pyelftools.
    """
    dwarf = Dwarf(read(data, file))
    order = (_WORDS[word],) if word else _ORDER
    found: dict[int, Entry] = {}
    for entry in _definitions(dwarf):
        rank = next((index for index, tags in enumerate(order) if entry.tag in tags), None)
        if rank is not None and rank not in found and entry.text(DW_AT_NAME) == name:
            found[rank] = entry
    return _Converter(dwarf).type(found[min(found)]) if found else None


def type_names(data: bytes, file: str) -> Iterator[str]:
    """Yield the name of each type that `find_type` finds, those of several as often. Raises: as `find_type`."""
    for entry in _definitions(Dwarf(read(data, file))):
        yield entry.text(DW_AT_NAME)


def _definitions(dwarf: Dwarf) -> Iterator[Entry]:
    return (entry for entry in dwarf.with_tags(_NAMED) if not entry.number(_DECLARATION))


class _Converter:
    # Builds the BTF of one type and of all that it consists of.

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf
        self._builder = Builder(dwarf.byteorder)
        self._ids: dict[int, int] = {}
        self._begun: set[int] = set()

    def type(self, entry: Entry) -> Type:
        try:
            id = self._add(entry, 0)
            return Btf.from_bytes(self._builder.to_bytes())[id]
        except FormatError:
            raise
        except ValueError as error:  # the builder's, for a number that BTF has no room for
            raise FormatError(f".debug_info: {error}", entry.offset) from error

    def _add(self, entry: Entry, depth: int) -> int:
        id = self._ids.get(entry.offset)
        if id is None:
            if entry.offset in self._begun or depth > MAX_DEPTH:
                raise FormatError(".debug_info: a type holds itself, or too many others", entry.offset)
            self._begun.add(entry.offset)
            id = self._ids[entry.offset] = self._made(entry, depth)
        return id

    def _of(self, entry: Entry, depth: int) -> int:
        # The type that `entry` is of; void where it names none.
        if _TYPE not in entry:
            return 0
        offset = entry.reference(_TYPE)
        if offset is None:
            raise FormatError(".debug_info: a type is in another file or section", entry.offset)
        return self._add(self._dwarf.entry(offset), depth + 1)

    def _made(self, entry: Entry, depth: int) -> int:
        builder, tag, name = self._builder, entry.tag, entry.text(DW_AT_NAME)
        if tag in (_STRUCT, _CLASS, _UNION):
            return self._composite(entry, name, depth)
        if tag == _BASE:
            return self._base(entry, name)
        if tag == _TYPEDEF:
            return builder.typedef(name, self._of(entry, depth))
        if tag == _ARRAY:
            return self._array(entry, depth)
        if tag == _ENUM:
            return self._enum(entry, name)
        if tag == _CONST:
            return builder.const(self._of(entry, depth))
        if tag == _VOLATILE:
            return builder.volatile(self._of(entry, depth))
        if tag in (_RESTRICT, _ATOMIC):
            return self._of(entry, depth)
        if tag in _NUMBERS:
            return builder.ptr(0)
        raise FormatError(f".debug_info: no type of C is of kind {tag:#x}", entry.offset)

    def _composite(self, entry: Entry, name: str, depth: int) -> int:
        is_union = entry.tag == _UNION
        size = entry.number(_BYTE_SIZE)
        if size is None or entry.number(_DECLARATION):
            return self._builder.fwd(name, is_union)
        members: list[MemberSpec] = []
        for child in self._dwarf.children(entry):
            # What is no member is of another language, or a type that one of the members has.
            if child.tag == _MEMBER and not child.number(_DECLARATION):
                offset, bits = self._place(child)
                members.append((child.text(DW_AT_NAME), self._of(child, depth), offset, bits))
        add = self._builder.union if is_union else self._builder.struct
        return add(name, size, members)

    def _place(self, member: Entry) -> tuple[int, int]:
        # Where a member begins, in bits, and how many it has if it is a bit-field.
        bits = member.number(_BIT_SIZE) or 0
        start = member.number(_DATA_BIT_OFFSET)
        if start is not None:
            return start, bits
        where = member.number(_LOCATION)
        if where is None:
            expression = member.block(_LOCATION)
            # Versions before 4 say it as a program: add so many bytes.
            where = 0
            if expression:
                where, end = _operand(expression, member.offset)
                if end != len(expression):
                    raise FormatError(".debug_info: the place of a member is to be computed", member.offset)
        start, skipped = 8 * where, member.number(_BIT_OFFSET)
        if skipped is not None:
            # Counted from the most significant bit of the unit in which it is stored, as of version 3.
            if self._dwarf.byteorder == "little":
                size = member.number(_BYTE_SIZE)
                if size is None:
                    size = self._stored(member)
                skipped = 8 * size - skipped - bits
            start += skipped
        return start, bits

    def _stored(self, member: Entry) -> int:
        # The size of a bit-field's type.
        entry = member
        for _ in range(MAX_DEPTH):
            offset = entry.reference(_TYPE)
            if offset is None:
                break
            entry = self._dwarf.entry(offset)
            size = entry.number(_BYTE_SIZE)
            if size is not None:
                return size
        raise FormatError(".debug_info: a bit-field is of no type", member.offset)

    def _array(self, entry: Entry, depth: int) -> int:
        lengths = []
        for child in self._dwarf.children(entry):
            if child.tag != _SUBRANGE:
                continue
            count, last = child.number(_COUNT), child.number(_UPPER_BOUND)
            if count is None:
                # A flexible array has neither; some compilers write its bound as -1 of some size.
                count = 0 if last is None or last in (-1, 0xFF, 0xFFFFFFFF, (1 << 64) - 1) else last + 1
            lengths.append(count)
        id = self._of(entry, depth)
        if len(lengths) > MAX_DEPTH:
            raise FormatError(f".debug_info: an array of {len(lengths)} dimensions", entry.offset)
        for length in reversed(lengths or [0]):
            id = self._builder.array(id, length)
        return id

    def _base(self, entry: Entry, name: str) -> int:
        size, encoding = entry.number(_BYTE_SIZE) or 0, entry.number(_ENCODING)
        if encoding == _ATE_BOOLEAN:
            return self._builder.int(name, size, bool=True)
        if encoding == _ATE_FLOAT:
            return self._builder.float(name, size)
        if encoding in (_ATE_SIGNED, _ATE_SIGNED_CHAR) or encoding in _UNSIGNED:
            return self._builder.int(name, size, signed=encoding not in _UNSIGNED)
        raise FormatError(f".debug_info: {name!r} is encoded in the way {encoding}", entry.offset)

    def _enum(self, entry: Entry, name: str) -> int:
        size = entry.number(_BYTE_SIZE)
        if size is None:
            return self._builder.fwd(name)
        values = []
        signed = False
        for child in self._dwarf.children(entry):
            if child.tag == _ENUMERATOR:
                number = child.number(_CONST_VALUE) or 0
                signed = signed or number < 0
                values.append((child.text(DW_AT_NAME), number))
        add = self._builder.enum64 if size > 4 else self._builder.enum
        return add(name, values, size, signed)


def _operand(expression: bytes, offset: int) -> tuple[int, int]:
    # The operand of DW_OP_plus_uconst, and where it ends.
    if expression[0] != _PLUS_UCONST:
        raise FormatError(".debug_info: the place of a member is to be computed", offset)
    return unsigned(expression, 1, ".debug_info")
