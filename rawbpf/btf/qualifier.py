"""Types that stand for another one: typedefs and qualifiers.

Layouts: include/uapi/linux/btf.h and Documentation/bpf/btf.rst (v6.12).
"""

from __future__ import annotations

from rawbpf.btf import kind as kinds
from rawbpf.btf.base import Reference, Type
from rawbpf.btf.kind import MAX_DEPTH
from rawbpf.errors import FormatError


class Typedef(Reference):
    """Another name for `type`."""

    __slots__ = ()
    kind = kinds.TYPEDEF


class Volatile(Reference):
    """`type`, volatile."""

    __slots__ = ()
    kind = kinds.VOLATILE


class Const(Reference):
    """`type`, constant."""

    __slots__ = ()
    kind = kinds.CONST


class Restrict(Reference):
    """`type`, a pointer that nothing else aliases."""

    __slots__ = ()
    kind = kinds.RESTRICT


class TypeTag(Reference):
    """A word (`name`) that qualifies `type`, such as `user` or `kptr`. Since: Linux 5.17"""

    __slots__ = ()
    kind = kinds.TYPE_TAG

    @property
    def is_attribute(self) -> bool:
        """Whether `name` is a whole attribute of C such as `address_space(1)`, and no tag. Since: Linux 6.14"""
        return self._kflag


QUALIFIERS = (Const, Volatile, Restrict, TypeTag)


def strip(type: Type) -> Type:
    """Return `type` without typedefs and qualifiers (const, volatile, restrict, type tags).

    Raises: FormatError when they never end.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(type, (Typedef, Const, Volatile, Restrict, TypeTag)):
            return type
        type = type.type
    raise FormatError(f"typedefs and qualifiers from type {type.id} on never end", type.btf.offset_of(type._at))
