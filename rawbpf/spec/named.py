"""What an object has, by name: a dict that is edited by its values and not by assignment.

`spec.variables["min_uid"] = 1000` would otherwise put a number where a variable was, and be lost.
Knows nothing of what it holds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    V = TypeVar("V")

    class _Base(dict[str, V]):
        pass

else:

    class _Base(dict):
        """Stands in for dict[str, V], which wants a TypeVar."""

        __slots__ = ()


class Named(_Base["V"]):
    """Maps, programs or variables by name. Entries may be deleted; `[name]` of an unknown one lists the names.

    `where` is what users call it, such as `spec.variables`; `advice` what to do instead of assigning,
    where `{}` stands for the entry.
    """

    __slots__ = ("_advice", "_where")

    def __init__(self, where: str, advice: str, content: dict[str, V] | None = None) -> None:
        super().__init__(content or {})
        self._where = where
        self._advice = advice

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(f"{self._where} has no {name!r}; it has {', '.join(self) or 'none'}")

    def __setitem__(self, name: str, value: object) -> None:
        """Refuse. Raises: TypeError that says what to do instead; KeyError for an unknown name."""
        del value
        _ = self[name]
        advice = self._advice.format(f'{self._where}["{name}"]')
        raise TypeError(f"{self._where} cannot be assigned to: {advice}")

    def __delitem__(self, name: str) -> None:
        _ = self[name]
        super().__delitem__(name)

    def __reduce__(self) -> tuple[type[Named[V]], tuple[str, str, dict[str, V]]]:
        return type(self), (self._where, self._advice, dict(self))

    def add(self, name: str, entry: V) -> None:
        """Give it an entry: for who makes the object."""
        super().__setitem__(name, entry)

    # A dict has more ways to assign and to miss; for who checks types they stay the dict's.
    if not TYPE_CHECKING:

        def pop(self, name: str, /, *default: object) -> object:
            """Take an entry away and return it. Raises: KeyError, unless a default is given."""
            if not default:
                _ = self[name]
            return super().pop(name, *default)

        def update(self, *others: object, **entries: object) -> None:
            """Refuse, as assigning does."""
            for name, value in dict(*others, **entries).items():
                self[name] = value

        def setdefault(self, name: str, default: object = None, /) -> object:
            """Return the entry; there are no defaults."""
            del default
            return self[name]

        def __ior__(self, other: object) -> Named[V]:
            self.update(other)
            return self
