"""The order of a hash table: its buckets one after another, and in each the key that came last stands first.

Which bucket a key belongs to is its table's affair. Source: include/linux/rculist_nulls.h:hlist_nulls_add_head_rcu
(v6.12).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from errno import ENOENT

from rawbpf.sim.error import Refused


class Buckets:
    """The keys of a table, by the numbers of their buckets."""

    def __init__(self) -> None:
        # Only buckets that hold something.
        self._keys: dict[int, list[bytes]] = {}
        # Their numbers, once somebody walks.
        self._order: list[int] | None = None

    def put(self, number: int, key: bytes) -> None:
        """Make `key` the first of its bucket, where it may be already."""
        keys = self._keys.get(number)
        if keys is None:
            self._keys[number] = [key]
            if self._order is not None:
                insort(self._order, number)
        else:
            if key in keys:
                keys.remove(key)
            keys.insert(0, key)

    def remove(self, number: int, key: bytes) -> None:
        """Remove a key that is there."""
        keys = self._keys[number]
        keys.remove(key)
        if not keys:
            del self._keys[number]
            if self._order is not None:
                del self._order[bisect_left(self._order, number)]

    def keys(self, number: int) -> list[bytes]:
        """Return the keys of a bucket; a copy."""
        return list(self._keys.get(number, ()))

    def first(self, number: int = 0) -> bytes:
        """Return the first key of the table, or from bucket `number` on. Raises: Refused (ENOENT: there is none)."""
        if self._order is None:
            self._order = sorted(self._keys)
        at = bisect_left(self._order, number)
        if at == len(self._order):
            raise Refused(ENOENT)
        return self._keys[self._order[at]][0]

    def after(self, number: int, key: bytes) -> bytes:
        """Return the key after one that is there, in bucket `number`. Raises: Refused (ENOENT: the last)."""
        keys = self._keys[number]
        at = keys.index(key) + 1
        return keys[at] if at < len(keys) else self.first(number + 1)
