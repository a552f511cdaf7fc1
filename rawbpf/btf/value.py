"""Types of values by name: what a record, key or value can be of, among all that BTF has under that name.

Variables, functions and tags have names as well, and `struct event` may stand beside a map called `event`.
"""

from __future__ import annotations

from rawbpf.btf.types import Composite, Enum, Float, Int, Typedef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf

# Where several are called alike, the first of these.
_ORDER = (Composite, Typedef, Enum, (Int, Float))


def find_value_type(btf: Btf, name: str) -> Type | None:
    """Return the struct or union called `name`, else the typedef, the enum, or the number; None if there is none."""
    found = btf.find_all(name)
    return next((type for kinds in _ORDER for type in found if isinstance(type, kinds)), None)


def value_type_names(btf: Btf) -> Iterator[str]:
    """Yield the names by which `find_value_type` finds types, in the order of their ids."""
    return (type.name for type in btf if isinstance(type, (Composite, Typedef, Enum, Int, Float)) and type.name)
