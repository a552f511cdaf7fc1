"""The keys, values and operations that a map is tried with: few, so that hits, misses and collisions all occur.

They are enumerated once for a spec and drawn by one choice each, which keeps an operation at some ten microseconds;
the simplest come first, since that is what a failing example shrinks to.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise, product

from rawbpf.testing.cells import CELLS, KEYLESS, LOCKABLE, VALUELESS, Cell
from rawbpf.testing.model.device import LONGEST_QUEUE, LOOPBACK
from rawbpf.testing.named import Named
from rawbpf.testing.operation import LAST, Operation, Value
from rawbpf.testing.spec import PER_CPU, MapSpec
from rawbpf.testing.stage import KINDS
from rawbpf.uapi.constants import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST

FLAGS = (BPF_ANY, BPF_NOEXIST, BPF_EXIST, 3, BPF_F_LOCK, 1 << 31, 1 << 32)
"""What an operation's flag word is tried with: those that exist, both at once, F_LOCK, and unknown ones.

Not 8 and 16, by which Linux 7.0 reads and writes the value of one CPU, or one value for all.
"""

_KEYED_BY_DESCRIPTOR = frozenset({"sk_storage", "inode_storage", "task_storage", "cgrp_storage"})
_NOTHING = ("closed descriptor", "descriptor -1")
_NO_DEVICE = 0x7FFFFFF0
_MOST_KEYS = 8

# How often each kind of operation is drawn, out of their sum.
_WEIGHTS = {
    "update": 24,
    "update NOEXIST or EXIST": 12,
    "lookup": 12,
    "delete": 10,
    "next_key": 8,
    "lookup_and_delete": 6,
    "read batches": 6,
    "taking batches": 6,
    "writing batches": 10,
    "odd flags": 6,
    "null pointers": 5,
    "modes": 5,
    "info": 1,
    "freeze": 0.5,
}
# What takes the kernel long, and is tried less often: changes after which it waits until no program uses what was there
# before (15 ms), also after batches that were refused, or for which it starts a thread.
_SLOW = {"array_of_maps": 0.04, "hash_of_maps": 0.04, "cpumap": 0.2, "prog_array": 0.5}
_CHANGING = frozenset(_WEIGHTS) - {"lookup", "next_key", "lookup_and_delete", "read batches", "info", "freeze"}
_SHARES = 2000  # about how many entries a pool has


def _number(number: int, size: int) -> bytes:
    return (number & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)


@functools.lru_cache(maxsize=256)
def keys(spec: MapSpec) -> tuple[Value, ...]:
    """Return the keys that a map of `spec` is tried with."""
    size, map_type = spec.key_size, spec.map_type
    if map_type in KEYLESS:
        return ()
    if map_type in _KEYED_BY_DESCRIPTOR:
        return _objects(map_type)
    if map_type == "lpm_trie":
        return _prefixes(size)
    if spec.max_entries <= _MOST_KEYS - 2:
        return tuple(_number(n, size) for n in (*range(spec.max_entries + 1), (1 << 8 * size) - 1))
    beyond = (spec.max_entries - 1, spec.max_entries, (1 << 8 * size) - 1)
    return tuple(_number(n, size) for n in (*range(_MOST_KEYS - 2), *beyond))


def _prefixes(size: int) -> tuple[bytes, ...]:
    # Prefixes of each other, siblings, the empty one, bits behind a prefix, and one that is too long.
    width = 8 * (size - 4)
    rows = [(8, b"\x0a"), (8, b"\x0b"), (4, b"\x05"), (0, b""), (width, b"\x0a"), (7, b"\x0a"), (0, b"\xff")]
    rows += [(width, b"\x0a" + b"\xff" * (size - 5)), (width - 1, b"\x0a"), (width + 1, b"\x0a")]
    return tuple(_number(length, 4) + data.ljust(size - 4, b"\0") for length, data in rows)


def _objects(map_type: str, size: int = 4, before: bytes = b"") -> tuple[Named, ...]:
    kinds = KINDS[map_type]
    names = [f"{kind} {number}" for kind in kinds for number in (1, 2)]
    return tuple(Named(name, before, size) for name in (*names, *_NOTHING))


@functools.lru_cache(maxsize=256)
def values(spec: MapSpec, cpus: int) -> tuple[Value, ...]:
    """Return the values that a map of `spec` is tried with, on a machine of `cpus` possible CPUs."""
    map_type, size = spec.map_type, spec.value_size
    if map_type in VALUELESS:
        return (b"",)
    if map_type in {"devmap", "devmap_hash", "cpumap"}:
        return _numbered(map_type, size)
    if map_type in KINDS and map_type not in _KEYED_BY_DESCRIPTOR:
        beyond = (_number(1 << 32, 8),) if size == 8 else ()
        return (*_objects(map_type, size), *beyond)
    if map_type in PER_CPU:
        stride = size + 7 & ~7
        rows = [b"".join(bytes([base + cpu]) * stride for cpu in range(cpus)) for base in (1, 0x10, 0x40)]
        return (bytes(stride * cpus), *rows)
    return tuple(bytes([byte]) * size for byte in (0, 1, 2, 0xFF))


def _numbered(map_type: str, size: int) -> tuple[Value, ...]:
    # A number, and in the long form a program.
    numbers = (8, 0, LONGEST_QUEUE, LONGEST_QUEUE + 1) if map_type == "cpumap" else (LOOPBACK, 0, _NO_DEVICE)
    if size == 4:
        return tuple(_number(n, 4) for n in numbers)
    plain = tuple(_number(n, 4) + bytes(4) for n in numbers)
    named = tuple(each for n in numbers[:2] for each in _objects(map_type, size, _number(n, 4)))
    return plain + named


@functools.lru_cache(maxsize=256)
def operations(spec: MapSpec, cpus: int) -> tuple[Operation, ...]:
    """Return the operations that a map of `spec` is tried with, the likelier ones more than once."""
    groups = _groups(spec, cpus)
    slow = _SLOW.get(spec.map_type, 1)
    # A batch changes much at the price of one wait.
    scale = {name: slow**0.5 if name.endswith("ing batches") else slow if name in _CHANGING else 1 for name in _WEIGHTS}
    weights = {name: weight * scale[name] for name, weight in _WEIGHTS.items()}
    total = sum(weights.values())
    found: list[Operation] = []
    for name, group in groups.items():
        share = round(_SHARES / slow**0.5 * weights[name] / total)
        found += [group[at % len(group)] for at in range(max(share, len(group)))]
    return tuple(found)


def _groups(spec: MapSpec, cpus: int) -> dict[str, list[Operation]]:
    some_keys: Sequence[Value | None] = keys(spec) or (None,)
    some_values = values(spec, cpus)
    # A bloom filter is asked by the value.
    held = some_values if spec.map_type == "bloom_filter" else (b"",)
    locks = (0, BPF_F_LOCK) if spec.btf == "lock" else (0,)
    return {
        "lookup": [
            Operation("lookup", key, value, flags=lock) for key in some_keys for lock in locks for value in held
        ],
        "update": [Operation("update", key, value) for value in some_values for key in some_keys],
        "delete": [Operation("delete", key) for key in some_keys],
        "info": [Operation("info")],
        "update NOEXIST or EXIST": [
            Operation("update", key, value, flags | lock)
            for flags, value, key, lock in product((BPF_NOEXIST, BPF_EXIST), some_values, some_keys, locks)
        ],
        "next_key": [Operation("next_key", key) for key in (None, *(keys(spec) or (b"",)))],
        "lookup_and_delete": [Operation("lookup_and_delete", key, flags=lock) for key in some_keys for lock in locks],
        "read batches": list(_reading(spec, "lookup_batch")),
        "taking batches": list(_reading(spec, "lookup_and_delete_batch")),
        "writing batches": list(_writing(spec, some_values)),
        "odd flags": list(_flagged(spec, some_keys, some_values)),
        "null pointers": list(_null(spec, some_keys, some_values)),
        "modes": list(_modes(some_keys, some_values)),
        "freeze": [Operation("freeze")],
    }


def _supported(spec: MapSpec, verb: str) -> bool:
    return Cell(spec.map_type, verb, "always") not in CELLS


def _reading(spec: MapSpec, verb: str) -> Iterable[Operation]:
    if not _supported(spec, verb):
        yield Operation(verb, count=1)
        return
    many = min(spec.max_entries, 64)
    for cursor, count in product((None, LAST), (1, 2, 3, many, many + 1)):
        yield Operation(verb, count=count, cursor=cursor)
    yield Operation(verb, count=0)
    for number in (1, 2, 1 << 16):
        yield Operation(verb, count=many, cursor=_number(number, max(4, spec.key_size)))


def _writing(spec: MapSpec, some_values: tuple[Value, ...]) -> Iterable[Operation]:
    pool = keys(spec)
    for verb in ("update_batch", "delete_batch"):
        if not pool or not _supported(spec, verb):
            one = (pool[0],) if pool else (b"",)
            yield Operation(verb, keys=one, values=some_values[:1])
            continue
        rows = [(), *((key,) for key in pool), *pairwise(pool), pool, pool[::-1], (pool[0],) * 2]
        for at, row in enumerate(rows):
            if verb == "delete_batch":
                yield Operation(verb, keys=row)
            else:
                yield Operation(
                    verb, keys=row, values=tuple(some_values[(at + n) % len(some_values)] for n in range(len(row)))
                )
                if at < len(some_values):
                    yield Operation(verb, keys=pool[:2], values=(some_values[0], some_values[at]))


def _flagged(spec: MapSpec, some_keys: Sequence[Value | None], some_values: tuple[Value, ...]) -> Iterable[Operation]:
    for flags, key in product(FLAGS[1:], some_keys[:3]):
        yield Operation("update", key, some_values[0], flags)
        yield Operation("lookup", key, flags=flags)
        yield Operation("lookup_and_delete", key, flags=flags)
        yield Operation("delete", key, flags=flags)
        yield Operation("next_key", None if spec.map_type in KEYLESS else key, flags=flags)
    one = tuple(keys(spec)[:1]) or (b"",)
    for flags in FLAGS[1:]:
        for verb in ("lookup_batch", "lookup_and_delete_batch"):
            yield Operation(verb, count=2, elem_flags=flags)
            yield Operation(verb, count=2, flags=flags)
        for verb in ("update_batch", "delete_batch"):
            yield Operation(verb, keys=one, values=some_values[:1], elem_flags=flags)
            yield Operation(verb, keys=one, values=some_values[:1], flags=flags)


def _null(spec: MapSpec, some_keys: Sequence[Value | None], some_values: tuple[Value, ...]) -> Iterable[Operation]:
    wrong: Value | None = b"" if spec.map_type in KEYLESS else None
    for verb in ("lookup", "update", "delete", "lookup_and_delete"):
        yield Operation(verb, wrong, some_values[0] if verb == "update" else b"")
        for key in some_keys[:3]:
            if verb != "delete":
                yield Operation(verb, key, None)
    yield Operation("next_key", None, None)
    if spec.map_type in KEYLESS:
        yield Operation("next_key", b"")
    one = tuple(keys(spec)[:1]) or (b"",)
    for verb in ("lookup_batch", "lookup_and_delete_batch"):
        if _supported(spec, verb):
            yield Operation(verb, keys=None, count=2)
            yield Operation(verb, values=None, count=2)
            yield Operation(verb, count=2, out_batch=False)
    yield Operation("update_batch", keys=None, values=some_values[:1], count=1)
    yield Operation("update_batch", keys=one, values=None, count=1)
    yield Operation("delete_batch", keys=None, count=1)


def _modes(some_keys: Sequence[Value | None], some_values: tuple[Value, ...]) -> Iterable[Operation]:
    key = some_keys[0]
    rows: tuple[Value, ...] = (b"",) if key is None else (key,)
    for mode in ("r", "w"):
        yield Operation("lookup", key, mode=mode)
        yield Operation("update", key, some_values[0], mode=mode)
        yield Operation("delete", key, mode=mode)
        yield Operation("next_key", mode=mode)
        yield Operation("lookup_and_delete", key, mode=mode)
        yield Operation("lookup_batch", count=64, mode=mode)
        yield Operation("lookup_and_delete_batch", count=64, mode=mode)
        yield Operation("update_batch", keys=rows, values=some_values[:1], mode=mode)
        yield Operation("delete_batch", keys=rows, mode=mode)
        yield Operation("info", mode=mode)
    yield Operation("freeze", mode="r")


__all__ = ["FLAGS", "LOCKABLE", "keys", "operations", "values"]
