"""Addresses for attr fields that point to memory.

An address keeps nothing alive: the caller holds the object until the call has returned. Must not
know any command.
"""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ctypes import _CData

    CData = _CData


def pointer_to(memory: CData | bytes | None) -> int:
    """Return the address of a ctypes object or of the contents of bytes; 0 for None and for empty bytes.

    What the kernel may write into must be a ctypes object: bytes are shared.
    """
    if memory is None:
        return 0
    if isinstance(memory, bytes):
        return ctypes.cast(ctypes.c_char_p(memory), ctypes.c_void_p).value or 0 if memory else 0
    return ctypes.addressof(memory)


def cstring(text: bytes) -> bytes:
    """Return `text` for a field that points to a C string. Raises: ValueError for an embedded NUL."""
    if b"\0" in text:
        raise ValueError(f"{text!r} has a NUL byte inside, where C ends a string")
    return text + b"\0"
