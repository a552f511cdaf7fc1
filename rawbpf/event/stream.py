"""The events of several buffers: which comes next, how far the consumers' positions are, and how long to wait.

The inner side of `reader`: it takes spans of records from its sources, has them decoded, and stores the consumer's
position once for a span: behind the last record that was delivered. Knows no layout of any buffer (`source`, `walk`),
no types (`decode`), and not in which ways events are handed out.

One thread reads at a time; an end may come from any. No lock is held, so that a signal handler may close the reader
that it interrupted: who is inside is an attribute, and the last one to leave closes what is open. An interrupt may come
at every call, so that what belongs together is stored without one between.
"""

from __future__ import annotations

from _thread import get_ident
from time import monotonic

from rawbpf.errors import Closed, FormatError
from rawbpf.event.ending import Ending
from rawbpf.event.listed import listed, none_left
from rawbpf.event.order import Order
from rawbpf.event.wake import LONGEST, Wake
from rawbpf.syscall.lifetime import opened_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from select import epoll
    from typing import Any, Generic, TypeVar

    from rawbpf.event.decode import Decoder
    from rawbpf.event.listed import Listed
    from rawbpf.event.source import Source
    from rawbpf.event.span import Span
    from rawbpf.map.base import Map

    T = TypeVar("T")
