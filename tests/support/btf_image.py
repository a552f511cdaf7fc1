"""BTF written number by number, so that it may also be wrong in any way."""

from __future__ import annotations

import struct
from collections.abc import Iterable

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC = range(
    1, 16
)
FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(16, 20)
MAGIC = 0xEB9F
SPECIAL = {
    "bpf_spin_lock": 4,
    "bpf_res_spin_lock": 4,
    "bpf_timer": 16,
    "bpf_wq": 16,
    "bpf_task_work": 8,
    "bpf_list_head": 16,
    "bpf_list_node": 24,
    "bpf_rb_root": 16,
    "bpf_rb_node": 32,
    "bpf_refcount": 4,
}
"""Structs that the kernel knows by name, and their sizes."""


class Image:
    """Records are added one by one; each method returns the id of its type. `count` types there are."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.records = b""
        self.count = 0

    def name(self, text: str) -> int:
        """Return the offset of a string, which is added; 0 for none."""
        if not text:
            return 0
        self.strings += text.encode("latin-1") + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, kind: int, name: str = "", size: int = 0, vlen: int = 0, flag: int = 0, tail: bytes = b"") -> int:
        """Add a record of any kind; `size` is also the type that it refers to."""
        info = kind << 24 | vlen | flag << 31
        self.records += struct.pack("=III", self.name(name), info, size) + tail
        self.count += 1
        return self.count

    def integer(self, name: str = "int", size: int = 4, bits: int = 0, offset: int = 0, encoding: int = 0) -> int:
        """Add an INT."""
        return self.add(INT, name, size, tail=struct.pack("=I", encoding << 24 | offset << 16 | (bits or size * 8)))

    def struct(
        self, name: str, size: int, members: Iterable[tuple[str, int, int]] = (), flag: int = 0, kind: int = STRUCT
    ) -> int:
        """Add a STRUCT of members (name, type, offset in bits)."""
        tails = [struct.pack("=III", self.name(text), number, offset) for text, number, offset in members]
        return self.add(kind, name, size, len(tails), flag, b"".join(tails))

    def array(self, element: int, index: int, length: int) -> int:
        """Add an ARRAY."""
        return self.add(ARRAY, tail=struct.pack("=III", element, index, length))

    def decl_tag(self, name: str, target: int, component: int = -1, flag: int = 0) -> int:
        """Add a DECL_TAG."""
        return self.add(DECL_TAG, name, target, flag=flag, tail=struct.pack("=i", component))

    def var(self, name: str, target: int, linkage: int = 1) -> int:
        """Add a VAR."""
        return self.add(VAR, name, target, tail=struct.pack("=I", linkage))

    def datasec(self, name: str, size: int, variables: Iterable[tuple[int, int, int]]) -> int:
        """Add a DATASEC of variables (type, offset, size)."""
        tails = [struct.pack("=III", *variable) for variable in variables]
        return self.add(DATASEC, name, size, len(tails), tail=b"".join(tails))

    def enum(self, name: str, names: Iterable[str], size: int = 4, kind: int = ENUM, flag: int = 0) -> int:
        """Add an ENUM or ENUM64 of names, with the values 0, 1, ..."""
        form = "=Ii" if kind == ENUM else "=Iii"
        tails = [struct.pack(form, self.name(text), *(at, 0)[: len(form) - 2]) for at, text in enumerate(names)]
        return self.add(kind, name, size, len(tails), flag, b"".join(tails))

    def func_proto(self, returns: int = 0, parameters: Iterable[tuple[str, int]] = ()) -> int:
        """Add a FUNC_PROTO of parameters (name, type)."""
        tails = [struct.pack("=II", self.name(text), number) for text, number in parameters]
        return self.add(FUNC_PROTO, "", returns, len(tails), tail=b"".join(tails))

    def to_bytes(
        self,
        magic: int = MAGIC,
        version: int = 1,
        flags: int = 0,
        header: int = 24,
        types: tuple[int, int] | None = None,
        strings: tuple[int, int] | None = None,
        extra: bytes = b"",
        end: bytes = b"",
    ) -> bytes:
        """Return the image. `types` and `strings`: offset and size where the truth is not wanted."""
        types = types or (0, len(self.records))
        strings = strings or (len(self.records), len(self.strings))
        head = struct.pack("=HBBIIIII", magic, version, flags, header, *types, *strings)
        return head + extra + self.records + self.strings + end
