"""What modules are made of that `rawbpf gen skeleton` writes: an object's parts as attributes with types.

The modules declare, and what happens is here: names are looked up when they are asked for, so that nothing is
promised of a program that was not loaded. Type checkers see records as classes with fields; at run time these are
the classes of the records that maps return.
"""

from __future__ import annotations

import zlib
from binascii import a2b_base64

from rawbpf.codec.record import record_class
from rawbpf.loader.spec import ObjectSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, ClassVar, Generic, NoReturn, Self, TypedDict, TypeVar, dataclass_transform

    from rawbpf.codec.record import Record
    from rawbpf.loader.object import Links, Object

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    class Struct:
        """A record as type checkers see it: the fields that are declared, by name, by position, and by unpacking."""

        def __iter__(self) -> Iterator[Any]: ...
        def __len__(self) -> int: ...
        def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401  # each has a type of its own
        def __hash__(self) -> int: ...
        def _replace(self, **named: object) -> Self: ...
        def asdict(self) -> dict[str, object]:
            """Return the fields by their names in C."""

    class ReaderOptions(TypedDict, Generic[T], total=False):
        """The keyword arguments of `RingBufMap.reader`, for events of one type."""

        callback: Callable[[T], object] | None
        on_lost: Callable[[int, int], object] | None

    class PerfReaderOptions(ReaderOptions[T], total=False):
        """The keyword arguments of `PerfEventArrayMap.reader`, for events of one type."""

        size_per_cpu: int
        wakeup_events: int
        wakeup_watermark: int | None
        overwrite: bool
        cpus: Iterable[int] | None


class Group:
    """Maps, programs or variables as attributes. `_names` has those that are called otherwise than in the object."""

    __slots__ = ("_entries", "_where")

    _names: ClassVar[Mapping[str, str]] = {}
    _entries: Mapping[str, object]
    _where: str

    def __init__(self, where: str, entries: Mapping[str, object]) -> None:
        object.__setattr__(self, "_where", where)
        object.__setattr__(self, "_entries", entries)

    # Type checkers know the attributes that are declared, and no others.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            called = self._names.get(name, name)
            if called in self._entries:
                return self._entries[called]
            raise AttributeError(f"{self._where} has no {called!r}; it has {', '.join(self._entries) or 'none'}")

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{self._where}.{name} cannot be assigned to: edit what it has, such as its value")

    def __reduce__(self) -> tuple[type[Group], tuple[str, Mapping[str, object]]]:
        return type(self), (self._where, self._entries)

    def __dir__(self) -> list[str]:
        renamed = {called: name for name, called in self._names.items()}
        return sorted(renamed.get(name, name) for name in self._entries)

    def __repr__(self) -> str:
        return f"<{self._where}: {', '.join(dir(self)) or 'none'}>"


class SkeletonSpec:
    """What an embedded object defines, to edit before it is loaded; `spec` is the `ObjectSpec`."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.spec!r}>"


class Skeleton:
    """A loaded object; `object` is the `Object`, which this owns. Use as a context manager or `close()`."""

    def __init__(self, obj: Object) -> None:
        self.object = obj

    def attach(self) -> Links:
        """Attach every loaded program whose section says where to. Raises: as `Object.attach`."""
        return self.object.attach()

    def close(self) -> None:
        """Detach the links, and close programs and maps. Idempotent."""
        self.object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a loaded {type(self).__name__} cannot be copied or pickled: load it again")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.object!r}>"


def embedded(content: bytes, name: str) -> ObjectSpec:
    """Return the specification of an object file that was compressed by zlib, and written in base64.

    `name`: what messages call it. Raises: as `ObjectSpec.from_bytes`.
    """
    return ObjectSpec.from_bytes(zlib.decompress(a2b_base64(content)), name=name)


def record(name: str, fields: Sequence[str], forwards: Sequence[tuple[str, int]] = ()) -> type[Record]:
    """Return the class of the records of struct `name`, which maps with such keys or values return.

    `fields`: as C calls them; empty for an anonymous union. `forwards`: (member, index of the anonymous union).
    """
    return record_class(name, fields, forwards)
