"""Records alike in a row, found by comparing many at once: what walks through buffers of either kind are fast by.

Pure: memory is read, nothing is called.
"""

from __future__ import annotations

ALIKE = 16
"""So many records alike in a row are reason to look for more of them at once."""
_WINDOW = 32


def alike_ahead(words: memoryview, at: int, end: int, stride: int, most: int) -> int:
    """Return how many records from `at` to `end` surely have the word at their beginning that the one before has.

    Those are compared at once, each with the one before it: worth it behind ALIKE such records. A window is not much
    wider than what was found alike already, so that what it costs is in proportion.
    """
    size = words.itemsize
    step, here, before = stride // size, at // size, (at - stride) // size
    found, window = 0, _WINDOW
    while window >= _WINDOW and (ahead := min(window, (end - at) // stride - found, most - found)):
        start, stop = found * step, (found + ahead) * step
        if words[here + start : here + stop : step] == words[before + start : before + stop : step]:
            found += ahead
            window <<= 2
        else:
            window >>= 2
    return found
