"""The reader of events: one by one, many at once, where they lie, or as they come to an event loop.

The ways in which events are handed out; `stream` finds them and keeps the positions. When those move, and what
interrupts cannot break: docs/explanation/ring-memory.md.
"""

from __future__ import annotations

from _thread import get_ident

from rawbpf.event.decode import decoder_for
from rawbpf.event.listed import listed
from rawbpf.event.stats import Stats
from rawbpf.event.stream import ALL, CHUNK, CLOSED, CORRUPT, READABLE, Stream
from rawbpf.event.wake import deadline
from rawbpf.syscall.lifetime import mark, warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from types import TracebackType
    from typing import Any, NoReturn, Self, TypeVar, Unpack

    from rawbpf.event.batch import Batch, Lease
    from rawbpf.event.decode import Types
    from rawbpf.event.source import Buffers, Source
    from rawbpf.map.base import Map

    T = TypeVar("T")
else:
    T = None


class Reader(Stream[T]):
    """Events from the buffers of programs, in the order of each buffer: `reader()` of such a map makes one.

    A context manager and an iterable. Each event is delivered once, and the consumer's position is stored behind the
    last one that was: before the reader waits, when a loop over it ends in whichever way, and when `read()` or
    `drain()` returns. One thread reads at a time.
    """

    __slots__ = ()

    def add(
        self, m: Map[Any, Any], type: Types | None = None, *, tag: str | None = None, **buffers: Unpack[Buffers]
    ) -> Self:
        """Read the records of another map, too, as events of `type` and `tag`, which `m.reader()` takes; return self.

        `buffers`, of a perf event array: `size_per_cpu`, `wakeup_events`, `wakeup_watermark`, `overwrite` and `cpus`,
        as for its `reader()`. The buffers take turns. Raises: TypeError for a map that has no records, no such buffers,
        or that is another kernel's; Closed; what `m.reader()` raises.
        """
        self._check()
        sources = getattr(m, "_sources", None)
        if sources is None:
            raise TypeError(f"{m!r} has no records to be read: ring buffers and perf event arrays have")
        if any(mapped is m._handle.mapped for mapped, _ in self._endings):
            raise ValueError(f"{m!r} is being read by this reader already")
        if buffers and m.map_type != "perf_event_array":
            raise TypeError(f"{', '.join(buffers)}: of perf event arrays alone, which {m!r} is not")
        if m._handle.backend is not self._backend:
            raise TypeError(f"{m!r} is a map of another kernel than {self._what}")
        decoder = decoder_for(m, type, tag)
        self._attach(m, sources(**buffers), decoder)
        return self

    # Reading ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        """Yield the events as they come, and wait for them; end when the reader is closed.

        Raises: Closed, when it was closed before, or when the map is; as `read`.
        """
        self._check()
        return self._iterated()

    def _iterated(self) -> Iterator[T]:
        try:
            self._looping = get_ident()
            while self._more(None):
                yield from self._events
                self._looping = get_ident()
        finally:
            self._looping = 0
            self._leave_off()

    def __aiter__(self) -> AsyncIterator[T]:
        """Yield the events as they come, and let other tasks of asyncio run meanwhile; else as `__iter__`."""
        from rawbpf.event.asynchronous import Events

        self._check()
        return Events(self)

    def read(self, timeout: float | None = None) -> T | None:
        """Return the next event; None if none has come after `timeout` seconds (0: do not wait; None: for ever).

        Raises: Closed; FormatError for a record that is shorter than its type, and is passed over, and for corrupt
        memory, which closes the reader; RuntimeError while another thread reads, or has a batch or a lease.
        """
        self._enter()
        try:
            if self._events.__length_hint__() or self._found(deadline(timeout)):
                self._settle(1)
                for event in self._events:
                    return event
        finally:
            self._busy = False  # not by a call, at whose beginning an interrupt might come
            if self._ended:
                self._shut()
        self._check()
        return None

    def drain(self, max: int | None = None) -> list[T]:
        """Return the events that are there now, at most `max`, without waiting.

        A record that is refused ends the list; as the first it raises. Raises: as `read`.
        """
        self._check()
        most = ALL if max is None else max
        if not hasattr(most, "__index__"):
            raise TypeError(f"max: expected a number of events or None, got {max!r}")
        if most < 0:
            raise ValueError(f"max: expected a number of events or None, got {max!r}")
        self._enter()
        try:
            events, owed = self._drained(most)
            cpu = owed[-1][0].cpu if owed else -1
            # Until they are returned they are the next to be delivered: late ones, for what comes now is final.
            self._list, self._events, self._given, self._owed, self._stale = (
                events,
                listed(events),
                len(events),
                owed,
                True,
            )
            self._settle()
            self._tell()
            if not events:
                # Descriptors that somebody waits for: a simulated kernel looks at them when it is asked.
                self._backend.poll(self._fds, 0)
            events, rest = events[:most], events[most:]
            later, records = listed(rest), self._records + len(events)
            self._list, self._events, self._given, self._records = rest, later, len(rest), records
            self._cpu = cpu if events else self._cpu
            return events
        finally:
            self._busy = False  # not by a call, at whose beginning an interrupt might come
            if self._ended:
                self._shut()

    def _drained(self, most: int) -> tuple[list[T], list[tuple[Source, int]]]:
        # The events, late ones first, and which positions are to be stored when they are delivered.
        self._settle()
        self._forget()
        left = self._events.__length_hint__()
        events = self._list[-left:] if left else []
        owed: list[tuple[Source, int]] = []
        self._rewind()
        self._stale = True
        for source, decoder in self._sources:
            while len(events) < most:
                try:
                    span = self._take(source, most - len(events))
                    if span is None:
                        break
                    found = decoder.decode(span) if events else self._decoded(source, decoder, span)
                except Exception:
                    if not events:
                        raise
                    # It comes again, and is the first then.
                    self._ended = "" if self._ended is CORRUPT else self._ended
                    return events, owed
                owed.append((source, span.after(len(found))[0]))
                events += found
                if len(found) < span.count:
                    return events, owed
                self._discarded += span.discarded
                if not span.more:
                    break
        return events, owed

    def poll(self, timeout: float | None = None) -> int:
        """Call `callback` with each event that is there, about 1024 at most, and return how many those were.

        Waits for the first, at most `timeout` seconds (0: do not wait; None: for ever). What the callback raises comes
        out of here; the position is then behind the event that it was called with.
        Raises: TypeError for a reader without callback; as `read`.
        """
        callback = self._callback
        if callback is None:
            raise TypeError("there is no callback to call: m.reader(callback=...) takes one")
        called, until = 0, deadline(timeout)
        # A buffer at a time: what others have comes in the next turn.
        while called < CHUNK and (self._events.__length_hint__() or self._more(until)):
            until = 0.0
            try:
                for event in self._events:
                    called += 1
                    callback(event)
            finally:
                self._leave_off()
        if not called:
            self._check()
        return called

    def batches(self, timeout: float | None = None) -> Generator[Batch, None, None]:
        """Yield what is there, all records of a buffer at a time, as long as something comes within `timeout` seconds.

        0: do not wait; None: for ever. A batch is good until the next is asked for: the position is then stored
        behind its last record. A loop that ends before, by `break` or an exception, leaves a batch in the buffer if
        nothing was taken of it. Ends when the reader is closed. Raises: as `read`, but no record is refused.
        """
        self._check()
        return self._batches(timeout)

    def _batches(self, timeout: float | None) -> Generator[Batch, None, None]:
        from rawbpf.event.batch import Batch

        while self._more(deadline(timeout), ALL, decode=False):
            assert self._span is not None
            batch = Batch(self._span, self._decoder, self._cpu)
            given = self._span.count + self._events.__length_hint__()
            self._lent, over = True, False
            try:
                yield batch
                over = True
            finally:
                # First, and not by a call: an interrupt might come there.
                self._lent = False
                if over or batch._seen:
                    self._given = given
                batch._end()
                self._leave_off()

    def lease(self, timeout: float | None = None) -> Lease:
        """Return the next record as a view of its bytes, which `with` hands out; None at the end of `timeout` seconds.

        0: do not wait; None: for ever. The memory is the buffer's until the lease is given back, at the end of
        the `with` block; until then nothing else can be read. Raises: as `read`.
        """
        from rawbpf.event.batch import Lease

        if not self._more(deadline(timeout), 1, decode=False):
            self._check()
            return Lease(None, bool)
        assert self._span is not None
        left, returned = self._events.__length_hint__(), False

        def give_back(seen: bool) -> None:
            nonlocal returned
            if not returned:
                returned, self._lent, self._given = True, False, left + seen
                self._leave_off()

        lease = Lease(self._span, give_back)
        self._lent = True
        return lease

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
                poller.register(fd, READABLE)
            self._poller = poller
        return self._poller.fileno()

    @property
    def closed(self) -> bool:
        """Whether the reader was closed, or its map."""
        return bool(self._ended)

    @property
    def cpu(self) -> int | None:
        """The CPU whose program wrote the event that was delivered last; of `drain()` the last of its list.

        None: nothing was delivered yet, or it came from a ring buffer, or a `drain()` that was interrupted had it.
        """
        return None if self._cpu < 0 else self._cpu

    @property
    def stats(self) -> Stats:
        """What was read so far and what waits. Events that are decoded and not delivered yet are not counted."""
        sources = [source for source, _ in self._sources]
        return Stats(
            available=sum([source.available for source in sources]),
            high_water=max([source.high_water for source in sources], default=0),
            records=self._records + self._given - self._events.__length_hint__(),
            discarded=self._discarded,
            lost=sum([source.lost for source in sources]),
        )

    def close(self) -> None:
        """Close the reader, from any thread: one that waits in it is woken. Idempotent.

        What was not delivered stays in the buffer, for another reader of the map.
        """
        self._end(CLOSED)

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
                self._busy = self._lent = False
                self._waiting.clear()
                self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a reader cannot be copied or pickled: m.reader() makes another")

    def __repr__(self) -> str:
        state = "closed" if self._ended else f"{self.stats.available} bytes wait"
        return f"<Reader of {self._what}: {state}{mark(self._backend)}>"
