"""How a C struct of the kernel's interface lies in bytes, and how to fill it in and read it back.

Pointers are addresses in 64 bits: whoever packs one keeps its buffer alive. Must not know any
command or struct: those tables are in `attr`, `info` and `perf`.
"""

from __future__ import annotations

import ctypes
import struct
from struct import calcsize, pack_into, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    AttrBuffer = ctypes.Array[ctypes.c_char]

ATTR_SIZE = 256
"""Bytes of every attr buffer: more than the kernel has fields for, since it also writes into it."""

_new_buffer = ctypes.c_char * ATTR_SIZE


class Layout:
    """The fields of one struct: (name, offset in bytes, `struct` format).

    `size` reaches up to the end of the last field, `minimum` up to `last`: the size of the release
    that brought the struct. `cmd` is the bpf command whose attr it is; -1 for other structs.
    """

    __slots__ = ("_at", "_last", "cmd", "fields", "minimum", "name", "size")
    _at: dict[str, tuple[int, str]]
    size: int
    minimum: int

    def __init__(self, name: str, fields: tuple[tuple[str, int, str], ...], last: str, cmd: int = -1) -> None:
        self.cmd = cmd
        self.name = name
        self.fields = fields
        self._last = last

    def __getattr__(self, name: str) -> object:
        # The rest is worked out for a layout that is used; most of those imported are not.
        if name not in ("_at", "minimum", "size"):
            raise AttributeError(f"a layout has no {name!r}")
        self._at = {field: (offset, "=" + form) for field, offset, form in self.fields}
        self.size = max(map(self.end, self._at))
        self.minimum = self.end(self._last)
        return getattr(self, name)

    def __repr__(self) -> str:
        return f"Layout({self.name}, {self.size} bytes)"

    def _find(self, field: str) -> tuple[int, str]:
        try:
            return self._at[field]
        except KeyError:
            raise TypeError(f"{self.name} has no field {field!r}; it has {', '.join(self._at)}") from None

    def pack(self, **values: int | bytes) -> AttrBuffer:
        """Return a buffer of ATTR_SIZE bytes with these fields set and zeros elsewhere.

        Integers go into numbers and pointers, bytes into names (a name is cut where the field ends).
        Raises: TypeError for a field that it has not; OverflowError for a value that does not fit.
        """
        buffer = _new_buffer()
        for field, value in values.items():
            self.set(buffer, field, value)
        return buffer

    def is_signed(self, field: str) -> bool:
        """Return whether `field` takes negative numbers."""
        return self._find(field)[1][-1] in "bhiq"

    def set(self, buffer: AttrBuffer | bytearray, field: str, value: int | bytes) -> None:
        """Store one field. Raises: as `pack`."""
        offset, form = self._find(field)
        try:
            pack_into(form, buffer, offset, value)
        except struct.error as error:
            if isinstance(value, bytes) != form.endswith("s") or not hasattr(type(value), "__index__"):
                raise TypeError(f"{self.name}.{field} takes {'bytes' if form.endswith('s') else 'an int'}") from error
            raise OverflowError(f"{self.name}.{field}: {value!r} does not fit {calcsize(form)} bytes") from error

    def get(self, buffer: AttrBuffer | bytearray | bytes, field: str) -> int | bytes:
        """Return one field: an int, or the bytes of a name."""
        offset, form = self._find(field)
        value: int | bytes = unpack_from(form, buffer, offset)[0]
        return value

    def integer(self, buffer: AttrBuffer | bytearray | bytes, field: str) -> int:
        """Return one number; 0 for a field beyond the end of `buffer`, which an older kernel does not know."""
        offset, form = self._find(field)
        if form.endswith("s"):
            raise TypeError(f"{self.name}.{field} is a name, not a number")
        value: int = unpack_from(form, buffer, offset)[0] if offset + calcsize(form) <= len(buffer) else 0
        return value

    def unpack(self, buffer: AttrBuffer | bytearray | bytes) -> dict[str, Any]:
        """Return all fields by name: ints, and bytes for names; zeros beyond the end of `buffer`.

        What a field holds is known from its name only, hence the Any.
        """
        image = bytes(buffer).ljust(self.size, b"\0")
        return {field: unpack_from(form, image, offset)[0] for field, (offset, form) in self._at.items()}

    def end(self, field: str) -> int:
        """Return the size of an attr that reaches up to and including `field`."""
        offset, form = self._find(field)
        return offset + calcsize(form)

    def used(self, values: Mapping[str, int | bytes]) -> int:
        """Return the size that these values need: up to the last that is not zero, `minimum` at least."""
        size = self.minimum
        for field, value in values.items():
            if value.strip(b"\0") if isinstance(value, bytes) else value:
                size = max(size, self.end(field))
        return size