else:
    T = None

    class Generic:
        """Stands in for typing.Generic at run time."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))


_EBADF = 9
# How many records are decoded at a time where they are handed out one by one.
CHUNK = 1024
ALL = 1 << 62
# How long to wait for a record that is still being written, which nobody signals: seconds, twice as long each time.
_PAUSE, _LONGEST_PAUSE = 0.001, 0.016
_ASYNC = 0x80  # CO_COROUTINE
CLOSED = "the reader was closed"
CORRUPT = "the reader closed itself: the memory is corrupt"


class Stream(Generic[T]):
    """What a reader is made of: nothing of it is for users."""

    __slots__ = (
        "__weakref__",
        "_backend",
        "_busy",
        "_callback",
        "_cpu",
        "_decoder",
        "_discarded",
        "_ended",
        "_endings",
        "_events",
        "_fds",
        "_given",
        "_lent",
        "_list",
        "_looping",
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
        "_stale",
        "_told",
        "_turn",
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
        on_lost: Callable[[int, int], object] | None = None,
    ) -> None:
        self._open: list[None] = []
        self._backend = m._handle.backend
        self._what = m._handle.describe
        self._callback, self._on_lost = callback, on_lost
        self._opened_at = opened_at()
        self._order = Order()
        self._sources: list[tuple[Source, Decoder]] = []
        self._endings: list[tuple[list[Any], Ending]] = []
        self._poller: epoll | None = None
        # Why nothing can be read any more.
        self._ended = ""
        # Who is inside, besides whoever was lent memory, and tasks that wait; and which thread loops over the events,
        # of which it takes most without coming in.
        self._busy = False
        self._looping = 0
        self._lent = False
        self._waiting: list[None] = []
        # The records that are being delivered, where they came from, their decoded events, and how many of those were
        # left when the position was stored last. Events without a span are late: their positions are stored already.
        self._span: Span | None = None
        self._source: Source | None = None
        self._decoder = decoder
        self._list: list[T] = []
        self._events: Listed[T] = listed(self._list)
        self._given = self._turn = self._records = self._discarded = 0
        # Of what was delivered last; negative where that has none.
        self._cpu = -1
        # Of each source, how many lost records were told of.
        self._told: list[int] = []
        # Positions that are to be stored for events that come from several sources.
        self._owed: list[tuple[Source, int]] = []
        # Whether sources took more than was delivered, and take it again.
        self._stale = False
        try:
            for name, what in (("callback", callback), ("on_lost", on_lost)):
                if what is not None and not callable(what):
                    raise TypeError(f"{name}: expected a function, got {what!r}")
                if getattr(getattr(what, "__code__", None), "co_flags", 0) & _ASYNC:
                    raise TypeError(f"{name}: nobody would await {what!r}: use `async for` over the reader")
            self._wake = Wake(self._backend)
            self._open.append(None)
            self._fds = [self._wake.fd]
            self._attach(m, sources, decoder)
        except BaseException:
            for source in sources:
                source.close()
            raise

    def _attach(self, m: Map[Any, Any], sources: Sequence[Source], decoder: Decoder) -> None:
        ending = Ending(self, f"the map {m._handle.describe} was closed")
        self._endings.append((m._handle.mapped, ending))
        m._handle.mapped.append(ending)
        for source in sources:
            self._told.append(source.lost)
            self._sources.append((source, decoder))
            self._fds += source.fds
            if self._poller is not None:
                for fd in source.fds:
                    self._poller.register(fd, READABLE)

    # What all ways of reading are made of -----------------------------------------

    def _more(self, until: float | None, most: int = CHUNK, *, decode: bool = True) -> bool:
        # Wait for events, or for a span where they are not to be decoded; False at the time `until`, and when closed.
        self._enter()
        try:
            if self._found(until, most, decode=decode):
                return True
        finally:
            self._busy = False  # not by a call, at whose beginning an interrupt might come
            if self._ended:
                self._shut()
        if self._ended is not CLOSED:
            self._check()
        return False

    def _found(self, until: float | None, most: int = CHUNK, *, decode: bool = True) -> bool:
        # What `_more` does, for who is inside already.
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
                break
            pause = self._wait(left, pause)
        return False

    def _fill(self, most: int, decode: bool) -> bool:
        self._settle()
        if not decode:
            self._forget()
        elif self._events.__length_hint__():
            return True
        self._rewind()
        span = self._span
        if span is None:
            for _ in self._sources:
                self._turn = (self._turn + 1) % len(self._sources)
                self._source, self._decoder = self._sources[self._turn]
                self._stale = True
                span = self._take(self._source, most)
                self._span, self._stale = span, False
                if span is not None:
                    break
            self._tell()
            if span is None:
                return False
        assert self._source is not None
        if decode:
            events = self._decoded(self._source, self._decoder, span)
            self._list, self._events, self._given = events, listed(events), len(events)
        self._cpu = self._source.cpu
        return True

    def _take(self, source: Source, most: int) -> Span | None:
        # The next records of a source; what is no record is passed over, and counted.
        while True:
            try:
                span = source.take(most, self._order)
            except FormatError:
                self._ended = self._ended or CORRUPT
                raise
            if span is None or span.count:
                return span
            source.commit(span.after(0)[0], self._order)
            self._discarded += span.discarded

    def _tell(self) -> None:
        for index, (source, _) in enumerate(self._sources):
            more = source.lost - self._told[index]
            if more:
                self._told[index] = source.lost
                if self._on_lost is not None:
                    self._on_lost(source.cpu, more)

    def _decoded(self, source: Source, decoder: Decoder, span: Span) -> list[T]:
        # The events up to one that is refused. If that is the first it is passed over.
        try:
            return decoder.decode(span)
        except Exception:
            source.commit(span.after(1)[0], self._order)
            self._span, self._stale = None, True
            raise

    def _settle(self, ahead: int = 0) -> None:
        # Store the position behind the last event that was delivered, and of `ahead` that will be.
        while self._owed:
            source, position = self._owed[0]
            source.commit(position, self._order)
            del self._owed[:1]
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
            self._span = None

    def _forget(self) -> None:
        # What is decoded and not delivered is found again, unless it is late.
        if self._span is not None:
            undelivered = self._events
            self._events, self._given, self._span, self._stale = none_left(), 0, None, True
            list(undelivered)  # a loop that has this iterator comes to its end

    def _rewind(self) -> None:
        if self._stale:
            for source, _ in self._sources:
                source.rewind()
            self._stale = False

    def _wait(self, timeout: float | None, pause: float) -> float:
        # Until something comes, or somebody wakes. Return how long to wait next for a record that is being written.
        fds, longer = self._to_poll(pause)
        if longer:
            timeout = pause if timeout is None else min(timeout, pause)
        self._woken(self._backend.poll(fds, timeout if timeout is None else min(timeout, LONGEST)))
        return longer

    def _woken(self, ready: Sequence[int]) -> None:
        # Whoever woke without ending this reader is a parent or child of this process, which closed its own.
        if self._wake.fd in ready and not self._ended:
            self._wake.clear()

    def _to_poll(self, pause: float) -> tuple[list[int], float]:
        # What to wait for, which is not a buffer whose next record is being written: it counts as readable. And how
        # long to pause the next time, if there is one.
        if not any(source.busy for source, _ in self._sources):
            return self._fds, 0.0
        fds = self._fds[:1]
        for source, _ in self._sources:
            if not source.busy:
                fds += source.fds
        return fds, min(2 * pause or _PAUSE, _LONGEST_PAUSE)

    def _enter(self) -> None:
        # The thread first: none comes between the last question and the answer, as they change at calls only.
        elsewhere = self._looping and self._looping != get_ident()
        if self._busy or elsewhere:
            raise RuntimeError(
                f"the events of {self._what} are being read by another thread, or further up in this one"
            )
        if self._lent:
            raise RuntimeError(f"the events of {self._what} go on when the batch or lease is given back")
        self._busy = True

    def _leave_off(self) -> None:
        if not self._busy and not self._lent:
            self._busy = True
            try:
                self._settle()
            finally:
                self._busy = False
                if self._ended:
                    self._shut()

    def _stop_waiting(self) -> None:
        self._waiting.pop()
        if self._ended:
            self._shut()

    def _check(self) -> None:
        if self._ended:
            raise Closed(
                _EBADF,
                call="read",
                subject=f"events of {self._what}",
                hint=f"{self._ended}; m.reader() makes another",
                backend=self._backend.name,
            )

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        if self._open:
            self._wake.wake()
            self._shut()

    def _forsake(self, why: str) -> None:
        # In a forked child, where no other thread is inside; what was delivered is for the parent to store.
        left = self._events.__length_hint__()
        self._records, self._given = self._records + self._given - left, left
        self._owed.clear()
        self._waiting.clear()
        self._busy = self._lent = False
        self._end(why)

    def _shut(self) -> None:
        # The last one to leave does this, once.
        if self._busy or self._lent or self._waiting:
            return
        try:
            self._open.pop()
        except IndexError:
            return
        try:
            # An iterator that somebody has goes no further.
            left = listed(list(self._events))
            self._events = left
            self._settle()
        finally:
            self._events, self._given, self._span = none_left(), 0, None
            if self._poller is not None:
                self._poller.close()
            for mapped, ending in self._endings:
                if ending in mapped:
                    mapped.remove(ending)
            for source, _ in self._sources:
                source.close()
            self._wake.close()


READABLE = 1  # POLLIN and EPOLLIN
