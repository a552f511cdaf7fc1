"""Views of a map's keys, values and items: iterable again and again, each time over the map as it is then.

They have no length: `list()` and `bool()` would ask for it, which for a hash is to read all of it once
more. `len(m)` counts.
"""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Generic, Protocol

    from typing_extensions import TypeVar

    class Source(Protocol):
        """A map whose elements can all be read."""

        def batches(self) -> Iterator[tuple[list[Any], list[Any]]]:
            """Yield (keys, values)."""

        def _has_key(self, key: object) -> bool: ...
        def _get(self, key: Any, default: None) -> object: ...  # noqa: ANN401  (of what the keys are of)

    T = TypeVar("T", default=Any)
    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)

    class _Base(Generic[T]):
        pass
else:

    class _Base:
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class _View(_Base["T"]):
    __slots__ = ("_map",)

    def __init__(self, source: Source) -> None:
        self._map = source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._map!r}>"


class KeysView(_View["K"]):
    """The keys."""

    __slots__ = ()

    def __iter__(self) -> Iterator[K]:
        for keys, _ in self._map.batches():
            yield from keys

    def __contains__(self, key: object) -> bool:
        return self._map._has_key(key)


class ValuesView(_View["V"]):
    """The values."""

    __slots__ = ()

    def __iter__(self) -> Iterator[V]:
        for _, values in self._map.batches():
            yield from values


class ItemsView(_View["tuple[K, V]"]):
    """The (key, value) pairs."""

    __slots__ = ()

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for keys, values in self._map.batches():
            yield from zip(keys, values, strict=True)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or not self._map._has_key(item[0]):
            return False
        return bool(self._map._get(item[0], None) == item[1])
