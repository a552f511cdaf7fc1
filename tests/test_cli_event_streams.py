"""What `rawbpf run` reads of maps of events: their types, records that are too short, losses, and where it ends."""

from __future__ import annotations

import json
import os
import struct
import time
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, cast

import pytest
from support.objects import native
from support.perf_buffers import Producer as PerfProducer
from support.rings import Producer

import rawbpf
from rawbpf.cli.event_kind import event_maps, event_option
from rawbpf.cli.events import Event, Events, open_events
from rawbpf.cli.failure import Failure
from rawbpf.cli.lines import Json, Lines
from rawbpf.cli.stop import Stop
from rawbpf.cli.watch import watch
from rawbpf.errors import FormatError, PermissionDenied
from rawbpf.loader.object import Links
from rawbpf.uapi.constants import BPF_RB_NO_WAKEUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rawbpf.cli.events import Loss
    from rawbpf.cli.output import Output
    from rawbpf.cli.variable import Globals
    from rawbpf.loader.types import ObjectTypes
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("module:elftools", "map_type:ringbuf", "prog_type:syscall")

STARTED = struct.pack("=IIQ16s", 1, 0, 77, b"sh").ljust(128, b"\0")
ENDED = struct.pack("=IIi", 2, 3, -1)
FOREVER = 1000.0


class Collected:
    """Takes what a view writes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class Seen(Lines):
    """Keeps the events; `meanwhile` is called when it is told of some."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(cast("Output", Collected()))
        self.events: list[Event | Loss] = []
        self._meanwhile = meanwhile

    def tell(self, events: Sequence[Event | Loss], when: float) -> None:
        self.events += events
        self._meanwhile()

    @property
    def values(self) -> list[object]:
        return [each.value for each in self.events if isinstance(each, Event)]


@pytest.fixture
def obj(backend: Backend) -> Iterator[rawbpf.Object]:
    with rawbpf.ObjectSpec.from_file(native("events")).load(only=[]) as loaded:
        yield loaded


@pytest.fixture
def producer(obj: rawbpf.Object) -> Iterator[Producer]:
    ring = obj.maps["events"]
    assert isinstance(ring, rawbpf.RingBufMap)
    with Producer(ring) as made:
        yield made


def opened(obj: rawbpf.Object, option: str) -> Events:
    """Open the events of a map, of which `option` says no more than the name, or what `--event` takes."""
    wanted = event_option(option) if "=" in option else None
    return open_events(obj, {option if wanted is None else wanted.map: wanted}, asked=())


def shown(events: Events) -> tuple[list[str], list[dict[str, object]]]:
    """Return what is there as lines, without their times, and as what JSON says of it."""
    seen, lines, objects = Seen(), Collected(), Collected()
    events.show(seen)
    Lines(cast("Output", lines)).tell(seen.events, 0)
    Json(cast("Output", objects)).tell(seen.events, 0)
    read = [json.loads(line) for line in objects.text.splitlines()]
    assert all(each.pop("time") == 0 for each in read)
    return [line.partition(" ")[2] for line in lines.text.splitlines()], read


def test_fields_are_columns_and_structs_are_objects(obj: rawbpf.Object, producer: Producer) -> None:
    producer.output(ENDED)
    with opened(obj, "events=ended") as events:
        assert shown(events) == (
            ["events header.kind=ENDED header.cpu=3 code=-1"],
            [
                {
                    "event": "events",
                    "type": "ended",
                    "value": {"header": {"kind": "ENDED", "cpu": 3}, "code": -1},
                }
            ],
        )


def test_without_a_type_events_are_hex(obj: rawbpf.Object, producer: Producer) -> None:
    producer.output(b"\x01\xff")
    with opened(obj, "events") as events:
        assert shown(events) == (
            ["events value=01ff"],
            [{"event": "events", "type": None, "value": "01ff"}],
        )


def test_a_record_that_is_shorter_than_its_type_is_hex_and_the_next_is_not(
    obj: rawbpf.Object, producer: Producer
) -> None:
    for record in (ENDED, ENDED[:11], ENDED + b"more", b""):
        producer.output(record)
    with opened(obj, "events=ended") as events:
        lines, read = shown(events)
    assert [line.partition(" ")[2] for line in lines[::2]] == ["header.kind=ENDED header.cpu=3 code=-1"] * 2
    assert lines[1::2] == [f"events value={ENDED[:11].hex()}", 'events value=""']
    assert [each["type"] for each in read] == ["ended", None, "ended", None]


