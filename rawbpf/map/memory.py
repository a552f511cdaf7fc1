"""Typed views of memory, and memory for the kernel to read."""

from __future__ import annotations

import ctypes


def cast_view(octets: memoryview, form: str) -> memoryview:
    """Return `octets` as items of the struct format `form`, which a codec named."""
    return octets.cast(form)  # type: ignore[call-overload,no-any-return]  # a format known only at run time


def buffer_of(content: bytes) -> ctypes.Array[ctypes.c_char] | None:
    """Return `content` as memory of its own; None for none, since types without keys take NULL."""
    return array_of(len(content)).from_buffer_copy(content) if content else None


def array_of(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return the type of `size` bytes. ctypes takes 10 microseconds to make one anew, and forgets it."""
    found = _arrays.get(size)
    if found is None:
        found = ctypes.c_char * size
        if len(_arrays) < _MOST_KEPT:
            _arrays[size] = found
    return found


_arrays: dict[int, type[ctypes.Array[ctypes.c_char]]] = {}
_MOST_KEPT = 256
