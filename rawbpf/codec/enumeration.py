"""C enumerations: IntEnum members for the numbers that have names, ints for others."""

from __future__ import annotations

from enum import IntEnum

from rawbpf.btf.enumerator import members_of
from rawbpf.codec.scalar import IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import ByteOrder

    Pairs = tuple[tuple[str, int], ...]

# Building an IntEnum takes 14 microseconds a member.
_MOST_MEMBERS = 4096

_classes: dict[tuple[str, Pairs], type[CEnum]] = {}
_made_of: dict[type[CEnum], tuple[str, Pairs]] = {}


class CEnum(IntEnum):
    """A value of a C enumeration."""

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., CEnum], tuple[object, ...]]:
        return _rebuild, (*_made_of[type(self)], int(self))


class EnumCodec(IntCodec):
    """A C enumeration; `values` are the enumerators. Members, their names and any int in range can be written.

    `members`: what the numbers read as, where that is a class of the user's.
    """

    def __init__(
        self,
        tag: str,
        size: int,
        signed: bool,
        values: Pairs,
        byteorder: ByteOrder,
        members: Iterable[IntEnum] | None = None,
    ) -> None:
        self.tag = tag
        self.values = values
        self._numbers = dict(values)
        known: dict[int, int] | None = None
        if members is not None:
            known = {int(one): one for one in members}
        elif 0 < len(values) <= _MOST_MEMBERS:
            known = {int(one): one for one in enum_class(tag, values)}
        super().__init__(size, signed, byteorder, f"enum {tag}" if tag else "enum", known)

    def by_name(self, value: object, where: str) -> object:
        """Return the number of the enumerator called `value`; what is no str is returned. Raises ValueError."""
        if not isinstance(value, str):
            return value
        if value not in self._numbers:
            raise ValueError(f"{where}: {self.name} has no {value!r}; it has {', '.join(self._numbers)}")
        return self._numbers[value]

    def explain(self) -> str:
        """Return the enumerators."""
        return f"{super().explain()}: {', '.join(f'{name} = {number}' for name, number in self.values)}"

    def build(self, builder: Builder) -> int:
        """Add the enumeration; one of 64 bits needs Linux 6.0."""
        make = builder.enum64 if self.size == 8 else builder.enum
        return make(self.tag, self.values, self.size, self.signed)


def codec_of_enum(cls: type[IntEnum], byteorder: ByteOrder) -> EnumCodec:
    """Return the codec of an IntEnum: 4 bytes as in C, or 8 where a number needs them. Raises ValueError for more."""
    values = tuple([(name, int(one)) for name, one in cls.__members__.items()])
    least, most = min(number for _, number in values), max(number for _, number in values)
    for size in (4, 8):
        for signed in (False, True):
            codec = EnumCodec(cls.__name__, size, signed, values, byteorder, cls)
            if codec.least <= least and most <= codec.most:
                return codec
    raise ValueError(f"{cls.__name__} has numbers that do not fit into 64 bits")


def enum_class(tag: str, values: Pairs) -> type[CEnum]:
    """Return the IntEnum of the enumeration `tag`; the same one for equal enumerators."""
    cls = _classes.get((tag, values))
    if cls is None:
        # By the metaclass's functional call, which type checkers take for a conversion.
        make: Callable[[str, dict[str, int]], type[CEnum]] = CEnum  # type: ignore[assignment]
        cls = make(tag or "enum", members_of(tag, values))
        _classes[tag, values] = cls
        _made_of[cls] = (tag, values)
    return cls


def _rebuild(tag: str, values: Pairs, number: int) -> CEnum:
    return enum_class(tag, values)(number)
