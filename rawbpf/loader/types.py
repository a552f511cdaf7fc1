"""The types of a loaded object by name, for the maps whose records have no other type.

Such a map may live longer than the specification: only what names are looked up in is kept.
"""

from __future__ import annotations

from rawbpf.btf.value import find_value_type, value_type_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.btf import Btf
    from rawbpf.btf.types import Type
    from rawbpf.spec.object import ObjectData


class ObjectTypes:
    """What an object's BTF describes and, where it is silent, its DWARF, which has the types of functions' insides.

    The file is kept, where it has DWARF, and read when a name is looked up that BTF lacks.
    """

    __slots__ = ("_btf", "_file", "origin")

    def __init__(self, content: ObjectData) -> None:
        self.origin = content.name
        self._btf: Btf | None = content.btf
        self._file = content.file if b".debug_info" in content.file else b""

    def find(self, name: str, word: str = "") -> Type | None:
        """Return the type called `name`, None if there is none. `word`: only a `struct`, a `union` or an `enum`.

        Raises: FormatError; ImportError without pyelftools.
        """
        found = find_value_type(self._btf, name, word) if self._btf is not None else None
        if found is None and self._file:
            from rawbpf.elf.dwarf_types import find_type

            found = find_type(self._file, self.origin, name, word)
        return found

    def names(self) -> Iterator[str]:
        """Yield the names that there are, some more than once."""
        if self._btf is not None:
            yield from value_type_names(self._btf)
        if self._file:
            from rawbpf.elf.dwarf_types import type_names

            yield from type_names(self._file, self.origin)