@pytest.mark.parametrize(
    "types",
    [
        pytest.param("STARTED:started,ENDED:ended", id="enumerators"),
        pytest.param("1:struct started,0x2:ended", id="numbers"),
        pytest.param("2:ended,STARTED:started", id="both"),
    ],
)
def test_a_field_tells_types_apart_and_what_it_does_not_know_is_hex(
    obj: rawbpf.Object, producer: Producer, types: str
) -> None:
    strange = struct.pack("=II", 70000, 0)
    for record in (STARTED, ENDED, strange, ENDED[:11], b"\2", STARTED + b"more"):
        producer.output(record)
    with opened(obj, f"events:header.kind={types}") as events:
        lines, read = shown(events)
    assert lines[0].startswith("events header.kind=STARTED header.cpu=0 when=77 comm=sh small=0 ")
    assert lines[1:5] == [
        "events header.kind=ENDED header.cpu=3 code=-1",
        f"events value={strange.hex()}",
        f"events value={ENDED[:11].hex()}",
        "events value=02",
    ]
    assert lines[5] == lines[0]
    started = "struct started" if "struct" in types else "started"
    assert [each["type"] for each in read] == [started, "ended", None, None, None, started]
    assert read[1]["value"] == {"header": {"kind": "ENDED", "cpu": 3}, "code": -1}


@pytest.mark.parametrize(
    ("option", "because"),
    [
        pytest.param(
            "events:kind=1:started",
            "tag='kind': struct started: no field 'kind': there are header, when",
            id="no-field",
        ),
        pytest.param(
            "events:header.kind=1:endd", "no struct, .* is called 'endd' in .*; there is 'ended'", id="no-type"
        ),
        pytest.param("events:header.kind=1:u32", "tag='header.kind': u32: .*u32 is no struct", id="no-struct"),
        pytest.param("events:header.kind=STARTD:started", ".*no 'STARTD'; it has STARTED, ENDED", id="no-enumerator"),
        pytest.param("events:header.kind=-1:ended", "the value of header.kind: expected an int in 0..", id="negative"),
        pytest.param("events:header.kind=1:ended,STARTED:started", ".*1 and 'STARTED' are the same value", id="same"),
        pytest.param("events:header.cpu=x:ended", "the value of header.cpu: expected an int .*got 'x'", id="no-number"),
    ],
)
def test_types_that_a_field_cannot_tell_apart_are_refused(obj: rawbpf.Object, option: str, because: str) -> None:
    with pytest.raises(Failure, match=f"^--event {option}: {because}"):
        opened(obj, option)


WHOLE = "expected MAP=STRUCT, such as events=event, or MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT, such as events:kind="
PART = "expected MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT, such as events:kind=1:opened,2:closed, got '{}' there"


@pytest.mark.parametrize(
    ("option", "because"),
    [
        ("events", WHOLE),
        ("events=", WHOLE),
        ("=event", WHOLE),
        ("events:kind", WHOLE),
        ("events:kind=", WHOLE),
        ("events:=event", WHOLE),
        (":kind=1:event", WHOLE),
        ("events:kind=event", PART.format("event")),
        ("events:kind=1:event,", PART.format("")),
        ("events:kind=1:event,2:", PART.format("2:")),
        ("events:kind=:event", PART.format(":event")),
        ("events:kind=1:one,0x1:two", "0x1 is there twice, for one and for two"),
    ],
)
def test_half_an_option_says_what_a_whole_one_is(option: str, because: str) -> None:
    with pytest.raises(ArgumentTypeError) as error:
        event_option(option)
    assert str(error.value).startswith(because)


def test_a_very_long_option_is_not_repeated(obj: rawbpf.Object) -> None:
    with pytest.raises(Failure) as error:
        opened(obj, f"events={'x' * 5000}")
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("name", "struct_name", "found"),
    [
        pytest.param("header", "header", "header", id="its-own"),
        pytest.param("sockets", "socket", "socket", id="singular"),
        pytest.param("entries", "entry", "entry", id="y"),
        pytest.param("processes", "process", "process", id="es"),
        pytest.param("things", "thin", None, id="another"),
        pytest.param("kind", "kind", None, id="no-struct"),
        pytest.param("kinds", "kind", None, id="singular-of-no-struct"),
    ],
)
def test_the_struct_that_is_called_as_the_map_is_or_its_singular_is_taken(
    obj: rawbpf.Object, name: str, struct_name: str, found: str | None
) -> None:
    ring = obj.maps.pop("events")
    assert ring._types is not None
    kind, header = ring._types.find("kind"), ring._types.find("header")

    class Types:
        origin = "here"

        def find(self, asked: str) -> object:
            return (kind if struct_name == "kind" else header) if asked == struct_name else None

    with ring:
        ring._types = cast("ObjectTypes", Types())
        obj.maps.add(name, ring)
        with Producer(cast("rawbpf.RingBufMap", ring)) as producer, opened(obj, name) as events:
            producer.output(ENDED)
            assert [each["type"] for each in shown(events)[1]] == [found]


