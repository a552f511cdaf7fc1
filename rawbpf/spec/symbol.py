"""A name by which the parts of a program that lies in several files refer to one another.

What is static has none. The kernel knows nothing of symbols: linking objects is all that they are for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.btf.types import Type
    from rawbpf.spec.map import MapSpec

    Kind = Literal["function", "variable", "map", ""]


class Symbol:
    """A function, variable or map that an object defines for others, or else needs from one (`defined` False).

    `kind` is empty where an object without types does not say. `weak`: another definition may take its place.
    `type`: that of a variable, or a function's prototype; None if unknown. `section`, `offset`: where a variable lies.
    `map`: a map as the object that needs it declares it.
    """

    __slots__ = ("defined", "kind", "map", "name", "offset", "section", "type", "weak")

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        defined: bool,
        weak: bool = False,
        type: Type | None = None,
        section: str = "",
        offset: int = 0,
        map: MapSpec | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.defined = defined
        self.weak = weak
        self.type = type
        self.section = section
        self.offset = offset
        self.map = map

    def __repr__(self) -> str:
        words = [word for word, holds in (("weak", self.weak), ("undefined", not self.defined)) if holds]
        return f"Symbol({' '.join([*words, self.kind or 'symbol'])} {self.name!r})"
