"""What stands for a default that was not given, where None is one that can be."""

from __future__ import annotations


class Missing:
    """The type of `MISSING`."""


MISSING = Missing()
