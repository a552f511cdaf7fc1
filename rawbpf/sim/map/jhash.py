"""The hash function of the kernel's hash tables, so that simulated ones have their order.

Source: include/linux/jhash.h:jhash (v6.12), Bob Jenkins' lookup3; written from its description.
"""

from __future__ import annotations

import sys

_MASK = 0xFFFFFFFF
_INITIAL = 0xDEADBEEF


def jhash(key: bytes, seed: int) -> int:
    """Return the 32-bit hash of `key`."""
    length = len(key)
    a = b = c = (_INITIAL + length + seed) & _MASK
    at = 0
    order = sys.byteorder
    while length - at > 12:
        a = a + int.from_bytes(key[at : at + 4], order) & _MASK
        b = b + int.from_bytes(key[at + 4 : at + 8], order) & _MASK
        c = c + int.from_bytes(key[at + 8 : at + 12], order) & _MASK
        a = (a - c & _MASK) ^ _rotated(c, 4)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _rotated(a, 6)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _rotated(b, 8)
        b = b + a & _MASK
        a = (a - c & _MASK) ^ _rotated(c, 16)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _rotated(a, 19)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _rotated(b, 4)
        b = b + a & _MASK
        at += 12
    rest = key[at:]
    if not rest:
        return c
    # The last bytes are taken one by one, lowest first, whatever the CPU's order; whole words are words.
    whole = length % 4 == 0
    words = [rest[i : i + 4].ljust(4, b"\0") for i in range(0, 12, 4)]
    numbers = [int.from_bytes(word, order if whole else "little") for word in words]
    a, b, c = a + numbers[0] & _MASK, b + numbers[1] & _MASK, c + numbers[2] & _MASK
    c = ((c ^ b) - _rotated(b, 14)) & _MASK
    a = ((a ^ c) - _rotated(c, 11)) & _MASK
    b = ((b ^ a) - _rotated(a, 25)) & _MASK
    c = ((c ^ b) - _rotated(b, 16)) & _MASK
    a = ((a ^ c) - _rotated(c, 4)) & _MASK
    b = ((b ^ a) - _rotated(a, 14)) & _MASK
    return ((c ^ b) - _rotated(b, 24)) & _MASK


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _MASK
