"""A program over many keys, and the typed views of the memory in which keys, values and marks are handed over.

Which verbs there are and when a program is used, `many` says; what a program does, `many_code`.
"""

from __future__ import annotations

import ctypes
import struct

from rawbpf.map.handle import closed
from rawbpf.map.many_code import COUNT, DONE, MISSED, START
from rawbpf.map.memory import cast_view
from rawbpf.map.runner import GONE, Runner, Unavailable
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ctypes import _CArgObject
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.handle import Handle
    from rawbpf.map.many_code import Layout
    from rawbpf.uapi.layout import AttrBuffer

QUICK = 32
"""Up to so many keys a run takes microseconds, and giving way to other threads would take longer."""


class Unpackable(Exception):
    """That a key is none: where keys go one by one that is told, or means something, as -1 does."""


class Keys(Runner):
    """A program for one verb, and typed views of its memory: `keys`, `values`, `found`."""

    __slots__ = ("_first", "found", "keys", "layout", "packers", "value_items", "values")

    def __init__(self, handle: Handle, layout: Layout, code: Callable[[int, int, int], Any]) -> None:
        self.layout = layout
        # What packs so many keys; the values as items; what stores the first element.
        self.packers: dict[int, Callable[..., None]] = {}
        self.value_items: memoryview | None = None
        self._first: tuple[AttrBuffer, _CArgObject] | None = None
        with handle as fd:
            super().__init__(handle.backend, layout.size, lambda *arrays: code(fd, *arrays), layout.steps)
        self.values = self.memory[layout.values : layout.keys]
        self.keys = self.memory[layout.keys : layout.found]
        self.found = self.memory[layout.found : layout.size]

    def close(self) -> None:
        """Unload the program and let go of the memory. Idempotent."""
        super().close()
        self.values = self.keys = self.found = GONE
        self.value_items = None

    def look_up(self, handle: Handle, count: int) -> int:
        """Run over the first `count` keys; return how often one was missing. Raises: Closed; Unavailable."""
        if handle.fd < 0:
            raise closed(handle.describe)
        words = self.words
        words[COUNT] = count
        self.run(blocking=count > QUICK)
        return words[MISSED]

    def store_first(self, handle: Handle, flags: int) -> bool:
        """Store the first element by a system call, which asks the descriptor; False: refused. Raises: Closed."""
        with handle as fd:
            if self._first is None:
                layout = self.layout
                attr = MAP_UPDATE_ELEM.pack(
                    map_fd=fd, key=self.address + layout.keys, value=self.address + layout.values
                )
                self._first = attr, ctypes.byref(attr)
            attr, reference = self._first
            MAP_UPDATE_ELEM.set(attr, "flags", flags)
            return handle.backend.bpf(c.BPF_MAP_UPDATE_ELEM, reference, MAP_UPDATE_ELEM.size) == 0

    def go(self, handle: Handle, count: int, start: int = 0) -> int:
        """Run over the keys from `start` on; return the index of the first refused, or `count`. Raises: Closed."""
        if handle.fd < 0:
            raise closed(handle.describe)
        words = self.words
        words[START] = words[DONE] = start
        words[COUNT] = count
        words[MISSED] = 0
        try:
            self.run(blocking=count > QUICK)
        except Unavailable:
            pass  # nothing was done: for whoever asked, the first key was refused
        return words[DONE]

    def fill(self, key: Codec[Any], keys: Sequence[Any]) -> None:
        """Put at most QUICK keys, plain numbers, in their places. Raises: Unpackable."""
        count = len(keys)
        pack = self.packers.get(count)
        try:
            if pack is None:
                pack = self.packers[count] = struct.Struct(f"{count}{key.format}").pack_into
            pack(self.keys, 0, *keys)
        except (struct.error, TypeError, OverflowError):
            raise Unpackable from None

    def decoded(self, value: Codec[Any], count: int, missed: int, default: object) -> list[Any]:
        """Return the first `count` values, with `default` for what was not found; `missed`: how many were not."""
        size = value.size
        if value.format:
            view = self.value_items
            if view is None:
                view = self.value_items = cast_view(self.values[: self.layout.capacity * size], value.format)
            values: list[Any] = view[:count].tolist()
            if not missed:
                return values
            return [one if mark else default for one, mark in zip(values, bytes(self.found[:count]), strict=True)]
        if not missed:
            return value.unpack_many(self.values[: count * size], count)
        # What lies in the place of a missing value need not be one.
        whole, unpack, found = self.values, value.unpack, self.found
        return [unpack(whole[at * size : (at + 1) * size]) if found[at] else default for at in range(count)]


def packed_keys(key: Codec[Any], keys: Sequence[Any]) -> bytes:
    """Return the bytes of `keys`. Raises: Unpackable."""
    try:
        return key.pack_many(keys)
    except (TypeError, ValueError, OverflowError):
        raise Unpackable from None
