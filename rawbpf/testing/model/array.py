"""Arrays: a list of values, all of them there from the beginning. Source: kernel/bpf/arraymap.c (v6.18)."""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

import sys
from collections.abc import Sequence

from rawbpf.testing.model.base import Model
from rawbpf.testing.operation import Operation, Outcome, Value
from rawbpf.testing.spec import MapSpec


class Indexed(Model):
    """A map whose keys are the indices below max_entries."""

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return the index after `key`; the first after none and after one that is out of range."""
        if key is None:
            return "first", bytes(4)
        index = self.index(key)
        if index >= self.spec.max_entries:
            return "out of range", bytes(4)
        if index == self.spec.max_entries - 1:
            return "last", None
        return "next", (index + 1).to_bytes(4, sys.byteorder)

    def walked(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the indices that were not walked."""
        return {index.to_bytes(4, sys.byteorder) for index in range(self.spec.max_entries)} - set(keys)

    def read_batch(self, operation: Operation, count: int) -> Outcome:
        """Return what a batch reads: by index."""
        return self.read_in_order(operation, count)


class Array(Indexed):
    """An array, per CPU or not."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.elements: list[Value] = [bytes(spec.room(cpus))] * spec.max_entries

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "existing" if self.index(key) < self.spec.max_entries else "out of range"

    def value_of(self, key: Value) -> Value:
        """Return the value at the index."""
        return self.elements[self.index(key)]

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        return self.flagged(flags, self.lookup_case(key))

    def store(self, key: Value, value: Value) -> None:
        """Store the value."""
        self.elements[self.index(key)] = self.clean(value)
