"""The bugs: which file of rawbpf/sim, what stands there, and what stands there when the bug is in."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """`before` occurs once in `file`, a path below rawbpf/sim; with `after` in its place the simulator is wrong."""

    file: str
    before: str
    after: str


BUGS = {
    # Off by one.
    "a hash holds one element too many": Bug(
        "map/hash.py", "if len(self._values) >= self.max_entries:", "if len(self._values) > self.max_entries:"
    ),
    "an array has one element too many": Bug(
        "map/array.py",
        "        if index >= self.max_entries:\n            raise Refused(E2BIG)",
        "        if index > self.max_entries:\n            raise Refused(E2BIG)",
    ),
    "a queue is full too early": Bug(
        "map/queue.py", "if len(self._values) >= self.max_entries:", "if len(self._values) >= self.max_entries - 1:"
    ),
    "a trie is walked from the second prefix on": Bug(
        "map/lpm_trie.py",
        "bits in self._elements and bits is not None else 0",
        "bits in self._elements and bits else 1",
    ),
    "the last bucket is not copied by a batch": Bug(
        "map/hash.py",
        "end = ENOENT if number >= self.n_buckets else 0",
        "end = ENOENT if number >= self.n_buckets - 1 else 0",
    ),
    "keys may be longer than the trie's": Bug(
        "map/lpm_trie.py", "if length > self._longest:", "if length > self._longest + 1:"
    ),
    # Wrong errnos.
    "a full trie says what a full hash says": Bug("map/lpm_trie.py", "raise Refused(ENOSPC)", "raise Refused(7)"),
    "an element of an array is not found to be deleted": Bug(
        "map/array.py",
        '"""Refuse: elements stay. Raises: Refused (EINVAL)."""\n        raise Refused(EINVAL)',
        '"""Refuse: elements stay. Raises: Refused (EINVAL)."""\n        raise Refused(ENOENT)',
    ),
    "an empty slot is deleted without a word": Bug(
        "map/fd_array.py",
        "        if self.slots.pop(index, None) is None:\n            raise Refused(ENOENT)",
        "        self.slots.pop(index, None)",
    ),
    "what lacks a verb says EINVAL": Bug(
        "command/map.py",
        "        raise Refused(ENOTSUPP)\n    # A value that",
        "        raise Refused(EINVAL)\n    # A value that",
    ),
    "a bucket that does not fit ends the walk": Bug(
        "map/hash.py", "end = 0 if count else ENOSPC", "end = 0 if count else ENOENT"
    ),
    # Lost references and lost elements.
    "a file ends with the first of its descriptors": Bug(
        "file.py", "if file is not None and _abandoned([file]):", "if file is not None:"
    ),
    "a pin does not keep what is pinned": Bug("command/obj.py", "kernel.pins.pin(", "(lambda *_: 0)("),
    "an evicting map puts out what was just put in": Bug(
        "map/lru.py", "self._values.move_to_end(key)", "self._values.move_to_end(key, last=False)"
    ),
    "a pushed value lets the newest go": Bug("map/queue.py", "self._values.popleft()", "self._values.pop()"),
    "a filter forgets a bit": Bug(
        "map/bloom_filter.py", "for number in range(self._hashes))", "for number in range(1, self._hashes))"
    ),
    # Flags ignored.
    "NOEXIST is ignored by hashes": Bug(
        "map/hash.py",
        "if old is not None and flags & ~c.BPF_F_LOCK == c.BPF_NOEXIST:",
        "if old is None and flags & 16:",
    ),
    "EXIST is ignored by tries": Bug(
        "map/lpm_trie.py", "not exists and flags == c.BPF_EXIST:", "not exists and flags == 16:"
    ),
    "a descriptor for writing reads keys": Bug(
        "command/map.py",
        "    if not file.may_read:\n        raise Refused(EPERM)\n    key = key_at(kernel, target, key_address) if key_address",
        "    key = key_at(kernel, target, key_address) if key_address",
    ),
    "a frozen map can be written": Bug(
        "command/map.py", "return file.may_write and not target.frozen", "return file.may_write"
    ),
    "a lock is taken where there is none": Bug(
        "command/map.py",
        "    if flags & c.BPF_F_LOCK and not target.has_lock:\n        raise Refused(EINVAL)",
        "    return",
    ),
    "flags of a batch are ignored by hashes": Bug(
        "map/hash.py", "        if batch.flags:\n            raise Refused(EINVAL)\n", ""
    ),
    # Cursors and order.
    "a walk goes on from an absent key": Bug(
        "map/hash.py", "if key is not None and key in self._values:", "if key is not None and self._values:"
    ),
    "a batch starts over at the cursor": Bug(
        "map/hash.py",
        "batch.memory.write(batch.out_batch, U32.pack(number))",
        "batch.memory.write(batch.out_batch, U32.pack(0))",
    ),
    "a replaced element stays where it was": Bug(
        "map/buckets.py",
        "            if key in keys:\n                keys.remove(key)\n            keys.insert(0, key)",
        "            if key not in keys:\n                keys.insert(0, key)",
    ),
    "a generic batch stops without telling how far it came": Bug(
        "map/batch.py",
        "    finally:\n        batch.done(count)",
        "    finally:\n        batch.done(count and batch.count)",
    ),
    "the cursor of a generic batch is the first key": Bug(
        "map/batch.py",
        "batch.memory.write(batch.out_batch, previous)",
        "batch.memory.write(batch.out_batch, target.next_key(None))",
    ),
    # Memory.
    "values are written as long as a word": Bug(
        "command/map.py",
        "kernel.memory.write(value_address, target.lookup(key, held))",
        "kernel.memory.write(value_address, target.lookup(key, held).ljust(8, b'\\0'))",
    ),
    "a value that cannot be handed out is not lost": Bug(
        "command/map.py",
        "    kernel.memory.write(value_address, target.lookup_and_delete(key))",
        "    kernel.memory.write(value_address, bytes(target.value_bytes))\n"
        "    kernel.memory.write(value_address, target.lookup_and_delete(key))",
    ),
}
"""The bugs by what is wrong then."""