def test_the_number_of_a_process_has_no_name_of_now_beside_it(backend: Backend) -> None:
    with rawbpf.ObjectSpec.from_file(native("exec_events")).load(only=[]) as obj:
        ring = obj.maps["exec_events"]
        assert isinstance(ring, rawbpf.RingBufMap)
        with Producer(ring) as producer, opened(obj, "exec_events") as events:
            producer.output(struct.pack("=III16s128s", os.getpid(), 1, 0, b"two words", b"/bin/x"))
            assert shown(events)[0] == [
                f'exec_events pid={os.getpid()} ppid=1 uid=0(root) comm="two words" filename=/bin/x'
            ]


@pytest.mark.needs("prog_type:raw_tracepoint", "capability:CAP_PERFMON")
def test_what_found_no_room_in_a_perf_buffer_is_told(backend: Backend) -> None:
    record = bytes(60_000)
    with rawbpf.ObjectSpec.from_file(native("exec_events_perf")).load(only=[]) as obj:
        array = obj.maps["exec_events"]
        assert isinstance(array, rawbpf.PerfEventArrayMap)
        with PerfProducer(array) as producer, opened(obj, "exec_events=u32") as events:
            while producer.output(record) == 0:
                pass
            seen = Seen()
            assert events.show(seen)
            # The kernel tells of it with the next record that finds room.
            producer.output(record)
            assert shown(events) == (
                ["exec_events value=0", "exec_events lost=1 cpu=0"],
                [
                    {"event": "exec_events", "type": "u32", "value": 0},
                    {"event": "exec_events", "lost": 1, "cpu": 0},
                ],
            )


def test_a_map_is_read_a_part_at_a_time_and_to_its_end_at_the_end(obj: rawbpf.Object, producer: Producer) -> None:
    # The smallest records, as many as there is room for, and some that are discarded.
    count = 0
    while producer.output(b"", discard=count % 3 == 2) == 0:
        count += 1
    kept = count - count // 3
    with opened(obj, "events") as events:
        seen = Seen()
        events.finish(seen)
        assert seen.values == [b""] * kept


def test_the_end_does_not_wait_for_programs_that_go_on_writing(obj: rawbpf.Object, producer: Producer) -> None:
    for n in range(4):
        producer.output(struct.pack("=Q", n))
    with opened(obj, "events") as events:
        seen = Seen(lambda: producer.output(bytes(8)))
        events.finish(seen)
        assert seen.values[:4] == [struct.pack("=Q", n) for n in range(4)]
        assert len(seen.values) < 20
        left = Seen()
        events.finish(left)
        assert left.values  # for whoever reads the map next


def test_more_than_a_thousand_events_are_shown_in_turns(obj: rawbpf.Object, backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("exec_events"))
    with spec.load(only=[]) as large:
        ring = large.maps["exec_events"]
        assert isinstance(ring, rawbpf.RingBufMap)
        with Producer(ring) as producer, opened(large, "exec_events=u32") as events:
            for n in range(1500):
                producer.output(struct.pack("=I", n))
            first, second = Seen(), Seen()
            assert [events.show(first), events.show(second), events.show(second)] == [True, True, False]
            assert len(first.values) < 1500
            assert first.values + second.values == list(range(1500))


def test_what_a_signal_interrupts_is_read_at_the_end_after_detaching(obj: rawbpf.Object, producer: Producer) -> None:
    order: list[str] = []

    class Detaching(Links):
        def close(self) -> None:
            order.append("detached")
            producer.output(b"last")

    seen = Seen(lambda: order.append("told"))
    with opened(obj, "events") as events, Stop() as stop, open(os.devnull, "w", encoding="ascii") as null:
        stop.asked = True
        look(events, seen, stop, null.fileno(), links=Detaching())
    assert seen.values == [b"last"]
    assert order == ["detached", "told"]


