"""Events of programs as `rawbpf run` shows them, read as they come; what they are is the business of `event_kind`.

Records are read as bytes and decoded here, so that one that is shorter than its type is shown as it is. What was read
is handed to the view at once: nothing waits in between for the next look at the maps. Times are those of reading.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rawbpf.cli.event_kind import kinds_of
from rawbpf.cli.failure import tell
from rawbpf.cli.lines import cell
from rawbpf.cli.text import plain
from rawbpf.errors import FormatError
from rawbpf.event.perf_event_array import PerfEventArrayMap
from rawbpf.event.ring import RingBufMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType
    from typing import Self

    from rawbpf.cli.event_kind import Asked, EventMap, Kind, Kinds
    from rawbpf.cli.lines import View
    from rawbpf.cli.names import Names
    from rawbpf.loader.object import Object

# How many events of a map are read before the next map, a signal or a look is due.
_MOST = 1024
# No record takes less, with its header.
_SMALLEST = 8
# How long to wait at the end for a record that a program is just writing: seconds.
_GRACE = 0.1


@dataclass(frozen=True, slots=True)
class Event:
    """A record that a program wrote."""

    kind: Kind
    value: object

    def line(self, names: Names) -> str:
        """Return it for human eyes: `exec_events pid=4711 uid=1000(alice) comm=sh`."""
        cells = [cell(leaf.heading, leaf.kind, leaf.of(self.value), names) for leaf in self.kind.leaves]
        return " ".join([self.kind.map, *cells])

    def plain(self) -> dict[str, object]:
        """Return what JSON says of it."""
        return {"event": self.kind.map, "type": self.kind.type, "value": plain(self.value)}


@dataclass(frozen=True, slots=True)
class Loss:
    """So many records of a CPU that found no room, as the kernel tells of perf buffers."""

    map: str
    cpu: int
    count: int

    def line(self, names: Names) -> str:  # noqa: ARG002  # there are none in it
        """Return it for human eyes."""
        return f"{self.map} lost={self.count} cpu={self.cpu}"

    def plain(self) -> dict[str, object]:
        """Return what JSON says of it."""
        return {"event": self.map, "lost": self.count, "cpu": self.cpu}


class Stream:
    """A map whose events are read. `kinds` says what its records are."""

    def __init__(self, m: EventMap, name: str, kinds: Kinds) -> None:
        self._kinds = kinds
        self._losses: list[Loss] = []
        self._reader = m.reader(on_lost=lambda cpu, count: self._losses.append(Loss(name, cpu, count)))

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events."""
        return self._reader.fileno()

    @property
    def available(self) -> int:
        """How many bytes of records there are."""
        return self._reader.stats.available

    def read(self, most: int, timeout: float = 0.0) -> list[Event | Loss]:
        """Return what is there, at most so many events; wait `timeout` seconds for the first. Raises: FormatError."""
        records = self._reader.drain(most)
        if not records and timeout:
            record = self._reader.read(timeout)
            records = [] if record is None else [record]
        found: list[Event | Loss] = [self._event(record) for record in records]
        found += self._losses
        self._losses.clear()
        return found

    def close(self) -> None:
        """Close the reader. What it did not read stays in the map."""
        self._reader.close()

    def _event(self, record: bytes) -> Event:
        kind = self._kinds.of(record)
        codec = kind.codec
        return Event(kind, record if codec is None else codec.unpack(record[: codec.size]))


class Events:
    """The events of several maps, for a `with` block. `broken`: why one of them cannot be read any more, if so.

    Memory that is corrupt ends the reading of its map alone: what the others have can still be shown.
    """

    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams
        self.broken: FormatError | None = None

    def filenos(self) -> list[int]:
        """Return descriptors, one of which is readable when there are events."""
        return [stream.fileno() for stream in self._streams]

    def show(self, view: View) -> bool:
        """Show what has come, or the first of it, and return whether there was anything."""
        shown = False
        for stream in self._streams[:]:
            found = self._read(stream, _MOST)
            if found:
                view.tell(found, time.time())
                shown = True
        return shown

    def finish(self, view: View) -> None:
        """Show all that there is by now, also what a program is just writing, but not what comes meanwhile.

        Programs that stay attached by their pins would go on for ever.
        """
        for stream in self._streams[:]:
            left = stream.available // _SMALLEST
            while left > 0 and stream.available:
                found = self._read(stream, min(left, _MOST), _GRACE)
                if not found:
                    break
                view.tell(found, time.time())
                left -= len(found)

    def _read(self, stream: Stream, most: int, timeout: float = 0.0) -> list[Event | Loss]:
        try:
            return stream.read(most, timeout)
        except FormatError as error:
            self.broken = self.broken or error
            self._streams.remove(stream)
            stream.close()
            return []

    def close(self) -> None:
        """Close the readers. Idempotent."""
        for stream in self._streams:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_events(obj: Object, wanted: Mapping[str, Asked | None], *, asked: Collection[str]) -> Events:
    """Open readers of maps, by name with what is asked of them.

    Raises: Failure for a type that there is not; what opening a reader raises for a map that was `asked` for. Others
    are told and left out.
    """
    streams: list[Stream] = []
    events = Events(streams)
    try:
        for name, each in wanted.items():
            m = obj.maps[name]
            assert isinstance(m, (RingBufMap, PerfEventArrayMap))
            kinds = kinds_of(m, name, each)
            try:
                streams.append(Stream(m, name, kinds))
            except (OSError, ValueError) as error:  # the latter: programs write over what is old
                if name in asked:
                    raise
                tell(f"not shown: {name}: {error}")
    except BaseException:
        events.close()
        raise
    return events
