"""The hash maps that rows are measured on: full of elements, with the keys in the form that each contender takes."""

from __future__ import annotations

import ctypes
import os
import random
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import rawbpf
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_c import PeerC
from rawbpf.syscall.kernel import syscall_numbers
from rawbpf.uapi.constants import BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM

SAMPLE = 20_000


class Table:
    """A hash map full of elements, and all that a contender needs to use it."""

    types: str
    bcc_read = "t[Key(k)].value"
    bcc_key = "Key(k)"
    bcc_value: Any

    def __init__(self, entries: int, c: PeerC | None, bcc: PeerBcc | None) -> None:
        self.entries = entries
        self.c = c
        chosen = random.Random(0)
        self.map: Any = self.create()
        self.fd = self.map.fileno()
        codec = self.map.key_type
        self.key_size, self.value_size = codec.size, self.map.value_type.size
        self.content = self.make_items(range(entries))
        self.fill()
        self.sample = self.make_keys(chosen.sample(range(entries), min(SAMPLE, entries)))
        self.missing = self.make_keys(chosen.sample(range(entries, 2 * entries), len(self.sample)))
        self.packed, self.packed_missing = codec.pack_many(self.sample), codec.pack_many(self.missing)
        self.packed_value = self.map.value_type.pack(self.value)
        self.bcc = bcc.hash(self.fd, self.bcc_types[0], self.bcc_types[1], entries) if bcc is not None else None

    value: Any
    bcc_types: tuple[type[Any], type[Any]]

    def make_keys(self, numbers: Sequence[int]) -> list[Any]:
        """Return a key for each of `numbers`: new objects, which lie side by side in memory, as the keys of C do.

        The map's own are keys of `range(entries)`.
        """
        raise NotImplementedError

    def make_values(self, numbers: Sequence[int]) -> list[Any]:
        """Return the values that keys of these `numbers` have."""
        return [self.value] * len(numbers)

    def make_items(self, numbers: Sequence[int]) -> dict[Any, Any]:
        """Return the elements of these `numbers`."""
        return dict(zip(self.make_keys(numbers), self.make_values(numbers), strict=True))

    def create(self) -> rawbpf.HashMap[Any, Any]:
        raise NotImplementedError

    def bare(self) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
        """Return the barest look-up and update: one set of buffers, nothing checked."""
        raise NotImplementedError

    def fill(self) -> None:
        self.map.update(self.content)

    def refill(self) -> None:
        """Put back what calls on single elements have deleted."""
        self.map.update({key: self.content[key] for key in self.sample})

    def close(self) -> None:
        self.map.close()


class Scalars(Table):
    """u32 to u64."""

    types = "u32 -> u64"
    value: Any = 7
    bcc_types = (ctypes.c_uint32, ctypes.c_uint64)
    bcc_value = ctypes.c_uint64(7)

    def make_keys(self, numbers: Sequence[int]) -> list[Any]:
        return array("I", numbers).tolist()

    def make_values(self, numbers: Sequence[int]) -> list[Any]:
        return [(1 << 33) + number for number in numbers]

    def create(self) -> rawbpf.HashMap[Any, Any]:
        return rawbpf.HashMap.create(key="u32", value="u64", max_entries=self.entries, name="speed")

    def bare(self) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
        call, number, attr, key_buffer, value_buffer = bare_call(self.fd, 4, 8)
        key_view, value_view = memoryview(key_buffer).cast("B").cast("I"), memoryview(value_buffer).cast("B").cast("Q")

        def lookup(key: int) -> int:
            key_view[0] = key
            if call(number, BPF_MAP_LOOKUP_ELEM, attr, 32):
                raise KeyError(key)
            return value_view[0]

        def update(key: int, value: int) -> None:
            key_view[0] = key
            value_view[0] = value
            if call(number, BPF_MAP_UPDATE_ELEM, attr, 32):
                raise OSError

        return lookup, update


class FlowKey(ctypes.Structure):
    _fields_ = (("saddr", ctypes.c_uint32), ("daddr", ctypes.c_uint32), ("ports", ctypes.c_uint32 * 2))


class FlowValue(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in "abcdefgh")


class Structs(Table):
    """A 16-byte struct to one of 64 bytes, both of several fields."""

    types = "16 -> 64 bytes"
    value = (1, 2, 3, 4, 5, 6, 7, 8)
    bcc_types = (FlowKey, FlowValue)
    bcc_read = "t[Key(k[0], k[1], k[2])]"
    bcc_key = "Key(k[0], k[1], k[2])"
    bcc_value = FlowValue(1, 2, 3, 4, 5, 6, 7, 8)

    def make_keys(self, numbers: Sequence[int]) -> list[Any]:
        return [(number, ~number & 0xFFFFFFFF, (number & 0xFFFF, 80)) for number in numbers]

    def create(self) -> rawbpf.HashMap[Any, Any]:
        key = {"saddr": "u32", "daddr": "u32", "ports": "u32[2]"}
        value = dict.fromkeys("abcdefgh", "u64")
        return rawbpf.HashMap.create(key=key, value=value, max_entries=self.entries, name="speed")

    def bare(self) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
        call, number, attr, key_buffer, value_buffer = bare_call(self.fd, 16, 64)
        pack_key, pack_value = struct.Struct("4I").pack_into, struct.Struct("8Q").pack_into
        unpack = struct.Struct("8Q").unpack

        def lookup(key: Any) -> Any:  # noqa: ANN401
            pack_key(key_buffer, 0, key[0], key[1], *key[2])
            if call(number, BPF_MAP_LOOKUP_ELEM, attr, 32):
                raise KeyError(key)
            return unpack(value_buffer)

        def update(key: Any, value: Any) -> None:  # noqa: ANN401
            pack_key(key_buffer, 0, key[0], key[1], *key[2])
            pack_value(value_buffer, 0, *value)
            if call(number, BPF_MAP_UPDATE_ELEM, attr, 32):
                raise OSError

        return lookup, update


def bare_call(fd: int, key_size: int, value_size: int) -> tuple[Callable[..., int], int, Any, Any, Any]:
    """Return the C library's `syscall`, the number of bpf(2), and buffers with an attribute that names them."""
    key, value = (ctypes.c_char * key_size)(), (ctypes.c_char * value_size)()
    content = struct.pack("=IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
    attr = ctypes.create_string_buffer(content, len(content))
    return ctypes.PyDLL(None).syscall, syscall_numbers(os.uname().machine)[0], ctypes.byref(attr), key, value
