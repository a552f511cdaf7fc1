"""A symbol of the kernel that an object declares and does not define: `extern const struct rq runqueues __ksym;`.

What the kernel has under that name is found when the object is loaded.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Type


class KsymSpec:
    """A kernel symbol by `name`.

    `type` is what the object declares: a prototype for a function, any other for a variable, None for an address of
    whatever it may be (`extern const void`). `weak`: it may be missing. `index` is its place among
    all that the object declares, in the order of libbpf.
    """

    __slots__ = ("index", "name", "type", "weak")

    def __init__(self, name: str, type: Type | None, *, weak: bool, index: int) -> None:
        self.name = name
        self.type = type
        self.weak = weak
        self.index = index

    def __repr__(self) -> str:
        weak = "weak " if self.weak else ""
        return f"KsymSpec({weak}{self.name!r}: {'address' if self.type is None else self.type.kind_name})"
