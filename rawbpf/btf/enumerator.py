"""Enumerators as members of an IntEnum: what they are called there."""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def members_of(tag: str, values: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the members of an IntEnum for the enumeration `tag`, by the names that they can have.

    Names that an IntEnum has for itself (`mro`, `real`) get `_0`; those that it takes for
    special (`_x_`, `__x__`) lose their underscores.
    """
    members: dict[str, int] = {}
    for name, number in values:
        own = name
        if not name or (name[0] == "_" == name[-1]) or name.startswith(f"_{tag}__"):
            own = name.strip("_") or "member"
        while own in members or hasattr(IntEnum, own):
            own += "_0"
        members[own] = number
    return members