@pytest.mark.parametrize("asked", [False, True], ids=["while-it-runs", "at-its-end"])
def test_a_corrupt_ring_ends_it_when_all_else_was_shown(obj: rawbpf.Object, producer: Producer, asked: bool) -> None:
    shown_last: list[tuple[object, list[object]]] = []

    class Detaching(Links):
        def close(self) -> None:
            producer.output(b"last")

    class Ending(Seen):
        def show(self, *_: object, **options: object) -> None:
            shown_last.append((options["last"], self.values))

    broken, other = (rawbpf.RingBufMap.create(max_entries=4096) for _ in range(2))
    obj.maps.add("broken", broken)
    obj.maps.add("other", other)
    with broken.memory() as memory:
        memory.consumer[0] = 8  # where nothing was written
    with (
        Producer(other) as producer_of_other,
        open_events(obj, dict.fromkeys(["broken", "events", "other"]), asked=()) as events,
        Stop() as stop,
        open(os.devnull, "w", encoding="ascii") as null,
    ):
        stop.asked = asked
        producer.output(b"first")
        producer_of_other.output(b"other")
        seen = Ending()
        with pytest.raises(FormatError, match="the ring is corrupt at position 8: the producer's position 0"):
            look(events, seen, stop, null.fileno(), links=Detaching(), interval=0.01, duration=30)
    assert sorted(map(str, seen.values)) == ["b'first'", "b'last'", "b'other'"]
    assert shown_last[-1] == (True, seen.values)


def test_records_that_wake_nobody_are_read_at_the_next_interval(obj: rawbpf.Object, producer: Producer) -> None:
    order: list[str] = []

    class Detaching(Links):
        def close(self) -> None:
            order.append("detached")

    with opened(obj, "events") as events, Stop() as stop, open(os.devnull, "w", encoding="ascii") as null:

        def told() -> None:
            order.append("told")
            stop.asked = True

        events.filenos()
        producer.output(b"quiet", BPF_RB_NO_WAKEUP)
        look(events, Seen(told), stop, null.fileno(), links=Detaching(), interval=0.01, duration=30)
    assert order == ["told", "detached"]


def test_it_does_not_look_all_the_time_at_what_nobody_can_read() -> None:
    # A descriptor that stays readable, as that of a ring is while a program writes a record.
    looks = []
    reader, writer = os.pipe()

    class Busy(Events):
        def filenos(self) -> list[int]:
            return [reader]

        def show(self, view: object) -> bool:
            looks.append(time.monotonic())
            return False

    try:
        os.write(writer, b"x")
        with Stop() as stop, open(os.devnull, "w", encoding="ascii") as null:
            look(Busy([]), Seen(), stop, null.fileno(), duration=0.1)
    finally:
        os.close(reader)
        os.close(writer)
    # Every hundredth of a second it rests, so that there are two looks in each.
    assert 1 < len(looks) <= 21


def look(
    events: Events,
    view: Seen,
    stop: Stop,
    fd: int,
    *,
    links: Links | None = None,
    interval: float = FOREVER,
    duration: float = FOREVER,
) -> None:
    class Nothing:
        def read(self) -> list[object]:
            return []

    class Null:
        def fileno(self) -> int:
            return fd

    watch(
        [],
        cast("Globals", Nothing()),
        events,
        view,
        stop,
        cast("Output", Null()),
        Links() if links is None else links,
        None,
        interval=interval,
        duration=duration,
    )


@pytest.mark.parametrize(
    "error",
    [PermissionDenied(13, call="perf_event_open", subject="it"), ValueError("programs write over it")],
    ids=["by the kernel", "by the reader"],
)
def test_a_map_whose_events_cannot_be_read_is_told_unless_it_was_asked_for(
    obj: rawbpf.Object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rawbpf.RingBufMap, "reader", refused)
    with open_events(obj, {"events": None}, asked=()) as events:
        assert events.filenos() == []
    assert capsys.readouterr().err.startswith(f"rawbpf: not shown: events: {error}")
    with pytest.raises(type(error)):
        open_events(obj, {"events": None}, asked=["events"])


def test_maps_of_events_are_those_that_are_shown_and_those_that_are_asked_for() -> None:
    spec = rawbpf.ObjectSpec.from_file(native("rings"))
    word, long = event_option("events=u32"), event_option("answers=u64")
    assert event_maps(spec, ["answers", "requests"], []) == {"answers": None}
    assert event_maps(spec, ["answers", "requests", "events"], [word]) == {"answers": None, "events": word}
    assert event_maps(spec, [], [long]) == {"answers": long}
