"""The hash function of the kernel's hash tables, so that simulated ones have their order.

Source: include/linux/jhash.h:jhash, jhash2 (v6.12), Bob Jenkins' lookup3; written from its description.
"""

from __future__ import annotations

from struct import unpack

_MASK = 0xFFFFFFFF
_INITIAL = 0xDEADBEEF


def jhash(key: bytes, seed: int, by_bytes: bool = False) -> int:
    """Return the 32-bit hash of `key`. `by_bytes`: not by jhash2, which takes what is a multiple of 4 as numbers."""
    a = b = c = (_INITIAL + len(key) + seed) & _MASK
    if not key:
        return c
    words = _words(key, by_bytes)
    last = len(words) - 3
    # Rotations are left with more bits than 32: what is beyond goes with the mask.
    for at in range(0, last, 3):
        a, b, c = a + words[at], b + words[at + 1], c + words[at + 2] & _MASK
        a = (a - c ^ (c << 4 | c >> 28)) & _MASK
        c = c + b & _MASK
        b = (b - a ^ (a << 6 | a >> 26)) & _MASK
        a = a + c & _MASK
        c = (c - b ^ (b << 8 | b >> 24)) & _MASK
        b = b + a & _MASK
        a = (a - c ^ (c << 16 | c >> 16)) & _MASK
        c = c + b & _MASK
        b = (b - a ^ (a << 19 | a >> 13)) & _MASK
        a = a + c & _MASK
        c = (c - b ^ (b << 4 | b >> 28)) & _MASK
        b = b + a & _MASK
    a, b, c = a + words[last], b + words[last + 1] & _MASK, c + words[last + 2]
    c = (c ^ b) - (b << 14 | b >> 18) & _MASK
    a = (a ^ c) - (c << 11 | c >> 21) & _MASK
    b = (b ^ a) - (a << 25 | a >> 7) & _MASK
    c = (c ^ b) - (b << 16 | b >> 16) & _MASK
    a = (a ^ c) - (c << 4 | c >> 28) & _MASK
    b = (b ^ a) - (a << 14 | a >> 18) & _MASK
    return (c ^ b) - (b << 24 | b >> 8) & _MASK


def _words(key: bytes, by_bytes: bool) -> tuple[int, ...]:
    # The words of `key` and zeros, a multiple of three.
    size = len(key)
    padded = key + bytes(-size % 12)
    if size % 4 == 0 and not by_bytes:
        return unpack(f"={len(padded) // 4}I", padded)
    # The last bytes are taken one by one, lowest first, whatever the CPU's order.
    return unpack(f"={len(padded) // 4 - 3}I", padded[:-12]) + unpack("<3I", padded[-12:])
