"""Devices and CPUs to redirect to. Source: kernel/bpf/devmap.c, kernel/bpf/cpumap.c (v6.18)."""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

import sys

from rawbpf.testing.model.object import answer
from rawbpf.testing.model.slot import Slots
from rawbpf.testing.model.table import HashTable
from rawbpf.testing.named import Named
from rawbpf.testing.operation import Value
from rawbpf.uapi.constants import BPF_EXIST, BPF_F_RDONLY_PROG, BPF_NOEXIST

LOOPBACK = 1
"""The ifindex that every network namespace has."""
LONGEST_QUEUE = 16384


def _parts(value: Value) -> tuple[int, Named | None]:
    # The number in front, and the program behind it.
    head = value.before if isinstance(value, Named) else value
    return int.from_bytes(head[:4], sys.byteorder), value if isinstance(value, Named) else None


def _without_program(value: Value) -> Value:
    # A program that is none reads back as id 0.
    if isinstance(value, Named):
        return value.before + bytes(4) if value.name == "descriptor -1" else value
    return value[:4] + bytes(len(value) - 4)


def _refusal(map_type: str, value: Value) -> str:
    # The case in which a device, or its program, is refused.
    number, program = _parts(value)
    positive = program is not None and program.name != "descriptor -1"
    if not number:
        return "program without device" if positive else ""
    if number != LOOPBACK:
        return "no such device"
    return answer(map_type, program) if program is not None and positive else ""


class _Numbered(Slots):
    # Values are numbers, with a program behind; number 0 empties a slot.

    def refused(self, key: Value, value: Value) -> str:
        """Return the case in which the value is refused."""
        raise NotImplementedError

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        state = self.state(key)
        if flags > BPF_EXIST or flags == BPF_NOEXIST or state == "out of range":
            return self.flagged(flags, state)
        return self.refused(key, value) or self.flagged(flags, state)

    def store(self, key: Value, value: Value) -> None:
        """Fill or empty the slot."""
        if _parts(value)[0]:
            super().store(key, _without_program(value))
        else:
            self.remove(key)


class Devices(_Numbered):
    """A devmap: ifindex 0 empties a slot."""

    kernel_flags = BPF_F_RDONLY_PROG

    def refused(self, key: Value, value: Value) -> str:
        """Return what is wrong with the device or its program."""
        return _refusal(self.spec.map_type, value)


class DeviceHash(HashTable):
    """A devmap_hash, whose buckets are those of the keys' own bits."""

    kernel_flags = BPF_F_RDONLY_PROG
    seeded = False

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update; the flag EXIST is ignored."""
        state = self._state(key)
        if flags > BPF_EXIST:
            return "flags"
        if not _parts(value)[0]:
            return "no device"
        if state == "existing" and flags == BPF_NOEXIST:
            return self.flagged(flags, state)
        return _refusal(self.spec.map_type, value) or self.flagged(flags, state)

    def store(self, key: Value, value: Value) -> None:
        """Store the value."""
        super().store(key, _without_program(value))


class Cpus(_Numbered):
    """A cpumap: a queue of length 0 empties a slot."""

    def refused(self, key: Value, value: Value) -> str:
        """Return what is wrong with the queue, the CPU or the program."""
        length, program = _parts(value)
        if length > LONGEST_QUEUE:
            return "long queue"
        if self.index(key) >= self.cpus:
            return "no such cpu"
        return answer(self.spec.map_type, program) if length and program and program.name != "descriptor -1" else ""
