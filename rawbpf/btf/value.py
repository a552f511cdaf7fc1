"""Types of values by name: what a record, key or value can be of, among all that BTF has under that name.

Variables, functions and tags have names as well, and `struct event` may stand beside a map called `event`.
"""

from __future__ import annotations

from rawbpf.btf.types import Composite, Enum, Float, Int, Struct, Typedef, Union

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf

# Where several are called alike, the first of these.
_ORDER = (Composite, Typedef, Enum, (Int, Float))
_WORDS = {"struct": Struct, "union": Union, "enum": Enum}
WORDS = tuple(_WORDS)
"""What C has before the name of a type, where a typedef may have the same."""


def find_value_type(btf: Btf, name: str, word: str = "") -> Type | None:
    """Return the struct or union called `name`, else the typedef, the enum, or the number; None if there is none.

    `word`: one of WORDS, for a type of that kind alone.
    """
    found = btf.find_all(name)
    order = (_WORDS[word],) if word else _ORDER
    return next((type for kinds in order for type in found if isinstance(type, kinds)), None)


def value_type_names(btf: Btf) -> Iterator[str]:
    """Yield the names by which `find_value_type` finds types, in the order of their ids."""
    return (type.name for type in btf if isinstance(type, (Composite, Typedef, Enum, Int, Float)) and type.name)
