"""Events of a ring buffer as tests write them: alike in length, or of several lengths."""

from __future__ import annotations

import struct

import pytest

EVENT = {"pid": "u32", "cpu": "u16", "delta": "s64", "comm": "char[8]"}
PACKED = struct.Struct("=IHxxq8s")
# How many records are alike, and what is behind each: nothing, so that they lie in a row, or more and more.
LENGTHS = [pytest.param(1, id="alike"), pytest.param(3, id="mixed"), pytest.param(40, id="runs")]


def packed(n: int, change: int) -> bytes:
    """Return event `n`, and what is behind it where records are not alike."""
    return PACKED.pack(n, n % 7, -n, b"sh%d" % (n % 10)) + b"tail" * (0 if change == 1 else n // change % 3)
