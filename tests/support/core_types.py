"""CO-RE in tests: the types of a program and of kernels, built, and what a relocation between them comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rawbpf.btf import Btf, Builder
from rawbpf.btf.core import Core, Fixup
from rawbpf.uapi import constants as c

OFFSET, SIZE, EXISTS = c.BPF_CORE_FIELD_BYTE_OFFSET, c.BPF_CORE_FIELD_BYTE_SIZE, c.BPF_CORE_FIELD_EXISTS
SIGNED, LSHIFT, RSHIFT = c.BPF_CORE_FIELD_SIGNED, c.BPF_CORE_FIELD_LSHIFT_U64, c.BPF_CORE_FIELD_RSHIFT_U64
ID_LOCAL, ID_TARGET = c.BPF_CORE_TYPE_ID_LOCAL, c.BPF_CORE_TYPE_ID_TARGET
TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES = c.BPF_CORE_TYPE_EXISTS, c.BPF_CORE_TYPE_SIZE, c.BPF_CORE_TYPE_MATCHES
ENUM_EXISTS, ENUM_VALUE = c.BPF_CORE_ENUMVAL_EXISTS, c.BPF_CORE_ENUMVAL_VALUE

Types = Callable[[Builder], int]
"""Adds types and returns the id of the one that is meant."""

Order = Literal["little", "big"]


def built(types: Types, byteorder: Order = "little") -> Btf:
    """Return the BTF of `types`."""
    builder = Builder(byteorder)
    types(builder)
    return Btf.from_bytes(builder.to_bytes())


class Program:
    """The types of a program, and relocations of them against those of kernels."""

    def __init__(self, local: Types, *targets: Types, byteorder: Order = "little") -> None:
        builder = Builder(byteorder)
        self.root = local(builder)
        self._builder = builder
        self._targets = [built(target, byteorder) for target in targets]
        self._core: Core | None = None

    def record(self, access: str, kind: int) -> tuple[int, int, int]:
        """Return the record of a relocation."""
        return self.root, self._builder.string(access), kind

    def local(self) -> Btf:
        """Return the program's types."""
        return Btf.from_bytes(self._builder.to_bytes())

    def core(self) -> Core:
        """Return what resolves records; all of them have to be made before."""
        if self._core is None:
            self._core = Core(self.local(), self._targets)
        return self._core

    def fixup(self, access: str, kind: int) -> Fixup:
        """Return what the relocation comes to."""
        record = self.record(access, kind)
        return self.core().fixup(record)


def answer(local: Types, target: Types, access: str, kind: int, byteorder: Order = "little") -> tuple[int, int | None]:
    """Return what the instruction holds, and what it is to hold."""
    fixup = Program(local, target, byteorder=byteorder).fixup(access, kind)
    return fixup.old, fixup.new
