"""Typed views of memory, and memory for the kernel to read."""

from __future__ import annotations

import ctypes


def cast_view(octets: memoryview, form: str) -> memoryview:
    """Return `octets` as items of the struct format `form`, which a codec named."""
    return octets.cast(form)  # type: ignore[call-overload,no-any-return]  # a format known only at run time


def buffer_of(content: bytes) -> ctypes.Array[ctypes.c_char] | None:
    """Return `content` as memory of its own; None for none, since types without keys take NULL."""
    return (ctypes.c_char * len(content)).from_buffer_copy(content) if content else None
