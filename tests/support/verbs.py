"""The verbs of a hash of u32 to u64 that has the keys 1 and 2, by what they need of the map."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rawbpf.uapi import constants as c

Verb = Callable[[Any], object]
READS: dict[str, Verb] = {
    "getitem": lambda m: m[1],
    "get": lambda m: m.get(1),
    "contains": lambda m: 1 in m,
    "lookup": lambda m: m.lookup(1),
    "get_many": lambda m: m.get_many([1, 2]),
    "iterate": list,
    "items": lambda m: list(m.items()),
    "batches": lambda m: list(m.batches(1)),
    "snapshot": lambda m: m.snapshot(),
    "count": lambda m: m.count(),
    "columns": lambda m: m.columns(),
    "sum": lambda m: m.sum(),
    "raw": lambda m: m.raw.snapshot(),
}
WRITES: dict[str, Verb] = {
    "setitem": lambda m: m.__setitem__(1, 5),
    "put": lambda m: m.put(1, 5),
    "insert": lambda m: m.insert(7, 5),
    "replace": lambda m: m.replace(1, 5),
    "delitem": lambda m: m.__delitem__(1),
    "update": lambda m: m.update({1: 5}),
    "update each": lambda m: m.update({1: 5}, c.BPF_EXIST),
    "put_many": lambda m: m.put_many([(1, 5)]),
    "delete_many": lambda m: m.delete_many([1]),
    "raw": lambda m: m.raw.update({(1).to_bytes(4, sys.byteorder): bytes(8)}),
}
BOTH: dict[str, Verb] = {
    "pop": lambda m: m.pop(1),
    "pop with default": lambda m: m.pop(99, None),
    "drain": lambda m: list(m.drain()),
    "clear": lambda m: m.clear(),
}
EITHER: dict[str, Verb] = {
    "info": lambda m: m.info.memory,
    "dup": lambda m: m.dup().close(),
}
