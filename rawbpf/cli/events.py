"""Events of programs as `rawbpf run` shows them: of which maps, of what type, and read as they come.

Records are read as bytes and decoded here, so that one that is shorter than its type is shown as it is. What was read
is handed to the view at once: nothing waits in between for the next look at the maps. Times are those of reading.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from rawbpf.cli.failure import Failure, tell
from rawbpf.cli.leaf import NUMBER, OTHER, PID, Leaf, leaves
from rawbpf.cli.lines import cell
from rawbpf.cli.text import plain
from rawbpf.codec import codec_for
from rawbpf.codec.structure import StructCodec
from rawbpf.errors import SpecError
from rawbpf.event.decode import record_codec
from rawbpf.event.perf_event_array import PerfEventArrayMap
from rawbpf.event.ring import RingBufMap
from rawbpf.syscall.rule import article
from rawbpf.uapi.constants import BPF_MAP_TYPE_PERF_EVENT_ARRAY, BPF_MAP_TYPE_RINGBUF
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rawbpf.cli.lines import View
    from rawbpf.cli.names import Names
    from rawbpf.codec import Codec
    from rawbpf.loader.object import Object
    from rawbpf.loader.spec import ObjectSpec

    EventMap = RingBufMap | PerfEventArrayMap

_TYPES = (BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_PERF_EVENT_ARRAY)
# How many events of a map are read before the next map, a signal or a look is due.
_MOST = 1024
# No record takes less, with its header.
_SMALLEST = 8
# How long to wait at the end for a record that a program is just writing: seconds.
_GRACE = 0.1


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event is: in which map, of which type (None: bytes), and its columns."""

    map: str
    type: str | None
    leaves: Sequence[Leaf]


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
    """A map whose events are read. `kind` and `codec` say what its records are; without a codec they are bytes."""

    def __init__(self, m: EventMap, kind: Kind, codec: Codec[object] | None) -> None:
        self._kind = kind
        self._codec = codec
        self._bytes = Kind(kind.map, None, [Leaf((), "value", OTHER)])
        self._losses: list[Loss] = []
        self._reader = m.reader(on_lost=lambda cpu, count: self._losses.append(Loss(kind.map, cpu, count)))

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
        codec = self._codec
        if codec is None or len(record) < codec.size:
            return Event(self._bytes, record)
        return Event(self._kind, codec.unpack(record[: codec.size]))


class Events:
    """The events of several maps, for a `with` block."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams

    def filenos(self) -> list[int]:
        """Return descriptors, one of which is readable when there are events."""
        return [stream.fileno() for stream in self._streams]

    def show(self, view: View) -> bool:
        """Show what has come, or the first of it, and return whether there was anything. Raises: FormatError."""
        shown = False
        for stream in self._streams:
            found = stream.read(_MOST)
            if found:
                view.tell(found, time.time())
                shown = True
        return shown

    def finish(self, view: View) -> None:
        """Show all that there is by now, also what a program is just writing, but not what comes meanwhile.

        Programs that stay attached by their pins would go on for ever. Raises: FormatError.
        """
        for stream in self._streams:
            left = stream.available // _SMALLEST
            while left > 0 and stream.available:
                found = stream.read(min(left, _MOST), _GRACE)
                if not found:
                    break
                view.tell(found, time.time())
                left -= len(found)

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


def event_maps(spec: ObjectSpec, names: Sequence[str], wanted: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the maps of events among `names` and in `wanted`, each with the name of its type, empty where none is.

    `wanted`: pairs of map and type. Raises: Failure for a map that has no events, and for one that is there twice.
    """
    having = [name for name, each in spec.maps.items() if each.map_type in _TYPES]
    found = {name: "" for name in names if name in having}
    for name, type in wanted:
        if name not in having:
            known = f"its maps of events are {', '.join(sorted(having))}" if having else "it has no maps of events"
            why = "the object has no such map"
            if name in spec.maps and not spec.maps[name].is_data:
                why = f"{article(map_type_name(spec.maps[name].map_type))} has no events"
            raise Failure(f"--event {name}={type}: {why}; {known}")
        if found.get(name):
            raise Failure(f"--event {name}={type}: the events of a map are of one type, and {found[name]} is asked for")
        found[name] = type
    return found


def open_events(obj: Object, types: Mapping[str, str], *, asked: Collection[str]) -> Events:
    """Open readers of maps, by name with their types; empty: of the struct that is called as the map is, else bytes.

    Raises: Failure for a type that there is not; what opening a reader raises for a map that was `asked` for. Others
    are told and left out.
    """
    streams: list[Stream] = []
    events = Events(streams)
    try:
        for name, type in types.items():
            m = obj.maps[name]
            assert isinstance(m, (RingBufMap, PerfEventArrayMap))
            called, codec = _asked(m, name, type) if type else _guessed(m, name)
            kind = Kind(name, called, [] if codec is None else _columns(codec))
            try:
                streams.append(Stream(m, kind, codec))
            except (OSError, ValueError) as error:  # the latter: programs write over what is old
                if name in asked:
                    raise
                tell(f"not shown: {name}: {error}")
    except BaseException:
        events.close()
        raise
    return events


def _asked(m: EventMap, name: str, type: str) -> tuple[str, Codec[object]]:
    try:
        return type, record_codec(m, type)
    except (SpecError, ValueError) as error:
        message = str(error).removeprefix(f"map {m._shape}: ")
        raise Failure(f"--event {name}={type}: {message}") from error


def _guessed(m: EventMap, name: str) -> tuple[str | None, Codec[object] | None]:
    # As C programs call them: the map `events` has records of `struct event`.
    for called in (name, *_singulars(name)):
        try:
            found = None if m._types is None else m._types.find(called)
            codec = None if found is None else codec_for(found)
        except ValueError:  # what is damaged, or no type of values, is not what was meant
            continue
        if isinstance(codec, StructCodec):
            return called, codec
    return None, None


def _singulars(name: str) -> list[str]:
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return [name.removesuffix(many) + one for many, one in endings if name.endswith(many)]


def _columns(codec: Codec[object]) -> list[Leaf]:
    # What a process is called now is not what it was called then, and its number may be another's by now.
    return [replace(leaf, kind=NUMBER) if leaf.kind == PID else leaf for leaf in leaves(codec, "value")]
