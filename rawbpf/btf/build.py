"""Building BTF: types in, the bytes that BPF_BTF_LOAD takes out.

Ids are given at once and count from 1; identical types get the id of the first. What may refer to
what is the kernel's to check. Knows nothing of values or files, and imports little: creating a map builds BTF.

Format: Documentation/bpf/btf.rst (v6.12)
"""

from __future__ import annotations

import struct
import sys

from rawbpf.btf import kind
from rawbpf.btf.kind import HEADER_SIZE, KINDS, LINKAGES, MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf
    from rawbpf.btf.copy import Copier

    # (name, type id, bit offset) or, with a bit-field, (name, type id, bit offset, bits)
    MemberSpec = tuple[str, int, int] | tuple[str, int, int, int]

# The class has methods `int` and `float`, as BTF has kinds.
Id = int
_KFLAG = 1 << 31
_FLOAT_SIZES = (2, 4, 8, 12, 16)


def assemble(words: Sequence[int], strings: bytes, byteorder: Literal["little", "big"]) -> bytes:
    """Return the BTF of a type section, as 32-bit numbers, and a string section."""
    order = "<" if byteorder == "little" else ">"
    types = struct.pack(f"{order}{len(words)}I", *words)
    header = struct.pack(order + "HBBIIIII", MAGIC, 1, 0, HEADER_SIZE, 0, len(types), len(types), len(strings))
    return header + types + strings


