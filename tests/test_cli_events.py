"""`rawbpf run` on the real kernel shows events as they come, and at its end all that were written."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from support import kernel_ids
from support.command import BPF, FOREVER, on_terminal, run, running
from support.execs import execute_as

if TYPE_CHECKING:
    from pathlib import Path

RING = BPF / "exec_events.bpf.o"
PERF = BPF / "exec_events_perf.bpf.o"
UID = 43410
EVENT = rf"exec_events pid=\d+ ppid=\d+ uid={UID} comm=true filename=/bin/true"
CURSOR_UP = "\x1b[1A"
CLI = "from rawbpf.cli import main\nsys.exit(main())"

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs("map_type:ringbuf", "capability:CAP_SETUID", "capability:CAP_PERFMON", "module:elftools"),
]
each_object = pytest.mark.parametrize(
    "path", [pytest.param(RING, id="ring-buffer"), pytest.param(PERF, id="perf-buffers")]
)


def of_user(out: str, uid: int = UID) -> list[dict[str, object]]:
    """Return the values of the events of a user in what `--json` printed."""
    found = [json.loads(line) for line in out.splitlines()]
    return [each["value"] for each in found if "event" in each and each["value"]["uid"] == uid]


@each_object
def test_an_event_is_a_line_as_soon_as_it_comes(path: Path) -> None:
    with running(path, "--interval", FOREVER) as command:
        execute_as(UID, 1)
        command.wait_for(rf"^\d\d:\d\d:\d\d {EVENT}$")
        execute_as(UID, 1)
        command.wait_for(rf"^\d\d:\d\d:\d\d {EVENT}$")


@each_object
def test_an_event_is_a_json_object_beside_those_of_intervals(path: Path) -> None:
    with running(path, "--interval", 0.05, "--json") as command:
        execute_as(UID, 1)
        seen = []
        for line in command.lines:
            seen.append(json.loads(line))
            if any("maps" in each for each in seen) and of_user("\n".join(map(json.dumps, seen))):
                break
    keys = {tuple(each) for each in seen}
    assert keys == {("time", "maps", "variables"), ("time", "event", "type", "value")}
    assert {(each["event"], each["type"]) for each in seen if "event" in each} == {("exec_events", "exec_event")}
    assert all(list(each["maps"]) == ["parents"] for each in seen if "maps" in each)
    (value,) = of_user("\n".join(map(json.dumps, seen)))
    assert list(value) == ["pid", "ppid", "uid", "comm", "filename"]
    assert (value["comm"], value["filename"]) == ("true", "/bin/true")


@each_object
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_event_before_a_signal_is_shown(path: Path, number: signal.Signals) -> None:
    with running(path, "--interval", FOREVER, "--json") as command:
        execute_as(UID, 100)
        status, out, err = command.end(number)
    assert (status, err) == (0, "")
    assert len({value["pid"] for value in of_user(out)}) == len(of_user(out)) == 100
    # What the maps have at the end comes last.
    assert "maps" in json.loads(out.splitlines()[-1])


@each_object
def test_a_signal_while_events_come_cuts_them_off_at_one_point(path: Path) -> None:
    started: list[int] = []
    ended = threading.Event()

    def start() -> None:
        while not ended.is_set():
            pid = os.posix_spawn("/bin/true", ["true"], {})
            started.append(pid)
            os.waitpid(pid, 0)

    with running(path, "--interval", 0.01, "--json") as command:
        starting = threading.Thread(target=start)
        starting.start()
        try:
            seen = list(islice(command.lines, 30))
            command.process.send_signal(signal.SIGINT)
            seen += command.lines
            assert command.process.wait(timeout=30) == 0
        finally:
            ended.set()
            starting.join()
    told = [json.loads(line) for line in seen]
    pids = [pid for each in told if "event" in each and (pid := each["value"]["pid"]) in started]
    # Other programs start as well; of ours, none is missing among the first that were.
    assert set(pids) == set(started[: len(pids)])
    assert len(pids) == len(set(pids)) > 0


@each_object
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_written_until_it_has_detached_is_shown_and_nothing_after(path: Path, when: str) -> None:
    # A program starts when it was already told to end, before or after programs are detached.
    before, after = (
        f"subprocess.run(['/bin/true'], user={UID})" if when == each else "" for each in ("before", "after")
    )
    code = (
        "import subprocess, sys\n"
        "from rawbpf.loader.object import Links\n"
        "close = Links.close\n"
        "def closing(links):\n"
        "    if links:\n"
        f"        {before or 'pass'}\n"
        "        close(links)\n"
        f"        {after or 'pass'}\n"
        "        links.clear()\n"
        f"Links.close = closing\n{CLI}"
    )
    status, out, _ = run(path, "--interval", FOREVER, "--duration", 0.05, "--json", code=code)
    assert status == 0
    assert len(of_user(out)) == (when == "before")


@each_object
def test_the_end_of_its_duration_shows_what_is_there(path: Path) -> None:
    # Nothing is read before: it looks for the first time when it is over.
    code = (
        "import subprocess, sys\n"
        "from rawbpf.cli.events import Events\n"
        "Events.filenos = lambda events: subprocess.run(['/bin/true'], user=43410) and []\n"
        f"{CLI}"
    )
    status, out, _ = run(path, "--interval", FOREVER, "--duration", 0.05, "--json", code=code)
    assert (status, len(of_user(out))) == (0, 1)


def test_events_are_of_the_type_that_is_asked_for() -> None:
    with running(RING, "--event", "exec_events=u32", "--interval", FOREVER, "--json") as command:
        execute_as(UID, 1)
        for line in command.lines:
            event = json.loads(line)
            assert event.keys() == {"time", "event", "type", "value"}
            assert (event["event"], event["type"], type(event["value"])) == ("exec_events", "u32", int)
            break


@each_object
def test_events_are_of_the_types_that_a_field_tells_apart(path: Path) -> None:
    option = f"exec_events:uid={UID}:exec_event,{UID + 1}:struct exec_event"
    with running(path, "--event", option, "--interval", FOREVER, "--json") as command:
        for uid in (UID, UID + 1, UID + 2):
            execute_as(uid, 1)
        _, out, _ = command.end()
    events = [each for each in map(json.loads, out.splitlines()) if "event" in each]
    types = {each["value"]["uid"]: each["type"] for each in events if each["type"]}
    assert types == {UID: "exec_event", UID + 1: "struct exec_event"}
    other = (UID + 2).to_bytes(4, sys.byteorder).hex()
    assert [each for each in events if each["type"] is None and other in each["value"]]


@pytest.mark.parametrize(
    ("chosen", "maps", "has_events"),
    [
        pytest.param([], ["parents"], True, id="all"),
        pytest.param(["--map", "exec_events"], [], True, id="the-map-of-events"),
        pytest.param(["--map", "parents"], ["parents"], False, id="the-table"),
        pytest.param(["--map", "parents", "--event", "exec_events=exec_event"], ["parents"], True, id="both"),
    ],
)
def test_only_the_events_of_maps_that_are_named_are_shown(chosen: list[str], maps: list[str], has_events: bool) -> None:
    with running(RING, "--interval", FOREVER, "--json", *chosen) as command:
        execute_as(UID, 1)
        _, out, _ = command.end()
    assert list(json.loads(out.splitlines()[-1])["maps"]) == maps
    assert bool(of_user(out)) == has_events


@pytest.mark.parametrize(
    ("event", "because"),
    [
        pytest.param("exec_evnts=x", "the object has no such map; its maps of events are exec_events", id="no-map"),
        pytest.param(
            "parents=exec_event",
            "a lru_hash has no events; its maps of events are exec_events",
            id="no-map-of-events",
        ),
        pytest.param(
            ".bss=exec_event", "the object has no such map; its maps of events are exec_events", id="data-section"
        ),
        pytest.param(
            "exec_events=exec_evnt",
            "no struct, union, typedef, enum or number is called 'exec_evnt' in exec_events.bpf.o; "
            "there is 'exec_event'. For a struct",
            id="no-struct",
        ),
    ],
)
def test_a_wrong_name_ends_it_before_anything_is_attached(event: str, because: str) -> None:
    before = kernel_ids.ids()
    status, out, err = run(RING, "--event", event)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"rawbpf: --event {event}: {because}")
    assert kernel_ids.left_over(kernel_ids.ids() - before) == set()


def test_an_object_without_events_and_a_map_of_two_types_are_refused() -> None:
    assert run(BPF / "execcount.bpf.o", "--event", "events=x")[2] == (
        "rawbpf: --event events=x: the object has no such map; it has no maps of events\n"
    )
    assert run(RING, "--event", "exec_events=u32", "--event", "exec_events=u64")[2] == (
        "rawbpf: --event exec_events=u64: there is --event exec_events=u32; types that a field tells apart go "
        "together: --event MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT\n"
    )


@pytest.mark.parametrize("written", ["exec_events", "exec_events=", "=exec_event", "exec_events:uid="])
def test_half_an_option_is_wrong_usage(written: str) -> None:
    status, _, err = run(RING, "--event", written)
    assert status == 2
    assert "expected MAP=STRUCT, such as events=event, or " in err
    assert err.endswith(f", got '{written}'\n")


@each_object
def test_a_reader_that_goes_away_ends_it_quietly(path: Path) -> None:
    with running(path, "--interval", FOREVER) as command:
        execute_as(UID, 1)
        next(command.lines)
        assert command.process.stdout is not None
        command.process.stdout.close()
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        assert command.process.stderr.read() == ""


def test_a_corrupt_ring_ends_it_with_the_tables_and_what_is_wrong() -> None:
    code = (
        "import sys\n"
        "from rawbpf.event.ring import RingBufMap\n"
        "reader = RingBufMap.reader\n"
        "def of_a_corrupt_ring(m, **options):\n"
        "    with m.memory() as memory:\n"
        "        memory.consumer[0] = 8\n"
        "    return reader(m, **options)\n"
        f"RingBufMap.reader = of_a_corrupt_ring\n{CLI}"
    )
    status, out, err = run(RING, "--interval", FOREVER, "--json", code=code)
    assert status == 1
    assert [list(json.loads(line)["maps"]) for line in out.splitlines()] == [["parents"]]
    assert re.search(r"^rawbpf: .*exec_events.*: the ring is corrupt at position 8: .*$", err.splitlines()[-1])


@pytest.mark.needs("module:rich")
def test_events_are_lines_above_the_tables_of_a_terminal() -> None:
    with on_terminal(RING, "--interval", FOREVER, columns=150) as command:
        command.wait_for(r"parents\S*  lru_hash, \d+ of at most 10240")
        execute_as(UID, 1)
        # The line, and the tables once more under it.
        command.wait_for(rf"(?s){re.escape(CURSOR_UP)}.*\d\d:\d\d:\d\d {EVENT} *\r\n.*Ctrl-C ends.*parents")
        command.press(b"\x03")
        command.rest()
        assert command.process.wait(timeout=30) == 0


@pytest.mark.needs("module:rich")
def test_tables_leave_half_of_a_terminal_to_events() -> None:
    with on_terminal(RING, "--interval", FOREVER, "--map", "exec_events", "--map", "parents", rows=20) as command:
        command.wait_for(r"parents\S*  lru_hash")
        execute_as(UID, 40)
        command.press(b"\x03")
        command.rest()
        assert command.process.wait(timeout=30) == 0
    last = command.output[command.output.rindex("ended") :].partition("\x1b[?25h")[0]
    assert len(last.splitlines()) <= 10
    assert re.search(r"\d+ more not shown", last)


def test_without_rich_a_terminal_gets_a_line_for_each_event() -> None:
    code = f"import sys\nsys.modules['rich'] = None\n{CLI}"
    with on_terminal(PERF, "--interval", FOREVER, rows=5, columns=150, code=code) as command:
        command.wait_for("pip install 'rawbpf.cli.'")
        execute_as(UID, 9)
        command.press(b"\x03")
        out = command.rest()
        assert command.process.wait(timeout=30) == 0
    assert len(re.findall(EVENT, out)) == 9
