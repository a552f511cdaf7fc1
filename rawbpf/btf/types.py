"""The kinds of BTF types: light views of records in a `Btf`, decoded when they are asked for.

A type knows its `Btf`, its id and where its record lies; names, members and the types it refers to
are read on access, so that 126,000 types of a kernel cost nothing until one is looked at. Two views
of one id are equal. Whatever the bytes say, an access returns or raises FormatError.

Layouts: include/uapi/linux/btf.h and Documentation/bpf/btf.rst (v6.12).
"""

from __future__ import annotations

from rawbpf.btf import kind as kinds
from rawbpf.btf.base import Reference, Sized, Type, Void
from rawbpf.btf.kind import LINKAGES, MAX_DEPTH
from rawbpf.btf.qualifier import QUALIFIERS, Const, Restrict, Typedef, TypeTag, Volatile, strip
from rawbpf.errors import FormatError

__all__ = [
    "CLASSES",
    "MAX_DEPTH",
    "QUALIFIERS",
    "Array",
    "Composite",
    "Const",
    "Datasec",
    "DeclTag",
    "Enum",
    "Enum64",
    "Float",
    "Func",
    "FuncProto",
    "Fwd",
    "Int",
    "Member",
    "Ptr",
    "Reference",
    "Restrict",
    "Sized",
    "Struct",
    "Type",
    "TypeTag",
    "Typedef",
    "Union",
    "Var",
    "Void",
    "Volatile",
    "strip",
]


class Int(Sized):
    """An integer, character or truth value."""

    __slots__ = ()
    kind = kinds.INT

    @property
    def bits(self) -> int:
        """How many bits of it count; `size * 8` but for bit-fields of old compilers."""
        return self._word(3) & 0xFF

    @property
    def offset(self) -> int:
        """The first bit that counts; 0 but for bit-fields of old compilers."""
        return self._word(3) >> 16 & 0xFF

    @property
    def signed(self) -> bool:
        """Whether it can be negative."""
        return bool(self._word(3) & 1 << 24)

    @property
    def is_char(self) -> bool:
        """Whether the compiler marked it as a character. Clang marks no `char` so: compare the name."""
        return bool(self._word(3) & 2 << 24)

    @property
    def is_bool(self) -> bool:
        """Whether it is a truth value."""
        return bool(self._word(3) & 4 << 24)


class Ptr(Reference):
    """A pointer to `type`."""

    __slots__ = ()
    kind = kinds.PTR


class Array(Type):
    """`length` elements of `type`; a flexible array has length 0."""

    __slots__ = ()
    kind = kinds.ARRAY

    @property
    def type(self) -> Type:
        """The type of an element."""
        return self.btf.referred(self._word(3), self)

    @property
    def index_type(self) -> Type:
        """The type of the index, of no use."""
        return self.btf.referred(self._word(4), self)

    @property
    def length(self) -> int:
        """How many elements."""
        return self._word(5)


class Member(tuple[str, Type, int, int]):
    """A member of a struct or union: (name, type, bit_offset, bit_size). `bit_size` 0: no bit-field."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name, empty for an anonymous struct or union inside another."""
        return self[0]

    @property
    def type(self) -> Type:
        """Its type."""
        return self[1]

    @property
    def bit_offset(self) -> int:
        """Where it starts, in bits from the start of the struct."""
        return self[2]

    @property
    def bit_size(self) -> int:
        """How many bits it has; 0 if it is no bit-field."""
        return self[3]

    @property
    def offset(self) -> int:
        """Where it starts, in bytes, rounded down."""
        return self[2] >> 3

    def __repr__(self) -> str:
        return f"Member(name={self[0]!r}, type={self[1]!r}, bit_offset={self[2]}, bit_size={self[3]})"


