"""Copying types from one BTF into another that is being built.

Pointers to named structs and unions become pointers to declarations, so that a copy stays small.
"""

from __future__ import annotations

from rawbpf.btf.types import (
    MAX_DEPTH,
    Array,
    Composite,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Ptr,
    Restrict,
    Typedef,
    TypeTag,
    Union,
    Var,
    Void,
    Volatile,
)
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.base import Type
    from rawbpf.btf.build import Builder


class Copier:
    """What one builder has copied, so that types used twice are copied once."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._copied: dict[Type, int] = {}

    def copy(self, type: Type) -> int:
        """Copy `type` with what it needs; return its new id. Raises: FormatError for types that nest without end."""
        return self._copy(type, 0)

    def _copy(self, type: Type, depth: int) -> int:
        if isinstance(type, Void):
            return 0
        base = self._builder.base
        if base is not None and type.id < len(base) and base[type.id] == type:
            return type.id
        id = self._copied.get(type)
        if id is None:
            if depth > MAX_DEPTH:
                raise FormatError(f"{type!r} lies more than {MAX_DEPTH} types deep")
            self._copied[type] = id = self._copy_new(type, depth + 1)
        return id

    def _copy_new(self, type: Type, depth: int) -> int:
        name = type.name
        if isinstance(type, Int):
            encoding = (1 if type.signed else 0) | (2 if type.is_char else 0) | (4 if type.is_bool else 0)
            return self._builder.record(Int.kind, name, type.size, encoding << 24 | type.offset << 16 | type.bits)
        if isinstance(type, Composite):
            members = [(own, self._copy(of, depth), offset, bits) for own, of, offset, bits in type.members]
            try:
                return self._builder.composite(type.kind, name, type.size, members)
            except ValueError as error:  # a bit-field as old compilers wrote them, where none of them could lie
                raise FormatError(str(error), type.btf.offset_of(type._at)) from error
        if isinstance(type, Ptr):
            target = type.type
            if isinstance(target, Composite) and target.name:
                return self._builder.ptr(self._builder.fwd(target.name, isinstance(target, Union)))
            return self._builder.ptr(self._copy(target, depth))
        if isinstance(type, Array):
            return self._builder.array(self._copy(type.type, depth), type.length, self._copy(type.index_type, depth))
        if isinstance(type, Enum):
            add = self._builder.enum64 if isinstance(type, Enum64) else self._builder.enum
            return add(name, type.values, type.size, type.signed)
        if isinstance(type, Float):
            return self._builder.record(Float.kind, name, type.size)
        if isinstance(type, Fwd):
            return self._builder.fwd(name, type.is_union)
        if isinstance(type, FuncProto):
            params = [(own, self._copy(of, depth)) for own, of in type.params]
            return self._builder.func_proto(self._copy(type.return_type, depth), params, type.variadic)
        if isinstance(type, Func):
            return self._builder.func(name, self._copy(type.type, depth), type.linkage)
        if isinstance(type, Var):
            return self._builder.var(name, self._copy(type.type, depth), type.linkage)
        if isinstance(type, Datasec):
            return self._builder.datasec(
                name, type.size, [(self._copy(var, depth), at, size) for var, at, size in type.variables]
            )
        if isinstance(type, DeclTag):
            tagged = self._copy(type.type, depth)
            return self._builder.decl_tag(name, tagged, type.component_index, attribute=type.is_attribute)
        if isinstance(type, TypeTag):
            return self._builder.type_tag(name, self._copy(type.type, depth), attribute=type.is_attribute)
        assert isinstance(type, (Typedef, Const, Volatile, Restrict))
        return self._builder.record(type.kind, name, self._copy(type.type, depth))
