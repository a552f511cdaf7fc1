"""LPM tries: a dict of prefixes, found by the longest that matches. Source: kernel/bpf/lpm_trie.c (v6.18)."""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

import sys
from collections.abc import Sequence

from rawbpf.testing.model.base import Model
from rawbpf.testing.operation import Operation, Outcome, Value
from rawbpf.testing.spec import MapSpec


class Trie(Model):
    """Prefixes as strings of bits; the bits behind a prefix are kept as they were written and compare as nothing."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.elements: dict[str, tuple[bytes, Value]] = {}
        self._longest = 8 * (spec.key_size - 4)

    def _prefix(self, key: Value) -> str | None:
        # The bits of the prefix, None if there are more than fit.
        assert isinstance(key, bytes)
        length = int.from_bytes(key[:4], sys.byteorder)
        if length > self._longest:
            return None
        return "".join(f"{byte:08b}" for byte in key[4:])[:length]

    def _match(self, key: Value) -> str | None:
        bits = self._prefix(key) or ""
        return next((bits[:n] for n in range(len(bits), -1, -1) if bits[:n] in self.elements), None)

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        bits = self._prefix(key)
        if bits is None:
            return "too long"
        match = self._match(key)
        return "missing" if match is None else "existing" if match == bits else "covered"

    def value_of(self, key: Value) -> Value:
        """Return the value of the longest prefix that matches."""
        return self.elements[self._match(key) or ""][1]

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        bits = self._prefix(key)
        is_full = len(self.elements) >= self.spec.max_entries
        there = "existing in full" if is_full and self.has_case("update", "existing in full") else "existing"
        state = self.flagged(flags, there if bits in self.elements else "full" if is_full else "missing")
        return "too long" if bits is None and state != "flags" else state

    def store(self, key: Value, value: Value) -> None:
        """Store the value, and the key as it was written."""
        bits = self._prefix(key)
        assert bits is not None
        assert isinstance(key, bytes)
        self.elements[bits] = key, value

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        bits = self._prefix(key)
        return "too long" if bits is None else "existing" if bits in self.elements else "missing"

    def remove(self, key: Value) -> None:
        """Remove the prefix."""
        del self.elements[self._prefix(key) or ""]

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return the prefix that follows: each comes after those that it covers."""
        if not self.elements:
            return "empty", None
        order = sorted(self.elements, key=lambda bits: bits + "2")
        bits = None if key is None else self._prefix(key)
        if self.operation.verb == "next_key" and self._mistaken_for(bits):
            found = self.observed.value
            if self.observed.error == "ENOENT":
                return "mistaken for the last", None
            return "mistaken", found if isinstance(found, bytes) and self._holds(found) else self.elements[order[0]][0]
        if bits not in self.elements:
            return "first" if key is None else "unknown", self.elements[order[0]][0]
        assert bits is not None
        at = order.index(bits) + 1
        return ("last", None) if at == len(order) else ("next", self.elements[order[at]][0])

    def _mistaken_for(self, bits: str | None) -> list[bytes]:
        # Old kernels take a prefix of the same length for one that is not there; which, depends on the tree.
        if bits is None or bits in self.elements or not self.has_case("next_key", "mistaken"):
            return []
        return [key for other, (key, _) in self.elements.items() if len(other) == len(bits)]

    def _holds(self, key: bytes) -> bool:
        return any(key == stored for stored, _ in self.elements.values())

    def walked(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the prefixes that were not walked."""
        return {key for key, _ in self.elements.values()} - set(keys)

    def read_batch(self, operation: Operation, count: int) -> Outcome:
        """Return what a batch reads: in the order of the walk."""
        cursor, size = self.start(operation), self.spec.key_size
        bits = None if cursor is None else self._prefix(cursor.ljust(size, b"\xa5")[:size])
        for other in self._mistaken_for(bits):
            outcome = self.read_in_order(operation._replace(cursor=other), count)
            if outcome == self.observed:
                return outcome
        return self.read_in_order(operation, count)
