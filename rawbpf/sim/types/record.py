"""BTF as the kernel sees it: numbered records in an image that was found to be in order.

Names are bytes. A record is decoded when it is first met; nothing here checks what a record says.
Source: kernel/bpf/btf.c, include/uapi/linux/btf.h (v6.12).
"""

from __future__ import annotations

from struct import Struct

KIND_MAX = 19
(
    VOID, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(KIND_MAX + 1)  # fmt: skip
NAMES = (
    "UNKNOWN", "INT", "PTR", "ARRAY", "STRUCT", "UNION", "ENUM", "FWD", "TYPEDEF", "VOLATILE", "CONST", "RESTRICT",
    "FUNC", "FUNC_PROTO", "VAR", "DATASEC", "FLOAT", "DECL_TAG", "TYPE_TAG", "ENUM64",
)  # fmt: skip

COMPOSITES = (STRUCT, UNION)
MODIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
SIZED = (INT, STRUCT, UNION, ENUM, DATASEC, FLOAT, ENUM64)
SIZELESS = (VOID, FWD, FUNC, FUNC_PROTO, DECL_TAG)
SOURCES_ONLY = (VAR, DATASEC, DECL_TAG)
"""Kinds that refer to others and that nothing else may contain."""

MAX_ID = 0x000FFFFF
MAX_NAME_OFFSET = 0x00FFFFFF
POINTER_SIZE = 8

HEAD = Struct("=III")
WORD = Struct("=I")
ELEMENTS = {STRUCT: Struct("=III"), UNION: Struct("=III"), ENUM: Struct("=Ii"), FUNC_PROTO: Struct("=II"),
            DATASEC: Struct("=III"), ENUM64: Struct("=III")}  # fmt: skip
"""The form of one element, for kinds that have as many as the record's vlen says."""
EXTRAS = {INT: WORD, ARRAY: Struct("=III"), VAR: WORD, DECL_TAG: Struct("=i")}
"""The form of what follows the head, for kinds that have one such thing."""


class Record:
    """One type: `size` is the size or the type that it refers to, `extra` and `elements` are what follows."""

    __slots__ = ("elements", "extra", "flag", "kind", "name_offset", "size", "vlen")

    def __init__(self, name_offset: int, info: int, size: int) -> None:
        self.name_offset = name_offset
        self.kind = info >> 24 & 0x1F
        self.flag = bool(info >> 31)
        self.vlen = info & 0xFFFF
        self.size = size
        self.extra: tuple[int, ...] = ()
        self.elements: list[tuple[int, ...]] = []

    @property
    def int_bits(self) -> int:
        """The bits of an INT."""
        return self.extra[0] & 0xFF

    @property
    def int_offset(self) -> int:
        """Where an INT starts in its storage, in bits."""
        return self.extra[0] >> 16 & 0xFF

    @property
    def is_regular_int(self) -> bool:
        """Whether this is an INT of 1, 2, 4, 8 or 16 whole bytes. Source: btf_type_int_is_regular."""
        return self.kind == INT and not self.int_offset and self.int_bits in (8, 16, 32, 64, 128)

    def bit_offset(self, member: tuple[int, ...]) -> int:
        """Return where a member starts, in bits. Source: __btf_member_bit_offset."""
        return member[2] & 0xFFFFFF if self.flag else member[2]


VOID_RECORD = Record(0, 0, 0)


class Records:
    """The records of one BTF by id, its names, and what resolving found."""

    def __init__(self, strings: bytes) -> None:
        self.strings = strings
        self._records = [VOID_RECORD]
        # What a modifier, pointer or variable leads to, and how large an array is.
        self.resolved_ids: dict[int, int] = {}
        self.resolved_sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Give a record the next id."""
        self._records.append(record)

    def get(self, number: int) -> Record | None:
        """Return the record with that id; None where there is none."""
        return self._records[number] if number < len(self._records) else None

    def __getitem__(self, number: int) -> Record:
        return self._records[number]

    def name(self, offset: int) -> bytes:
        """Return the string at an offset of the string section; empty where there is none."""
        if offset >= len(self.strings):
            return b""
        return self.strings[offset : self.strings.index(b"\0", offset)]

    def find(self, name: bytes, kind: int) -> int:
        """Return the first type of that name and kind; 0 where there is none. Source: btf_find_by_name_kind."""
        for number, record in enumerate(self._records):
            if record.kind == kind and number and self.name(record.name_offset) == name:
                return number
        return 0

    def sized(self, number: int) -> tuple[Record, int, int] | None:
        """Return the record that a type comes to, its id and size in bytes; None for what has no size.

        Source: btf_type_id_size.
        """
        record = self.get(number)
        if record is None or record.kind in SIZELESS:
            return None
        if record.kind in MODIFIERS or record.kind == VAR:
            number = self.resolved_ids.get(number, 0)
            record = self.get(number)
            if record is None or record.kind in SIZELESS or record.kind in MODIFIERS or record.kind == VAR:
                return None
        if record.kind in SIZED:
            return record, number, record.size
        return record, number, POINTER_SIZE if record.kind == PTR else self.resolved_sizes.get(number, 0)

    def resolved(self, number: int) -> tuple[int, Record]:
        """Return what a resolved type leads to. Source: btf_type_id_resolve."""
        number = self.resolved_ids.get(number, 0)
        return number, self[number]

    def skip_modifiers(self, number: int) -> tuple[int, Record]:
        """Return what stands behind a type's modifiers. Source: btf_type_skip_modifiers."""
        while self[number].kind in MODIFIERS:
            number = self[number].size
        return number, self[number]
