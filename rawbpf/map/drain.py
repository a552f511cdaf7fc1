"""Taking all elements out of a map, batch by batch, without losing those that nobody came to fetch.

A batch leaves the map before its elements are yielded. Those that are not, because the consumer stopped,
raised or was interrupted, are put back; what cannot be put back, since its key was stored anew or there
is no more room, is kept with the map object for the next to drain it.
Kernel side: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch (v6.12).
"""

from __future__ import annotations

from _weakref import ref

from rawbpf.errors import BpfError, KeyExists
from rawbpf.map.batch import NO_BATCH, Elements
from rawbpf.map.chunk import Chunk
from rawbpf.uapi.constants import BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from rawbpf.codec import Codec

DEFAULT_DRAIN = 4096


class Kept:
    """Elements that were taken out earlier, in the shape of a chunk."""

    __slots__ = ("count", "key_size", "keys", "value_size", "values")

    def __init__(self, pairs: list[tuple[bytes, bytes]], key_size: int, value_size: int) -> None:
        self.key_size = key_size
        self.value_size = value_size
        self.count = len(pairs)
        self.keys = memoryview(b"".join(key for key, _ in pairs))
        self.values = memoryview(b"".join(value for _, value in pairs))


class Drained:
    """What one map object has been drained of and still owes: kept elements, and drains under way."""

    __slots__ = ("_running", "kept")

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, bytes]] = []
        self._running: list[ref[Generator[Any, None, None]]] = []

    def drain(
        self,
        elements: Elements,
        key: Codec[Any],
        value: Codec[Any],
        n: int,
        one_by_one: Callable[[int], Iterator[tuple[Any, Any]]],
    ) -> Iterator[tuple[Any, Any]]:
        """Yield and remove all elements, `n` at a time; by `one_by_one` where the kernel has no batch for it."""
        drain = self._drain(elements, key, value, n, one_by_one)
        self._running = [each for each in self._running if each() is not None]
        self._running.append(ref(drain))
        return drain

    def stop(self) -> None:
        """End the drains that are under way, which puts back what they have not yielded."""
        for each in self._running:
            drain = each()
            try:
                if drain is not None:
                    drain.close()
            except ValueError:  # another thread is in it, and it will find out by itself
                continue
        self._running = []

    def _drain(
        self,
        elements: Elements,
        key: Codec[Any],
        value: Codec[Any],
        n: int,
        one_by_one: Callable[[int], Iterator[tuple[Any, Any]]],
    ) -> Generator[tuple[Any, Any], None, None]:
        # An interrupt may come between any two steps, but not between taking a pair from `pairs` and
        # yielding it, which the interpreter does not divide: `pairs` always has what was not yielded.
        earlier = Kept(self.kept, elements.key_size, elements.value_size)
        held: list[Chunk | Kept] = []
        pairs: Iterator[tuple[Any, Any]] | None = None
        held[:], self.kept = [earlier], []
        try:
            try:
                for chunk in _all(earlier, elements.chunks(n, remove=True, held=held)):
                    pairs = zip(
                        key.unpack_many(chunk.keys, chunk.count),
                        value.unpack_many(chunk.values, chunk.count),
                        strict=True,
                    )
                    yield from pairs
                    held[:], pairs = [], None
                return
            except BpfError as error:
                if error.errno not in NO_BATCH:
                    raise
            yield from one_by_one(n)
        finally:
            self._put_back(elements, held, pairs)

    def _put_back(self, elements: Elements, held: list[Chunk | Kept], pairs: Iterator[object] | None) -> None:
        left = None if pairs is None else sum(1 for _ in pairs)
        for chunk in held:
            count = chunk.count
            start = count - left if left is not None and count else 0
            if count:
                left = None  # only the first that has elements is being yielded
            keys, values, size, width = chunk.keys, chunk.values, chunk.key_size, chunk.value_size
            for i in range(start, count):
                pair = bytes(keys[i * size : (i + 1) * size]), bytes(values[i * width : (i + 1) * width])
                self.kept.append(pair)
        for i in range(len(self.kept) - 1, -1, -1):
            try:
                elements.put(*self.kept[i], BPF_NOEXIST)
            except KeyExists:
                continue  # stored anew meanwhile: neither value is the other's to lose
            except BpfError:
                break  # full, frozen or closed: the others fare no better
            del self.kept[i]


def _all(earlier: Kept, chunks: Iterator[Chunk]) -> Iterator[Chunk | Kept]:
    if earlier.count:
        yield earlier
    yield from chunks