class Builder:
    """Collect types and turn them into BTF. Every method that adds a type returns its id; 0 is void.

    Sizes are bytes, offsets of members bits, those of variables bytes. `len(builder)` is the next id:
    a type may refer to one that comes later, as `builder.ptr(len(builder) + 1)` does. With a `base` a split BTF
    is built, which continues it, as a module's does the kernel's: ids start behind the base's, types of the base
    are referred to by their ids there, and the byte order is the base's.
    """

    def __init__(self, byteorder: Literal["little", "big"] | None = None, *, base: Btf | None = None) -> None:
        if base is not None and byteorder not in (None, base.byteorder):
            raise ValueError(f"byteorder={byteorder!r}: the base is {base.byteorder}-endian")
        self.byteorder: Literal["little", "big"] = base.byteorder if base is not None else byteorder or sys.byteorder
        self.base = base
        self._first_id: Id = 1 if base is None else len(base)
        self._string_base: Id = 0 if base is None else base._strings.behind
        self._records: list[tuple[Id, ...]] = []
        self._known: dict[tuple[Id, ...], Id] = {}
        self._strings = bytearray(b"" if base else b"\0")
        self._offsets = {"": 0}
        self._copier: Copier | None = None

    def __len__(self) -> Id:
        return self._first_id + len(self._records)

    def string(self, text: str) -> Id:
        """Return the offset of `text` in the string section. Raises: ValueError for a NUL in it."""
        offset = self._offsets.get(text)
        if offset is None:
            if "\0" in text:
                raise ValueError(f"a name in BTF cannot hold a NUL: {text!r}")
            offset = self.base.string_offset(text) if self.base is not None else None
            if offset is None:
                offset = self._string_base + len(self._strings)
                self._strings += text.encode("utf-8", "replace") + b"\0"
            self._offsets[text] = offset
        return offset

    def int(self, name: str, size: Id, signed: bool = False, char: bool = False, bool: bool = False) -> Id:
        """Add an integer of 1, 2, 4, 8 or 16 bytes. Raises: ValueError for another size."""
        if size not in (1, 2, 4, 8, 16):
            raise ValueError(f"int {name!r} has {size} bytes; 1, 2, 4, 8 and 16 are possible")
        encoding = (1 if signed else 0) | (2 if char else 0) | (4 if bool else 0)
        return self.record(kind.INT, name, size, encoding << 24 | size * 8)

    def float(self, name: str, size: Id) -> Id:
        """Add a floating-point number of 2, 4, 8, 12 or 16 bytes. Raises: ValueError for another size."""
        if size not in _FLOAT_SIZES:
            raise ValueError(f"float {name!r} has {size} bytes; 2, 4, 8, 12 and 16 are possible")
        return self.record(kind.FLOAT, name, size)

    def ptr(self, type: Id) -> Id:
        """Add a pointer to `type`."""
        return self.record(kind.PTR, "", type)

    def array(self, type: Id, length: Id, index_type: Id = 0) -> Id:
        """Add an array. `index_type`: any integer type; without it `unsigned int` is added for that."""
        index = index_type or self.int("unsigned int", 4)
        return self.record(kind.ARRAY, "", 0, type, index, length)

    def struct(self, name: str, size: Id, members: Iterable[MemberSpec]) -> Id:
        """Add a struct. `members`: (name, type id, bit offset) each, and a fourth, the bits of a bit-field."""
        return self.composite(kind.STRUCT, name, size, members)

    def union(self, name: str, size: Id, members: Iterable[MemberSpec]) -> Id:
        """Add a union. `members` as for `struct`."""
        return self.composite(kind.UNION, name, size, members)

    def enum(self, name: str, values: Iterable[tuple[str, Id]], size: Id = 4, signed: bool = False) -> Id:
        """Add an enumeration. `values`: (name, value) each. Raises: ValueError when one does not fit 32 bits."""
        tail: list[Id] = []
        for label, value in values:
            if not (-(1 << 31) <= value < 1 << 31 if signed else 0 <= value < 1 << 32):
                raise ValueError(f"enum {name!r}: {label} = {value} does not fit; use enum64 or signed=True")
            tail += (self.string(label), value & 0xFFFFFFFF)
        return self.record(kind.ENUM, name, size, *tail, vlen=len(tail) // 2, kflag=signed)

    def enum64(self, name: str, values: Iterable[tuple[str, Id]], size: Id = 8, signed: bool = False) -> Id:
        """Add an enumeration of 64 bits. Since: Linux 6.0. Raises: ValueError when a value does not fit."""
        tail: list[Id] = []
        for label, value in values:
            if not (-(1 << 63) <= value < 1 << 63 if signed else 0 <= value < 1 << 64):
                raise ValueError(f"enum64 {name!r}: {label} = {value} does not fit 64 bits")
            tail += (self.string(label), value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)
        return self.record(kind.ENUM64, name, size, *tail, vlen=len(tail) // 3, kflag=signed)

    def fwd(self, name: str, union: bool = False) -> Id:
        """Add the declaration of a struct, or of a union."""
        return self.record(kind.FWD, name, 0, kflag=union)

    def typedef(self, name: str, type: Id) -> Id:
        """Add another name for `type`."""
        return self.record(kind.TYPEDEF, name, type)

    def volatile(self, type: Id) -> Id:
        """Add volatile `type`."""
        return self.record(kind.VOLATILE, "", type)

    def const(self, type: Id) -> Id:
        """Add constant `type`."""
        return self.record(kind.CONST, "", type)

    def restrict(self, type: Id) -> Id:
        """Add restricted `type`, a pointer."""
        return self.record(kind.RESTRICT, "", type)

    def func_proto(self, return_type: Id, params: Iterable[tuple[str, Id]], variadic: bool = False) -> Id:
        """Add a prototype. `params`: (name, type id) each."""
        tail = [word for name, type in params for word in (self.string(name), type)]
        if variadic:
            tail += (0, 0)
        return self.record(kind.FUNC_PROTO, "", return_type, *tail, vlen=len(tail) // 2)

    def func(self, name: str, type: Id, linkage: str = "global") -> Id:
        """Add a function of prototype `type`. `linkage`: static, global or extern (ValueError for others)."""
        return self.record(kind.FUNC, name, type, vlen=_linkage(linkage))

    def var(self, name: str, type: Id, linkage: str = "global") -> Id:
        """Add a variable. `linkage`: static, global or extern (ValueError for others)."""
        return self.record(kind.VAR, name, type, _linkage(linkage))

    def datasec(self, name: str, size: Id, variables: Iterable[tuple[Id, Id, Id]]) -> Id:
        """Add a section. `variables`: (variable's id, offset, size) each; they are sorted by offset."""
        tail = [word for entry in sorted(variables, key=lambda entry: entry[1]) for word in entry]
        return self.record(kind.DATASEC, name, size, *tail, vlen=len(tail) // 3)

    def decl_tag(self, name: str, type: Id, component_index: Id = -1, *, attribute: bool = False) -> Id:
        """Add a tag on `type`, or on its member or parameter `component_index`. Since: Linux 5.16

        `attribute`: `name` is a whole attribute of C, which kernels take since 6.14.
        """
        return self.record(kind.DECL_TAG, name, type, component_index & 0xFFFFFFFF, kflag=attribute)

    def type_tag(self, name: str, type: Id, *, attribute: bool = False) -> Id:
        """Add a tag that qualifies `type`. `attribute`: as for `decl_tag`. Since: Linux 5.17"""
        return self.record(kind.TYPE_TAG, name, type, kflag=attribute)

    def add(self, type: Type) -> Id:
        """Copy `type` from its Btf, with what it needs, and return the new id.

        Pointers to named structs and unions become pointers to declarations, so that a copy stays small.

        Raises: FormatError when the types are broken or nest without end.
        """
        from rawbpf.btf.copy import Copier  # what builds from nothing need not know the types

        if self._copier is None:
            self._copier = Copier(self)
        return self._copier.copy(type)

    def add_all(self, btf: Btf) -> Id:
        """Add every type of `btf` as it is, types of its base too unless that is the base here; return the first id.

        Ids move by the same distance: what had the first id there has the one that is returned. Strings that
        no type uses are left behind. Raises: FormatError for references to nowhere.
        """
        from rawbpf.btf.remap import copy_records

        old = btf.first_id if self.base is not None and btf.base is self.base else 1
        first = len(self)
        copy_records(self, btf, old, lambda id: id if id < old else id - old + first)
        return first

    def append(self, record: Sequence[Id]) -> Id:
        """Add the words of a record as they are, also when it is there already; return its id."""
        self._records.append(tuple(record))
        return len(self) - 1

    def to_bytes(self) -> bytes:
        """Return the BTF."""
        words = [word for record in self._records for word in record]
        return assemble(words, bytes(self._strings), self.byteorder)

    def record(self, number: Id, name: str, size_or_type: Id, *tail: Id, vlen: Id = 0, kflag: bool = False) -> Id:
        """Add a record of the kind `number` as it stands in BTF, its `tail` in words; return its id."""
        if vlen > 0xFFFF:
            raise ValueError(f"{KINDS[number]} {name!r} has {vlen} parts; 65535 are possible")
        info = (_KFLAG if kflag else 0) | number << 24 | vlen
        record = (self.string(name), info, size_or_type, *tail)
        id = self._known.get(record)
        if id is None:
            for word in record:
                if not 0 <= word < 1 << 32:
                    raise ValueError(f"{KINDS[number]} {name!r}: {word} does not fit 32 bits")
            self._records.append(record)
            self._known[record] = id = len(self) - 1
        return id

    def composite(self, number: Id, name: str, size: Id, members: Iterable[MemberSpec]) -> Id:
        """Add a struct or union, by the `number` of its kind."""
        specs = list(members)
        kflag = any(spec[3:] not in ((), (0,)) for spec in specs)
        tail: list[Id] = []
        for spec in specs:
            label, type, offset = spec[:3]
            if kflag:
                bits = spec[3] if len(spec) == 4 else 0
                if not 0 <= offset < 1 << 24 or not 0 <= bits < 1 << 8:
                    raise ValueError(f"{KINDS[number]} {name!r}: {label!r} lies too far behind for bit-fields")
                offset |= bits << 24
            tail += (self.string(label), type, offset)
        return self.record(number, name, size, *tail, vlen=len(specs), kflag=kflag)


def _linkage(word: str) -> int:
    if word not in LINKAGES:
        raise ValueError(f"linkage {word!r} is unknown: {', '.join(LINKAGES)}")
    return LINKAGES.index(word)
