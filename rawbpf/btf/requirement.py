"""What C has to know before a definition: types that must be defined, and structs that must be declared.

A member needs its type whole, a pointer and a prototype need of a struct no more than that there is one;
typedefs and enums can only be defined. Knows no text.
"""

from __future__ import annotations

from rawbpf.btf.layout import element_of
from rawbpf.btf.placement import PLAIN_FLOATS
from rawbpf.btf.types import (
    MAX_DEPTH,
    Array,
    Composite,
    Enum,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Ptr,
    Reference,
    Typedef,
)
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rawbpf.btf.base import Type

_BASIC = {
    1: ("char", "signed char", "unsigned char", "_Bool"),
    2: ("short", "short int", "unsigned short", "short unsigned int", "unsigned short int"),
    4: ("int", "unsigned int", "unsigned"),
    8: (
        "long long", "long long int", "unsigned long long", "long long unsigned int", "unsigned long long int",
    ),
    16: ("__int128", "unsigned __int128", "__int128 unsigned"),
}  # fmt: skip
# Of the size of a pointer, also in the BTF of a machine with other pointers.
_LONGS = ("long", "long int", "unsigned long", "long unsigned int", "unsigned long int")


def is_plain(number: Int | Float) -> bool:
    """Return whether C has this number under this name, and in BPF with this size."""
    name, size = number.name, number.size
    if isinstance(number, Float):
        return PLAIN_FLOATS.get(size) == name
    return name in _BASIC.get(size, ()) or (name in _LONGS and size in (4, 8))


class Requirements:
    """Finds what definitions need. `spend` is called with the number of steps that were taken, and may raise."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self._plain: dict[int, bool] = {}

    def of(self, definition: Type) -> tuple[list[Type], list[Composite | Fwd]]:
        """Return what must be defined, and what must be declared, before `definition`.

        Raises: FormatError for types that nest without end.
        """
        needed: dict[Type, None] = {}
        pointed: dict[Composite | Fwd, None] = {}
        seen: set[tuple[int, bool]] = set()
        # With whether the type is needed whole, and how deep it lies.
        level: list[tuple[Type, bool]] = list(_parts(definition))
        for _ in range(MAX_DEPTH):
            if not level:
                return list(needed), list(pointed)
            below: list[tuple[Type, bool]] = []
            self._spend(len(level))
            for type, whole in level:
                if isinstance(type, Typedef):
                    if whole:
                        held = element_of(type)
                        if isinstance(held, Composite) and held.name:
                            needed[held] = None
                    needed[type] = None
                elif isinstance(type, (Int, Float)):
                    if not self._is_plain(type):
                        needed[type] = None
                elif isinstance(type, Composite) and type.name:
                    if whole:
                        needed[type] = None
                    else:
                        pointed[type] = None
                elif isinstance(type, Fwd):
                    pointed[type] = None
                elif isinstance(type, Enum):
                    if type.name and type.values:
                        needed[type] = None
                elif (type.id, whole) not in seen:
                    seen.add((type.id, whole))
                    below += _parts(type, whole)
            level = below
        raise FormatError(f"{definition!r} has parts that are nested more than {MAX_DEPTH} deep")

    def _is_plain(self, number: Int | Float) -> bool:
        found = self._plain.get(number.id)
        if found is None:
            found = self._plain[number.id] = is_plain(number)
        return found


def _parts(type: Type, whole: bool = False) -> Iterable[tuple[Type, bool]]:
    if isinstance(type, Composite):
        return [(member[1], True) for member in type.members]
    if isinstance(type, FuncProto):
        return [(type.return_type, False), *((own, False) for _, own in type.params)]
    if isinstance(type, Array):
        return [(type.type, True)]
    if isinstance(type, (Ptr, Func)):
        return [(type.type, False)]
    if isinstance(type, Reference):
        return [(type.type, whole)]
    return []
