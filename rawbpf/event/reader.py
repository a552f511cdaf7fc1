"""The reader of events: what all streams of records have in common, whatever buffer they come through.

It takes spans of records from its sources, has them decoded, hands out the events, and stores the consumer's position
once for a span: behind the last record that was delivered. Knows no layout of any buffer (`source`, `walk`), and no
types (`decode`). When positions move, and what interrupts cannot break: docs/explanation/ring-memory.md.

One thread reads at a time; `close()` may come from any. No lock is held, so that a signal handler may close the reader
that it interrupted: who is inside is an attribute, and the last one to leave closes what is open. An interrupt may come
at every call, so that what belongs together is stored without one between.
"""

from __future__ import annotations

from time import monotonic
from weakref import ref

from rawbpf.errors import Closed, FormatError
from rawbpf.event.decode import decoder_for
from rawbpf.event.order import Order
from rawbpf.event.stats import Stats
from rawbpf.event.wake import Wake
from rawbpf.syscall.lifetime import mark, opened_at, warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from select import epoll
    from types import TracebackType
    from typing import Any, Generic, Protocol, Self, TypeVar

    from rawbpf.codec import Description
    from rawbpf.event.decode import Decoder
    from rawbpf.event.source import Source
    from rawbpf.event.span import Span
    from rawbpf.map.base import Map

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)

    class Listed(Iterator[T_co], Protocol):
        """The iterator of a list, which knows how much is left."""

        def __length_hint__(self) -> int: ...

    class Lent(Protocol):
        """A batch or a lease: memory that somebody was lent."""
