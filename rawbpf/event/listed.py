"""Iterators of lists, which know how much is left: what was decoded and is handed out one by one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)

    class Listed(Iterator[T_co], Protocol):
        """The iterator of a list, which knows how much is left."""

        def __length_hint__(self) -> int: ...


def listed(events: list[T]) -> Listed[T]:
    """Return an iterator that knows how much is left."""
    return iter(events)  # type: ignore[return-value]  # a list's iterator has __length_hint__


def none_left() -> Listed[Any]:
    """Return an iterator of nothing."""
    return listed([])
