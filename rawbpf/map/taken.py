"""What is taken out of a map key by key, and goes back where an interrupt or an error ends that too early.

An interrupt may come when the kernel has taken an element out and before anybody else knows it: so the
memory that the value is read into says whether that was so, by bytes that no value is likely to have.
Knows bytes, not codecs. Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem (v6.12).
"""

from __future__ import annotations

import ctypes
import os

from rawbpf.errors import BpfError, KeyNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.map.batch import Elements


class Taken:
    """The `values` of the first of `keys`, in their order, None for what was missing."""

    __slots__ = ("_at", "_elements", "_untouched", "_value", "keys", "values")

    def __init__(self, elements: Elements, keys: bytes) -> None:
        self.keys = keys
        self.values: list[bytes | None] = []
        self._elements = elements
        self._untouched = os.urandom(elements.value_size)
        self._value = ctypes.create_string_buffer(self._untouched, elements.value_size)
        self._at = -1

    def one(self) -> None:
        """Take the next key out by system call. Raises: as `Elements.take`, but for KeyNotFound."""
        value: bytes | None
        self._value.raw = self._untouched
        self._at = len(self.values)
        try:
            value = self._elements.take(self._key(self._at), self._value)
        except KeyNotFound:
            value = None
        self.values.append(value)

    def put_back(self) -> int:
        """Store all that was taken, where its key is still free; return how many elements could not be stored."""
        values, lost = self.values, 0
        if self._at == len(values) and self._value.raw != self._untouched:
            values.append(self._value.raw)
        for at, value in enumerate(values):
            if value is not None:
                try:
                    self._elements.insert(self._key(at), value)
                except BpfError:
                    lost += 1
        return lost

    def _key(self, at: int) -> bytes:
        size = self._elements.key_size
        return self.keys[at * size : (at + 1) * size]
