"""Walks over hash maps whose order is the kernel's own: each map has a random seed, unless BPF_F_ZERO_SEED.

A recorded walk is compared as a whole with one on the map as it is now: what it came by, in whatever order.
Source: kernel/bpf/hashtab.c:htab_map_alloc (v6.12).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from rawbpf.testing.pointee import Shape
from rawbpf.testing.recording import Event
from rawbpf.uapi import constants as c

BATCHES = (c.BPF_MAP_LOOKUP_BATCH, c.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
WALKS = (c.BPF_MAP_GET_NEXT_KEY, *BATCHES)
_CHANGES = (
    c.BPF_MAP_UPDATE_ELEM,
    c.BPF_MAP_DELETE_ELEM,
    c.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
    c.BPF_MAP_UPDATE_BATCH,
    c.BPF_MAP_DELETE_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
)
_SEEDED = (
    c.BPF_MAP_TYPE_HASH,
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_LRU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    c.BPF_MAP_TYPE_HASH_OF_MAPS,
)
_ENOENT, _ENOSPC = 2, 28


def is_seeded(shape: Shape) -> bool:
    """Return whether the order of a map's elements is another on each map."""
    return shape.type in _SEEDED and not shape.flags & c.BPF_F_ZERO_SEED


class Walk:
    """One walk: what it came by in the recording (`then`), and what it comes by now.

    Elements are bytes, and names of what they refer to.
    """

    def __init__(self) -> None:
        self.then: Counter[tuple[object, ...]] = Counter()
        self.now: Counter[tuple[object, ...]] = Counter()
        self.cursor: bytes | None = None
        self.disturbed = False
        self.is_over = False

    def difference(self) -> str:
        """Return in words what the whole walk came by otherwise."""
        lost, found = self.then - self.now, self.now - self.then
        if self.disturbed or not (lost or found):
            return ""
        return f"the whole walk: {_some(lost)} only in the recording, {_some(found)} only now"


def _some(elements: Counter[tuple[object, ...]]) -> str:
    shown = [" ".join(each.hex() if isinstance(each, bytes) else str(each) for each in one) for one in elements]
    return f"{len(shown)} ({', '.join(shown[:3])})" if shown else "nothing"


class Walks:
    """The walks that are under way, by the id of the map and the command."""

    def __init__(self) -> None:
        self._walks: dict[tuple[int, int], Walk] = {}

    def get(self, map_id: int, cmd: int, *, is_first: bool) -> Walk:
        """Return the walk that a call is of: a new one for its first call."""
        walk = None if is_first else self._walks.get((map_id, cmd))
        if walk is None:
            walk = self._walks[map_id, cmd] = Walk()
        return walk

    def disturb(self, map_id: int, cmd: int) -> None:
        """Note that the map was changed, after which a walk comes by what it happens to."""
        for (walked, walking), walk in self._walks.items():
            if walked == map_id and cmd in _CHANGES and walking != cmd:
                walk.disturbed = True


def elements(event: Event, shape: Shape, cpus: int, then: Callable[[str], str]) -> Iterator[tuple[object, ...]]:
    """Yield the elements that a batch came by: key, value, and the name in the recording of what it refers to."""
    count = event.after.attr.get("count", 0)
    keys, values = event.after.memory.get("keys") or b"", event.after.memory.get("values") or b""
    size = shape.value_bytes(cpus)
    for at in range(count if isinstance(count, int) else 0):
        known = then(event.after.references.get(f"values@{at * size}", ""))
        yield keys[at * shape.key_size :][: shape.key_size], values[at * size :][:size], known


def is_last(event: Event) -> bool:
    """Return whether a walk ended with this call."""
    return event.result < 0 and event.errno == _ENOENT


def wants_room(event: Event) -> bool:
    """Return whether a bucket held more elements than the call had room for."""
    return event.result < 0 and event.errno == _ENOSPC
