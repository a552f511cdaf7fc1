"""Hash tables: a dict. Source: kernel/bpf/hashtab.c, net/core/sock_map.c (v6.18).

In which order a table is walked is its own affair, and so is which element of an LRU table goes: the model
knows which keys may be there (`elements`) and which of these may be gone (`unsure`).
"""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

import sys
from collections.abc import Sequence

from rawbpf.testing.model.base import Model
from rawbpf.testing.model.object import answer, is_beyond
from rawbpf.testing.named import Named
from rawbpf.testing.operation import Operation, Outcome, Value
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi.constants import BPF_EXIST, BPF_F_LOCK, BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED, BPF_NOEXIST

# What an errno tells of a key.
_REVEALED = {"": True, "EEXIST": True, "EFAULT": True, "ENOENT": False}


class HashTable(Model):
    """A hash table, per CPU or not."""

    seeded = True
    """Whether the buckets depend on a random number, unless the map was made with BPF_F_ZERO_SEED."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.exact = not self.seeded or bool(spec.flags & BPF_F_ZERO_SEED)
        self.elements: dict[bytes, Value] = {}
        self.unsure: set[bytes] = set()
        # What was seen to come after each key, and first (None), since something changed.
        self._next: dict[bytes | None, bytes | None] = {}
        self._at = 0

    def unsettled(self) -> Sequence[bytes]:
        """Return the keys that a failed batch may have removed."""
        return sorted(self.unsure)

    def walked(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that are surely there and were not walked."""
        return self.elements.keys() - self.unsure - set(keys)

    def _has(self, key: Value) -> bool:
        # Whether the key is there; of one that may be gone, the kernel's answer tells.
        assert isinstance(key, bytes)
        if key in self.unsure:
            there = self._revealed()
            if there is not None:
                self.unsure.discard(key)
            if there is False:
                self.elements.pop(key, None)
        return key in self.elements

    def _revealed(self) -> bool | None:
        verb, error, count = self.operation.verb, self.observed.error, self.observed.count
        if verb == "delete_batch" and count is not None:
            return True if self._at < count else False if error == "ENOENT" else None
        if verb == "update":
            word = self.operation.flags & ~BPF_F_LOCK
            return {(BPF_NOEXIST, ""): False, (BPF_EXIST, ""): True}.get((word, error), _REVEALED.get(error or "any"))
        return _REVEALED.get(error) if verb != "update_batch" else None

    def batch_at(self, position: int) -> None:
        """Remember the position."""
        self._at = position

    def _state(self, key: Value) -> str:
        if self._has(key):
            return "existing"
        return "full" if self.is_full() else "missing"

    def is_full(self) -> bool:
        """Return whether there is no room for another key."""
        return len(self.elements) >= self.spec.max_entries

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "existing" if self._has(key) else "missing"

    def value_of(self, key: Value) -> Value:
        """Return the value."""
        assert isinstance(key, bytes)
        return self.elements[key]

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        return self.flagged(flags, self._state(key))

    def store(self, key: Value, value: Value) -> None:
        """Store the value."""
        assert isinstance(key, bytes)
        self.elements[key] = self.clean(value)
        self.unsure.discard(key)
        self._next.clear()

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return self.lookup_case(key)

    def remove(self, key: Value) -> None:
        """Remove the key."""
        assert isinstance(key, bytes)
        self.elements.pop(key, None)
        self.unsure.discard(key)
        self._next.clear()

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return what the kernel did, if that key is there, comes after no other, and came last time."""
        said = self.observed.error
        if not self.elements or (said == "ENOENT" and key not in self.elements and self._all_unsure()):
            self.elements.clear()
            self.unsure.clear()
            self._next.clear()
            return "empty", None
        # Without a key, and after one that is not there, the first comes.
        here = key if key in self.elements else None
        case = "first" if key is None else "unknown" if here is None else "next"
        if here not in self._next:
            # One that may be gone is followed by what follows it, or by the first.
            known = () if here in self.unsure else self._next.values()
            others = [other for other in self.elements if other != key and other not in known]
            found = self.observed.value if self.observed.value in others else None
            if found is None and others and not (said == "ENOENT" and here is not None):
                return case, others[0]
            if here in self.unsure:
                return ("last", None) if found is None else (case, found)
            self._next[here] = found
        found = self._next[here]
        return ("last", None) if found is None else (case, found)

    def _all_unsure(self) -> bool:
        return len(self.unsure) == len(self.elements)

    # Source: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch
    def read_batch(self, operation: Operation, count: int) -> Outcome:
        """Return what the kernel did, if it may: whole buckets, from the one that the cursor names."""
        verb, seen = operation.verb, self.observed
        buckets = self._buckets()
        cursor = self.start(operation)
        first = 0 if cursor is None else int.from_bytes(cursor.ljust(4, b"\xa5")[:4], sys.byteorder)
        if first >= buckets:
            return Outcome(self.say(verb, "beyond"), count=0)
        taking = verb == "lookup_and_delete_batch"
        if not operation.out_batch or operation.keys is None or operation.values is None:
            return self._read_into_null(operation, count, first, taking)
        if seen.error == "ENOSPC":
            # A bucket that does not fit; the cursor names it.
            at = int.from_bytes(seen.cursor or b"", sys.byteorder)
            self.say(verb, "bucket")
            if count < len(self.elements) and first <= at < buckets:
                return Outcome("ENOSPC", count=0, cursor=seen.cursor)
        if self._is_lawful(seen, count, first, buckets):
            self.say(verb, "end" if seen.error else "some")
            if seen.error and not first:
                self._keep_only(seen.keys)
            for key in seen.keys:
                assert isinstance(key, bytes)
                self.unsure.discard(key)
                if taking:
                    self.remove(key)
            return Outcome(seen.error, None, seen.keys, seen.values, seen.count, seen.cursor)
        self.say(verb, "end")
        end = buckets.to_bytes(4, sys.byteorder)
        return Outcome("ENOENT", None, (*self.elements,), (*self.elements.values(),), len(self.elements), end)

    def _buckets(self) -> int:
        return 1 << (self.max_entries() - 1).bit_length()

    def _is_lawful(self, seen: Outcome, count: int, first: int, buckets: int) -> bool:
        keys = seen.keys
        told = seen.count
        if told != len(keys) or told > count or len(set(keys)) != told or seen.cursor is None:
            return False
        known = self.elements
        if any(isinstance(key, Named) or known.get(key) != value for key, value in zip(keys, seen.values, strict=True)):
            return False
        at = int.from_bytes(seen.cursor, sys.byteorder)
        if seen.error == "ENOENT":
            # From the first bucket to the last: all that is surely there.
            return at == buckets and (first > 0 or self.elements.keys() - self.unsure <= set(keys))
        # Something is left that did not fit.
        return not seen.error and told > 0 and first < at < buckets and count < len(known)

    def _keep_only(self, keys: Sequence[Value]) -> None:
        for key in self.unsure - set(keys):
            self.remove(key)

    def _read_into_null(self, operation: Operation, count: int, first: int, taking: bool) -> Outcome:
        # EFAULT when something is copied; by then, a batch that removes has removed it.
        verb, seen = operation.verb, self.observed
        lawful = {"EFAULT"}
        if operation.out_batch:
            # Nothing may have been there to copy, or it did not fit.
            if not self.elements or self._all_unsure():
                lawful = {"ENOENT"} | (lawful if self.elements else set())
            elif first:
                lawful.add("ENOENT")
            if count < len(self.elements):
                lawful.add("ENOSPC")
        if taking and seen.error == "EFAULT":
            self.unsure |= self.elements.keys()
            self._next.clear()
        error = seen.error if seen.error in lawful else min(lawful)
        if error == "EFAULT":
            return Outcome(self.say(verb, "null pointer"), count=0)
        self.say(verb, "end" if error == "ENOENT" else "bucket")
        return Outcome(error, None, (), (), 0, seen.cursor)


class LruTable(HashTable):
    """An LRU table: it is never full, since others go."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.exact = False

    def unsettled(self) -> Sequence[bytes]:
        """Return nothing: what was evicted shows when it is looked up."""
        return ()

    def is_full(self) -> bool:
        """Return False."""
        return False

    def max_entries(self) -> int:
        """Return max_entries, rounded up to a multiple of the CPUs where each has a list of its own."""
        if self.spec.flags & BPF_F_NO_COMMON_LRU:
            return -(-self.spec.max_entries // self.cpus) * self.cpus
        return self.spec.max_entries

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update. Any element may have gone before it is looked for, this one too."""
        if flags & ~BPF_F_LOCK <= BPF_EXIST:
            self._evict()
        return super().update_case(key, value, flags)

    def _evict(self) -> None:
        # Elements lie in lists of the CPUs, so that a table can be out of room before it is full.
        lists = self.cpus if self.spec.flags & BPF_F_NO_COMMON_LRU else 1
        if 2 * lists * (len(self.elements) + 1) > self.spec.max_entries:
            self.unsure |= self.elements.keys()
            self._next.clear()


class MapTable(HashTable):
    """A hash of maps: the descriptor is looked at first."""

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        assert isinstance(value, Named)
        return answer(self.spec.map_type, value) or super().update_case(key, value, flags)


class SocketTable(HashTable):
    """A sockhash: a socket is looked at first, and is read back as its cookie where the value has room for that."""

    seeded = False

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "short value" if self.spec.value_size == 4 else super().lookup_case(key)

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return super().lookup_case(key)

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        if is_beyond(value):
            return "beyond descriptors"
        assert isinstance(value, Named)
        return answer(self.spec.map_type, value, self.cells) or super().update_case(key, value, flags)