else:
    T = None

    class Generic:
        """Stands in for typing.Generic at run time."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))


_EBADF = 9
# How many records are decoded at a time where they are handed out one by one.
_CHUNK = 1024
_ALL = 1 << 62
# How long to wait for a record that is still being written, which nobody signals: seconds, twice as long each time.
_PAUSE, _LONGEST_PAUSE = 0.001, 0.016
_CLOSED = "the reader was closed"
_CORRUPT = "the reader closed itself: the memory is corrupt"


class Reader(Generic[T]):
    """Events from the buffers of programs, in the order of each buffer: `reader()` of such a map makes one.

    A context manager and an iterable. Each event is delivered once, and the consumer's position is stored behind the
    last one that was: before the reader waits, when a loop over it ends in whichever way, and when `read()` or
    `drain()` returns. One thread reads at a time.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_busy",
        "_callback",
        "_decoder",
        "_discarded",
        "_ended",
        "_endings",
        "_events",
        "_fds",
        "_given",
        "_lent",
        "_lost",
        "_on_lost",
        "_open",
        "_opened_at",
        "_order",
        "_owed",
        "_poller",
        "_records",
        "_source",
        "_sources",
        "_span",
        "_turn",
        "_untold",
        "_waiting",
        "_wake",
        "_what",
    )

    def __init__(
        self,
        m: Map[Any, Any],
        sources: Sequence[Source],
        decoder: Decoder,
        *,
        callback: Callable[[T], object] | None = None,
        on_lost: Callable[[int], object] | None = None,
    ) -> None:
        self._open: list[None] = []
        self._backend = m._handle.backend
        self._what = m._handle.describe
        self._callback, self._on_lost = callback, on_lost
        self._opened_at = opened_at()
        self._order = Order()
        self._sources: list[tuple[Source, Decoder]] = []
        self._endings: list[tuple[list[Any], _Ending]] = []
        self._poller: epoll | None = None
        # Why nothing can be read any more.
        self._ended = ""
        # Who is inside, besides whoever was lent memory, and tasks that wait.
        self._busy = False
        self._lent: Lent | None = None
        self._waiting: list[None] = []
        # The records that are being delivered, where they came from, their decoded events, and how many of those were
        # left when the position was stored last.
        self._span: Span | None = None
        self._source: Source | None = None
        self._decoder = decoder
        self._events: Listed[T] = _none()
        self._given = self._turn = self._records = self._discarded = self._lost = self._untold = 0
        # Positions that are to be stored for events that come from several sources.
        self._owed: list[tuple[Source, int]] = []
        try:
            self._wake = Wake(self._backend)
            self._open.append(None)
            self._fds = [self._wake.fd]
            self._attach(m, sources, decoder)
        except BaseException:
            for source in sources:
                source.close()
            raise

    def add(self, m: Map[Any, Any], type: Description | None = None) -> Self:
        """Read the records of another map, too, as events of `type`, which is what `m.reader()` takes; return self.

        The buffers take turns. Raises: TypeError for a map that has no records, or that is another kernel's; Closed;
        what `m.reader()` raises.
        """
        self._check()
        sources = getattr(m, "_sources", None)
        if sources is None:
            raise TypeError(f"{m!r} has no records to be read: ring buffers and perf event arrays have")
        if m._handle.backend is not self._backend:
            raise TypeError(f"{m!r} is a map of another kernel than {self._what}")
        decoder = decoder_for(m, type)
        self._attach(m, sources(), decoder)
        return self

    def _attach(self, m: Map[Any, Any], sources: Sequence[Source], decoder: Decoder) -> None:
        ending = _Ending(self, f"the map {m._handle.describe} was closed")
        self._endings.append((m._handle.mapped, ending))
        m._handle.mapped.append(ending)
        for source in sources:
            self._sources.append((source, decoder))
            self._fds += source.fds
            if self._poller is not None:
                for fd in source.fds:
                    self._poller.register(fd, _READABLE)

    # Reading ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        """Yield the events as they come, and wait for them; end when the reader is closed.

        Raises: Closed, when it was closed before, or when the map is; as `read`.
        """
        self._check()
        return self._iterated()

    def _iterated(self) -> Iterator[T]:
        try:
            while self._more(None):
                yield from self._events
        finally:
            self._leave_off()

    def read(self, timeout: float | None = None) -> T | None:
        """Return the next event; None if none has come after `timeout` seconds (0: do not wait; None: for ever).

        Raises: Closed; FormatError for a record that is shorter than its type, and is passed over, and for corrupt
        memory, which closes the reader; RuntimeError while another thread reads, or has a batch or a lease.
        """
        if self._events.__length_hint__() or self._more(deadline(timeout)):
            self._settle(1)
            for event in self._events:
                return event
        self._check()
        return None

    def drain(self, max: int | None = None) -> list[T]:
        """Return the events that are there now, at most `max`, without waiting.

        A record that is refused ends the list; as the first it raises. Raises: as `read`.
        """
        self._check()
        self._enter()
        try:
            events = self._drained(_ALL if max is None else max)
            # Until they are returned they are the next to be delivered.
            self._events, self._given = _listed(events), len(events)
            self._settle()
            self._tell()
            if not events:
                # Descriptors that somebody waits for: a simulated kernel looks at them when it is asked.
                self._backend.poll(self._fds, 0)
        finally:
            self._leave()
        self._events, self._given = _none(), 0
        self._records += len(events)
        return events

    def _drained(self, most: int) -> list[T]:
        events: list[T] = []
        owed: list[tuple[Source, int]] = []
        self._settle()
        self._forget()
        try:
            for source, decoder in self._sources:
                while len(events) < most:
                    span = self._take(source, most - len(events))
                    if span is None:
                        break
                    found = self._decoded(source, decoder, span)
                    owed.append((source, span.after(len(found))[0]))
                    events += found
                    if len(found) < span.count:
                        return events
                    self._discarded += span.discarded
                    if not span.more:
                        break
        except Exception:
            if not events:
                raise
            # It comes again.
            self._ended = "" if self._ended is _CORRUPT else self._ended
        finally:
            self._owed = owed if events else []
        return events

    # What all ways of reading are made of -----------------------------------------

    def _more(self, until: float | None, most: int = _CHUNK, *, decode: bool = True) -> bool:
        # Wait for events, or for a span where they are not to be decoded; False at the time `until`, and when closed.
        self._enter()
        try:
            pause = 0.0
            while not self._ended:
                if self._fill(most, decode):
                    return True
                # The position was stored: is there still nothing, now that the kernel sees that?
                self._order.full()
                if self._fill(most, decode):
                    return True
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return False
                pause = self._wait(left, pause)
        finally:
            self._leave()
        if self._ended is not _CLOSED:
            self._check()
        return False

    def _fill(self, most: int, decode: bool) -> bool:
        self._settle()
        span = self._span
        if span is None or not span.count:
            self._forget()
            for _ in self._sources:
                self._turn = (self._turn + 1) % len(self._sources)
                self._source, self._decoder = self._sources[self._turn]
                self._span = span = self._take(self._source, most)
                if span is not None:
                    break
            self._tell()
            if span is None:
                return False
        if decode:
            assert self._source is not None
            events = self._decoded(self._source, self._decoder, span)
            self._events, self._given = _listed(events), len(events)
        return True

    def _take(self, source: Source, most: int) -> Span | None:
        # The next records of a source; what is no record is passed over, and counted.
        while True:
            try:
                span = source.take(most, self._order)
            except FormatError:
                self._ended = self._ended or _CORRUPT
                raise
            if span is None or span.count:
                return span
            source.commit(span.after(0)[0], self._order)
            self._discarded += span.discarded
            self._lost += span.lost
            self._untold += span.lost

    def _tell(self) -> None:
        lost, self._untold = self._untold, 0
        if lost and self._on_lost is not None:
            self._on_lost(lost)

    def _decoded(self, source: Source, decoder: Decoder, span: Span) -> list[T]:
        # The events up to one that is refused. If that is the first it is passed over.
        try:
            return decoder.decode(span)
        except Exception:
            source.commit(span.after(1)[0], self._order)
            self._span = None
            raise

    def _settle(self, ahead: int = 0) -> None:
        # Store the position behind the last event that was delivered, and of `ahead` that will be.
        while self._owed:
            source, position = self._owed[-1]
            source.commit(position, self._order)
            del self._owed[-1:]
        left = self._events.__length_hint__() - ahead
        taken = self._given - left
        if not taken:
            return
        span = self._span
        if span is None or self._source is None:
            self._given, self._records = left, self._records + taken
            return
        position, start, count, runs = span.after(taken)
        self._source.commit(position, self._order)
        span.position, span.start, span.count, span.runs = position, start, count, runs
        self._given, self._records = left, self._records + taken
        if not count:
            self._discarded += span.discarded

    def _forget(self) -> None:
        # What is decoded and not delivered is found again.
        self._events, self._given, self._span = _none(), 0, None
        for source, _ in self._sources:
            source.rewind()

    def _wait(self, timeout: float | None, pause: float) -> float:
        # Until something comes, or somebody wakes. Return how long to wait next for a record that is being written.
        if any(source.busy for source, _ in self._sources):
            self._backend.poll(self._fds[:1], pause if timeout is None else min(timeout, pause))
            return min(2 * pause or _PAUSE, _LONGEST_PAUSE)
        ready = self._backend.poll(self._fds, timeout)
        if self._fds[0] in ready and not self._ended:
            # It was a parent or child of this process that closed its own.
            self._wake.clear()
        return 0.0

    def _enter(self) -> None:
        if self._busy:
            raise RuntimeError(
                f"the events of {self._what} are being read by another thread, or further up in this one"
            )
        if self._lent is not None:
            raise RuntimeError(f"the events of {self._what} go on when the batch or lease is given back")
        self._busy = True

    def _leave(self) -> None:
        self._busy = False
        if self._ended:
            self._shut()

    def _leave_off(self) -> None:
        if not self._busy and self._lent is None:
            self._settle()

    def _check(self) -> None:
        if self._ended:
            raise Closed(
                _EBADF,
                call="read",
                subject=f"events of {self._what}",
                hint=f"{self._ended}; m.reader() makes another",
                backend=self._backend.name,
            )

    # Life time -------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events, for selectors, trio and others.

        Drain the reader before waiting for it: records that were submitted with BPF_RB_NO_WAKEUP do not make it
        readable. It stays the reader's. Raises: Closed.
        """
        self._check()
        if self._poller is None:
            from select import epoll

            poller = epoll()
            for fd in self._fds:
                poller.register(fd, _READABLE)
            self._poller = poller
        return self._poller.fileno()

    @property
    def closed(self) -> bool:
        """Whether the reader was closed, or its map."""
        return bool(self._ended)

    @property
    def stats(self) -> Stats:
        """What was read so far and what waits. Events that are decoded and not delivered yet are not counted."""
        sources = [source for source, _ in self._sources]
        return Stats(
            available=sum([source.available for source in sources]),
            high_water=max([source.high_water for source in sources], default=0),
            records=self._records + self._given - self._events.__length_hint__(),
            discarded=self._discarded,
            lost=self._lost,
        )

    def close(self) -> None:
        """Close the reader, from any thread: one that waits in it is woken. Idempotent.

        What was not delivered stays in the buffer, for another reader of the map.
        """
        self._end(_CLOSED)

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        if self._open:
            self._wake.wake()
            self._shut()

    def _shut(self) -> None:
        # The last one to leave does this, once.
        if self._busy or self._lent is not None or self._waiting:
            return
        try:
            self._open.pop()
        except IndexError:
            return
        try:
            # An iterator that somebody has goes no further.
            left = _listed(list(self._events))
            self._events = left
            self._settle()
        finally:
            self._events, self._given, self._span = _none(), 0, None
            if self._poller is not None:
                self._poller.close()
            for mapped, ending in self._endings:
                if ending in mapped:
                    mapped.remove(ending)
            for source, _ in self._sources:
                source.close()
            self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", None):
            try:
                if not self._ended:
                    warn_unclosed(self, self._opened_at)
            finally:
                self._busy, self._lent = False, None
                self._waiting.clear()
                self.close()

    def __repr__(self) -> str:
        state = "closed" if self._ended else f"{self.stats.available} bytes wait"
        return f"<Reader of {self._what}: {state}{mark(self._backend)}>"


class _Ending:
    # Among the memory of a map: the reader ends when the map is closed.

    def __init__(self, reader: Reader[Any], why: str) -> None:
        self._reader = ref(reader)
        self._why = why

    def stop_writing(self) -> None:
        pass

    def drop(self) -> None:
        reader = self._reader()
        if reader is not None:
            reader._end(self._why)


_READABLE = 1  # POLLIN and EPOLLIN


def _listed(events: list[T]) -> Listed[T]:
    return iter(events)  # type: ignore[return-value]  # a list's iterator has __length_hint__


def _none() -> Listed[Any]:
    return _listed([])


def deadline(timeout: float | None) -> float | None:
    """Return when `timeout` seconds from now have passed, by the monotonic clock; None: never."""
    return None if timeout is None else monotonic() + timeout
