"""What batch commands share: the caller's arrays, and the generic ones that go element by element.

What is written to `count`, and when, is part of the kernel's behaviour.
Source: kernel/bpf/syscall.c:generic_map_lookup_batch, _update_batch, _delete_batch (v6.12).
"""

from __future__ import annotations

from errno import EINVAL, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.map.base import SimMap
    from rawbpf.sim.memory import Memory

_COUNT = 32


class Batch:
    """A batch's attr, and the caller's arrays of keys and values."""

    __slots__ = (
        "_attr",
        "_keys",
        "_target",
        "_values",
        "count",
        "elem_flags",
        "flags",
        "in_batch",
        "memory",
        "out_batch",
    )

    def __init__(self, memory: Memory, attr: Attr, target: SimMap) -> None:
        fields = attr.take("=QQQQIIQQ")
        self.in_batch, self.out_batch, self._keys, self._values, self.count, _, self.elem_flags, self.flags = fields
        self._attr = attr
        self._target = target
        self.memory = memory

    def check(self) -> bool:
        """Check elem_flags; return whether there is anything to do. Raises: Refused (EINVAL)."""
        if self.elem_flags & ~c.BPF_F_LOCK or (self.elem_flags & c.BPF_F_LOCK and not self._target.has_lock):
            raise Refused(EINVAL)
        return bool(self.count)

    def done(self, count: int) -> None:
        """Tell the caller how many elements were processed."""
        self._attr.store(_COUNT, "=I", count)

    def put(self, at: int, keys: list[bytes], values: list[bytes]) -> None:
        """Store elements, the first of them as number `at`."""
        self.memory.write(self._keys + at * self._target.key_size, b"".join(keys))
        self.memory.write(self._values + at * self._target.value_bytes, b"".join(values))

    def key(self, at: int) -> bytes:
        """Return the key with number `at`."""
        return self.memory.read(self._keys + at * self._target.key_size, self._target.key_size)

    def value(self, at: int) -> bytes:
        """Return the value with number `at`."""
        return self.memory.read(self._values + at * self._target.value_bytes, self._target.value_bytes)


def generic_lookup(target: SimMap, batch: Batch) -> None:
    """Walk by next_key; the cursor is the last key. Elements that vanish are left out."""
    if not batch.check():
        return
    batch.done(0)
    previous = batch.memory.read(batch.in_batch, target.key_size) if batch.in_batch else None
    count, end = 0, 0
    while count < batch.count:
        try:
            previous = target.next_key(previous)
        except Refused as refused:
            end = refused.errno
            break
        try:
            value = target.lookup(previous, b"")
        except Refused as refused:
            if refused.errno != ENOENT:
                raise
            continue
        batch.put(count, [previous], [value])
        count += 1
    batch.done(count)
    if count and previous is not None:
        batch.memory.write(batch.out_batch, previous)
    if end:
        raise Refused(end)


def generic_update(target: SimMap, batch: Batch) -> None:
    """Update element by element, up to the first that fails."""
    if batch.check():
        _each(batch, lambda at: target.update(batch.key(at), batch.value(at), batch.elem_flags))


def generic_delete(target: SimMap, batch: Batch) -> None:
    """Delete key by key, up to the first that fails."""
    if batch.check():
        _each(batch, lambda at: target.delete(batch.key(at)))


def _each(batch: Batch, step: Callable[[int], None]) -> None:
    batch.done(0)
    count = 0
    try:
        while count < batch.count:
            step(count)
            count += 1
    finally:
        batch.done(count)
