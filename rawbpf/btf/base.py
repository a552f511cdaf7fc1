"""What the kinds of BTF types have in common; the kinds themselves stand in `types`."""

from __future__ import annotations

from rawbpf.btf.kind import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.btf.btf import Btf


class Type:
    """One type of a `Btf`. `id` is its number there, `kind` the kernel's BTF_KIND_ number."""

    __slots__ = ("_at", "btf", "id")
    kind = 0

    def __init__(self, btf: Btf, id: int, at: int) -> None:
        self.btf = btf
        self.id = id
        self._at = at

    @property
    def kind_name(self) -> str:
        """The kind in the kernel's word: `struct`, `func_proto`, `decl_tag` ..."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """The type's name, empty for an anonymous one."""
        return self.btf.string(self.btf.words[self._at])

    def __repr__(self) -> str:
        name = self.name
        return f"<{type(self).__name__} {name!r} #{self.id}>" if name else f"<{type(self).__name__} #{self.id}>"

    def __str__(self) -> str:
        from rawbpf.btf.text import describe

        return describe(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.id == other.id and self.btf is other.btf

    def __hash__(self) -> int:
        return hash((id(self.btf), self.id))

    # A type is an immutable view: copying a spec must not double the kernel's BTF.
    def __copy__(self) -> Type:
        return self

    def __deepcopy__(self, memo: object) -> Type:
        return self

    def __reduce__(self) -> tuple[Callable[[Btf, int], Type], tuple[Btf, int]]:
        return _unpickle, (self.btf, self.id)

    def _word(self, index: int) -> int:
        return self.btf.words[self._at + index]

    @property
    def _vlen(self) -> int:
        return self.btf.words[self._at + 1] & 0xFFFF

    @property
    def _kflag(self) -> bool:
        return self.btf.words[self._at + 1] >= 1 << 31


class Void(Type):
    """No type: id 0."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Always `void`."""
        return "void"


class Sized(Type):
    """What types have in common that say their size themselves."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._word(2)


class Reference(Type):
    """What types have in common that refer to one other type."""

    __slots__ = ()

    @property
    def type(self) -> Type:
        """The type that this one refers to."""
        return self.btf.referred(self._word(2), self)


def _unpickle(btf: Btf, id: int) -> Type:
    return btf[id]
