"""Taking all elements out of a map, batch by batch, without losing those that nobody came to fetch.

A batch leaves the map before its elements are yielded. Those that are not, because the consumer stopped,
raised or was interrupted, are put back; what cannot be put back, since its key was stored anew or there
is no more room, is kept with the map object for the next to drain it. A forked child has copies of all
this, and leaves it to its parent: else both would yield what either puts back.

An interrupt may come between any two steps of the interpreter that call or loop, and nowhere else: what
must happen together stands side by side without a call, and putting back can be taken up where it ended.
Threads are switched at the same places, so that this also keeps them apart.
Kernel side: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch (v6.12).
"""

from __future__ import annotations

from _weakref import ref
from os import getpid

from rawbpf.errors import BpfError
from rawbpf.map.batch import NO_BATCH, Elements
from rawbpf.map.chunk import Chunk
from rawbpf.map.handle import closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import GeneratorType
    from typing import Any

    from rawbpf.codec import Codec

DEFAULT_DRAIN = 4096


class Kept:
    """Elements that were taken out earlier, in the shape of a chunk."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.pairs)

    @property
    def keys(self) -> memoryview:
        """Their keys, side by side."""
        return memoryview(b"".join([key for key, _ in self.pairs]))

    @property
    def values(self) -> memoryview:
        """Their values, side by side."""
        return memoryview(b"".join([value for _, value in self.pairs]))


class _Taking:
    # The batch that one drain is at: what the kernel put into it, and which of it was yielded.

    __slots__ = ("busy", "chunk", "elements", "end", "pairs", "process", "putting", "stopped", "unasked")

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self.chunk: Chunk | Kept | None = None
        self.pairs: Iterator[tuple[Any, Any]] | None = None
        self.process = getpid()  # the one that took the batch
        # While it is put back, from the last one on: how many are left, and which one is at it.
        self.end = self.putting = -1
        # Whether somebody is putting it back at this moment.
        self.busy = False
        # Whether the map is being closed, and what that kept from being yielded.
        self.stopped = False
        self.unasked: list[tuple[Any, Any]] = []

    def hold(self, chunk: Chunk) -> None:
        self.process = getpid()
        if self.stopped:
            raise closed(str(self.elements.shape))
        self.chunk, self.pairs = chunk, None

    def stop(self) -> bool:
        # Nothing is yielded any more of a batch that is being yielded; False where there is none. The other thread
        # may be about to ask for its next pair: the list's iterator is emptied in one step.
        self.stopped = True
        if self.pairs is None:
            return False
        self.unasked += self.pairs
        return True

    def yielded(self, count: int) -> int:
        # A list's iterator tells how many it still has without giving them.
        return 0 if self.pairs is None else count - self.pairs.__length_hint__() - len(self.unasked)  # type: ignore[attr-defined]

    def pair(self, i: int) -> tuple[bytes, bytes]:
        assert self.chunk is not None
        if isinstance(self.chunk, Kept):
            return self.chunk.pairs[i]
        size, width = self.elements.key_size, self.elements.value_size
        keys, values = self.chunk.keys, self.chunk.values
        return bytes(keys[i * size : (i + 1) * size]), bytes(values[i * width : (i + 1) * width])


class Drained:
    """What one map object has been drained of and still owes: kept elements, and drains under way."""

    __slots__ = ("_process", "_running", "kept")

    def __init__(self) -> None:
        self._process = getpid()
        self.kept: list[tuple[bytes, bytes]] = []
        self._running: list[tuple[ref[GeneratorType[Any, None, None]], _Taking]] = []

    def drain(
        self,
        elements: Elements,
        key: Codec[Any],
        value: Codec[Any],
        n: int,
        one_by_one: Callable[[int], Iterator[tuple[Any, Any]]],
    ) -> Iterator[tuple[Any, Any]]:
        """Yield and remove all elements, `n` at a time; by `one_by_one` where the kernel has no batch for it."""
        self._take_up()
        taking = _Taking(elements)
        drain = self._drain(taking, key, value, n, one_by_one)
        self._running.append((ref(drain), taking))  # type: ignore[arg-type]  # typeshed: no generator has a frame
        return drain

    def stop(self) -> None:
        """Put back what drains under way have not yielded; their consumers are told Closed when they ask for more."""
        for _, taking in self._running[:]:
            if taking.stop():
                self._put_back(taking)
        self._take_up()

    def forget(self) -> None:
        """Owe nothing any more of what earlier drains left."""
        for each in self._running[:]:
            if _has_ended(each[0]):
                _drop(self._running, each)
        self.kept = []

    def _take_up(self) -> None:
        if self._process != getpid():  # a child owes nothing of what its parent took
            self.forget()
            self._process = getpid()
        # Drains that were interrupted while they put back have ended and left it to whoever comes next.
        for each in self._running[:]:
            if _has_ended(each[0]):
                self._put_back(each[1])
                if each[1].chunk is None:
                    _drop(self._running, each)

    def _drain(
        self,
        taking: _Taking,
        key: Codec[Any],
        value: Codec[Any],
        n: int,
        one_by_one: Callable[[int], Iterator[tuple[Any, Any]]],
    ) -> Generator[tuple[Any, Any], None, None]:
        taking.chunk = earlier = Kept()
        try:
            earlier.pairs, self.kept = self.kept, []
            try:
                for chunk in _all(earlier, taking.elements.chunks(n, remove=True, hold=taking.hold)):
                    keys, values = (
                        key.unpack_many(chunk.keys, chunk.count),
                        value.unpack_many(chunk.values, chunk.count),
                    )
                    taking.pairs = iter(list(zip(keys, values, strict=True)))
                    yield from taking.pairs
                    if taking.unasked:
                        raise closed(str(taking.elements.shape))
                return
            except BpfError as error:
                if error.errno not in NO_BATCH:
                    raise
            yield from one_by_one(n)
        finally:
            self._put_back(taking)

    def _put_back(self, taking: _Taking) -> None:
        if taking.process != getpid():
            taking.chunk = None
        # A drain that another thread dropped has ended for `_take_up` while that thread is still at this.
        if taking.busy or taking.chunk is None:
            return
        taking.busy = True
        try:
            self._put_back_rest(taking, taking.chunk.count)
        finally:
            taking.busy = False

    def _put_back_rest(self, taking: _Taking, count: int) -> None:
        start = taking.yielded(count)
        if taking.end < 0:
            taking.end = count
        stopped = False
        while taking.end > start:
            at = taking.end - 1
            pair = taking.pair(at)
            again, taking.putting = taking.putting == at, at
            try:
                fits = not stopped and taking.elements.insert(*pair)
                # An interrupt may have come between the kernel's having taken it and our noting that.
                fits = fits or (again and taking.elements.has(*pair))
            except BpfError:
                stopped, fits = True, False  # full, frozen or closed: the others fare no better
            if not fits:
                self.kept += (pair,)
            taking.end = at
        taking.chunk = None


def _all(earlier: Kept, chunks: Iterator[Chunk]) -> Iterator[Chunk | Kept]:
    if earlier.count:
        yield earlier
    yield from chunks


def _has_ended(reference: ref[GeneratorType[Any, None, None]]) -> bool:
    drain = reference()
    return drain is None or drain.gi_frame is None


def _drop(running: list[Any], each: object) -> None:
    try:
        running.remove(each)
    except ValueError:  # another thread was quicker
        pass