class Composite(Sized):
    """What structs and unions have in common."""

    __slots__ = ("_members",)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in the order of the source."""
        try:
            return self._members
        except AttributeError:
            self._members: tuple[Member, ...] = tuple(self._read())
            return self._members

    def member(self, name: str) -> Member:
        """Return the member called `name`, also from anonymous structs and unions inside, offsets added.

        Raises: KeyError when there is none; FormatError when the nesting has no end.
        """
        # Each anonymous type is looked into once: one that repeats has no member that its first place has not.
        seen = {self.id}
        level = [(self, 0)]
        while level:
            below = []
            for composite, base in level:
                for own_name, type, offset, bits in composite.members:
                    if own_name == name:
                        return Member((own_name, type, base + offset, bits))
                    if not own_name:
                        inner = strip(type)
                        if isinstance(inner, Composite) and inner.id not in seen:
                            seen.add(inner.id)
                            below.append((inner, base + offset))
            level = below
        raise KeyError(name)

    def _read(self) -> list[Member]:
        btf, words, first = self.btf, self.btf.words, self._at + 3
        members = []
        kflag = self._kflag
        for at in range(first, first + 3 * self._vlen, 3):
            type = btf.referred(words[at + 1], self)
            offset, bits = words[at + 2], 0
            if kflag:
                offset, bits = offset & 0xFFFFFF, offset >> 24
            else:
                # Compilers before 2019 made an integer type of fewer bits for each width of a bit-field.
                bare = strip(type)
                if isinstance(bare, Int) and (bare.bits != bare.size * 8 or bare.offset):
                    offset, bits = offset + bare.offset, bare.bits
            members.append(Member((btf.string(words[at]), type, offset, bits)))
        return members


class Struct(Composite):
    """A C struct."""

    __slots__ = ()
    kind = kinds.STRUCT


class Union(Composite):
    """A C union."""

    __slots__ = ()
    kind = kinds.UNION


class Enum(Sized):
    """An enumeration of at most 32 bits."""

    __slots__ = ()
    kind = kinds.ENUM

    @property
    def signed(self) -> bool:
        """Whether values are signed. Compilers before clang 15 do not tell: then -1 reads 4294967295."""
        return self._kflag

    @property
    def values(self) -> tuple[tuple[str, int], ...]:
        """(name, value) of each enumerator."""
        string, words, sign = self.btf.string, self.btf.words, 1 << 31 if self._kflag else 0
        first = self._at + 3
        return tuple(
            (string(words[at]), (words[at + 1] ^ sign) - sign) for at in range(first, first + 2 * self._vlen, 2)
        )


class Enum64(Enum):
    """An enumeration of 64 bits. Since: Linux 6.0"""

    __slots__ = ()
    kind = kinds.ENUM64

    @property
    def values(self) -> tuple[tuple[str, int], ...]:
        """(name, value) of each enumerator."""
        string, words, sign = self.btf.string, self.btf.words, 1 << 63 if self._kflag else 0
        first = self._at + 3
        return tuple(
            (string(words[at]), ((words[at + 1] | words[at + 2] << 32) ^ sign) - sign)
            for at in range(first, first + 3 * self._vlen, 3)
        )


class Fwd(Type):
    """A struct or union that was declared and not defined."""

    __slots__ = ()
    kind = kinds.FWD

    @property
    def is_union(self) -> bool:
        """Whether a union was declared; a struct otherwise."""
        return self._kflag


class Func(Reference):
    """A function; `type` is its prototype."""

    __slots__ = ()
    kind = kinds.FUNC

    @property
    def linkage(self) -> str:
        """`static`, `global` or `extern`."""
        return _linkage(self._vlen, self)


class FuncProto(Type):
    """A function's prototype."""

    __slots__ = ()
    kind = kinds.FUNC_PROTO

    @property
    def return_type(self) -> Type:
        """What the function returns; Void for nothing."""
        return self.btf.referred(self._word(2), self)

    @property
    def params(self) -> tuple[tuple[str, Type], ...]:
        """(name, type) of each parameter; a final `...` is told by `variadic` instead."""
        words, first = self.btf.words, self._at + 3
        count = self._vlen - self.variadic
        return tuple(
            (self.btf.string(words[at]), self.btf.referred(words[at + 1], self))
            for at in range(first, first + 2 * count, 2)
        )

    @property
    def variadic(self) -> bool:
        """Whether more arguments may follow (`...`)."""
        last = 1 + 2 * self._vlen
        return last > 1 and not self._word(last) and not self._word(last + 1)


class Var(Reference):
    """A global variable of `type`."""

    __slots__ = ()
    kind = kinds.VAR

    @property
    def linkage(self) -> str:
        """`static`, `global` or `extern`."""
        return _linkage(self._word(3), self)


class Datasec(Sized):
    """A section of an object file, with the variables (and extern functions) that lie in it."""

    __slots__ = ()
    kind = kinds.DATASEC

    @property
    def variables(self) -> tuple[tuple[Var | Func, int, int], ...]:
        """(variable, offset, size) of each, in bytes. Compilers leave offsets 0 for the loader to fill."""
        words, first = self.btf.words, self._at + 3
        variables = []
        for at in range(first, first + 3 * self._vlen, 3):
            variable = self.btf.referred(words[at], self)
            if not isinstance(variable, (Var, Func)):
                what = f"type {variable.id} ({variable.kind_name})"
                raise FormatError(f"datasec {self.name!r} holds {what}, which is no variable", self.btf.offset_of(at))
            variables.append((variable, words[at + 1], words[at + 2]))
        return tuple(variables)


class Float(Sized):
    """A floating-point number. Since: Linux 5.13"""

    __slots__ = ()
    kind = kinds.FLOAT


class DeclTag(Reference):
    """A word (`name`) that the source attached to `type`, or to one of its members or parameters. Since: Linux 5.16"""

    __slots__ = ()
    kind = kinds.DECL_TAG

    @property
    def component_index(self) -> int:
        """Which member or parameter; -1 for the type itself."""
        index = self._word(3)
        return index - (1 << 32) if index >> 31 else index

    @property
    def is_attribute(self) -> bool:
        """Whether `name` is a whole attribute of C and no tag. Since: Linux 6.14"""
        return self._kflag


CLASSES: tuple[type[Type], ...] = (
    Void, Int, Ptr, Array, Struct, Union, Enum, Fwd, Typedef, Volatile, Const, Restrict,
    Func, FuncProto, Var, Datasec, Float, DeclTag, TypeTag, Enum64,
)  # fmt: skip
"""The class of each kind; the index is the kernel's number."""


def _linkage(number: int, type: Type) -> str:
    if number >= len(LINKAGES):
        raise FormatError(
            f"type {type.id} ({type.kind_name}) has linkage {number}, not 0 to 2", type.btf.offset_of(type._at)
        )
    return LINKAGES[number]
