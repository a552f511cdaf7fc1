"""What is taken out of a map key by key, and goes back where an interrupt or an error ends that too early.

An interrupt may come when the kernel has taken an element out and before anybody else knows it: so the
memory that the value is read into says whether that was so, by bytes that no value is likely to have.
Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem (v6.12).
"""

from __future__ import annotations

import ctypes
import os

from rawbpf.errors import BpfError, KeyNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.map.batch import Elements

    T = TypeVar("T")
    D = TypeVar("D")


class Taken:
    """The `values` of the first of `keys`, side by side, and whether each was `found`."""

    __slots__ = ("_at", "_elements", "_untouched", "_value", "found", "keys", "values")

    def __init__(self, elements: Elements, keys: bytes) -> None:
        self.keys = keys
        self.values = bytearray()
        self.found = bytearray()
        self._elements = elements
        self._untouched = os.urandom(elements.value_size)
        self._value = ctypes.create_string_buffer(self._untouched, elements.value_size)
        self._at = -1

    def __len__(self) -> int:
        return len(self.found)

    def one(self) -> None:
        """Take the next key out by system call. Raises: as `Elements.take`, but for KeyNotFound."""
        self._value.raw = self._untouched
        self._at = len(self)
        try:
            value, found = self._elements.take(self._key(self._at), self._value), b"\1"
        except KeyNotFound:
            value, found = bytes(self._elements.value_size), b"\0"
        self.add(value, found)

    def add(self, values: bytes | memoryview, found: bytes | memoryview) -> None:
        """Add what was taken of the next keys. An interrupt before its end leaves it undone, and it may be repeated."""
        self.values += values
        self.found += found

    def decoded(self, value: Codec[T], default: D) -> list[T | D]:
        """Return the values, with `default` for what was missing. Raises: what the codec raises."""
        found, size, unpack = self.found, self._elements.value_size, value.unpack
        if value.format or all(found):
            values = value.unpack_many(self.values, len(self))
            return [one if mark else default for one, mark in zip(values, found, strict=True)]
        # What lies in the place of a missing value need not be one.
        view = memoryview(self.values)
        return [unpack(view[at * size :][:size]) if mark else default for at, mark in enumerate(found)]

    def put_back(self) -> int:
        """Store all that was taken, where its key is still free; return how many elements could not be stored."""
        lost = 0
        if self._at == len(self) and self._value.raw != self._untouched:
            self.add(self._value.raw, b"\1")
        size = self._elements.value_size
        for at, found in enumerate(self.found):
            if found:
                try:
                    self._elements.insert(self._key(at), bytes(self.values[at * size : (at + 1) * size]))
                except BpfError:
                    lost += 1
        return lost

    def _key(self, at: int) -> bytes:
        size = self._elements.key_size
        return self.keys[at * size : (at + 1) * size]
