"""Queues and stacks (a deque), bloom filters (a set), and the types that take no element from a system call.

Source: kernel/bpf/queue_stack_maps.c, bloom_filter.c, ringbuf.c, arena.c (v6.18).
"""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

from collections import deque

from rawbpf.testing.model.base import Model
from rawbpf.testing.operation import Operation, Outcome, Value
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi.constants import BPF_F_ZERO_SEED


class Queue(Model):
    """First in, first out."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.elements: deque[Value] = deque()

    def lookup_case(self, key: Value) -> str:
        """Return the case of a peek."""
        return "existing" if self.elements else "empty"

    def value_of(self, key: Value) -> Value:
        """Return what comes out next."""
        return self.elements[0]

    def remove(self, key: Value) -> None:
        """Take out what comes out next."""
        self.elements.popleft()

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of a push."""
        return self.flagged(flags, "full" if len(self.elements) == self.spec.max_entries else "room")

    def store(self, key: Value, value: Value) -> None:
        """Push; where all is full (flag EXIST), the oldest goes."""
        if len(self.elements) == self.spec.max_entries:
            self.elements.popleft()
        self.elements.append(value)


class Stack(Queue):
    """Last in, first out."""

    def value_of(self, key: Value) -> Value:
        """Return what comes out next."""
        return self.elements[-1]

    def remove(self, key: Value) -> None:
        """Take out what comes out next."""
        self.elements.pop()


class Bloom(Model):
    """A set that may say yes to what is not in it, and never no to what is. A lookup's value is the question."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        # Which false answers there are depends on the seed.
        self.exact = bool(spec.flags & BPF_F_ZERO_SEED)
        self.elements: set[Value] = set()
        self._probe: Value = b""

    def _lookup(self, operation: Operation) -> Outcome:
        size = self.spec.value_size
        value = operation.value
        assert value is None or isinstance(value, bytes)
        self._probe = b"" if value is None else value.ljust(size, b"\xa5")
        return super()._lookup(operation)

    def _read(self, verb: str, key: Value, value: Value | None) -> Outcome:
        # The question is read before it is answered.
        if value is None and verb == "lookup":
            return Outcome(self.say(verb, "null value"))
        return super()._read(verb, key, value)

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        if self._probe in self.elements:
            return "existing"
        # Without an element no bit is set.
        return "missing" if self.observed.error or not self.elements else "false positive"

    def value_of(self, key: Value) -> Value:
        """Return the question, which stays where it is."""
        return self._probe

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        return self.flagged(flags, "any")

    def store(self, key: Value, value: Value) -> None:
        """Add the value."""
        self.elements.add(value)


class Refusing(Model):
    """Ring buffers and arenas: what is in them comes through memory and programs."""
