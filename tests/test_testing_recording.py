"""A recording's file: whatever its bytes, it is parsed or refused with FormatError that names the line."""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import re
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.errors import FormatError
from rawbpf.sim.simulator import Simulator
from rawbpf.testing import Recording, ReplayBackend, ReplayMismatch, record, replay

if TYPE_CHECKING:
    from pathlib import Path

HEAD: dict[str, Any] = {
    "format": "rawbpf traffic",
    "version": 2,
    "host": {"possible_cpus": 2, "page_size": 4096, "release": "6.18", "byteorder": "little"},
}


def file_of(head: dict[str, Any], *calls: dict[str, Any]) -> bytes:
    numbered = [{"number": number, **call} for number, call in enumerate(calls, 1)]
    lines = (head, *numbered, {"end": len(calls)})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture(scope="module")
def sample() -> bytes:
    with Simulator(cpus=2) as simulator, record(backend=simulator) as recording:
        with rawbpf.ArrayMap.create(value="u64", max_entries=4, name="sample") as m:
            m[1] = 7
            assert m.lookup(1) == 7
            assert m.info.name == "sample"
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as table:
            table.update({1: 2, 3: 4})
            assert len(table.snapshot()) == 2
    return "".join(f"{line}\n" for line in recording.lines()).encode()


def test_a_file_reads_back_as_it_was_written(sample: bytes, tmp_path: Path) -> None:
    recording = Recording.from_bytes(sample)
    recording.save(tmp_path / "traffic.jsonl")
    assert (tmp_path / "traffic.jsonl").read_bytes() == sample
    assert Recording.load(tmp_path / "traffic.jsonl") == recording
    assert repr(recording) == f"<Recording of {len(recording)} calls, Linux 6.18.0>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "the recording is empty", id="empty"),
        pytest.param(b"\n\n", "the recording is empty", id="empty lines"),
        pytest.param(b"\x7fELF", "line 1: no JSON", id="no text"),
        pytest.param(b"[" * 100000, "line 1: no JSON", id="too deep"),
        pytest.param(b"[]", "line 1: expected an object", id="a list"),
        pytest.param(b"{}", "line 1: this is no recording", id="another format"),
        pytest.param(file_of(HEAD | {"version": 3}), "line 1: version 3: this release reads 2", id="newer"),
        pytest.param(file_of(HEAD | {"version": 1}), "reads 2; record it again", id="older"),
        pytest.param(file_of({**HEAD, "host": {}}), "line 1: the host's possible_cpus", id="no host"),
        pytest.param(
            file_of({**HEAD, "host": {**HEAD["host"], "possible_cpus": 0}}),
            "line 1: the host's possible_cpus",
            id="0 CPUs",
        ),
        pytest.param(json.dumps(HEAD).encode() + b"\n\n{", "line 3: no JSON", id="third line"),
        pytest.param(file_of(HEAD, {}), "line 2: call: expected a text", id="no call"),
        pytest.param(file_of(HEAD, {"call": "x y"}), "line 2: call 'x y' is no word", id="no word"),
        pytest.param(file_of(HEAD, {"call": "close", "more": 1}), "line 2: unknown member 'more'", id="unknown"),
        pytest.param(file_of(HEAD, {"call": "close", "attr": []}), "line 2: attr: expected an object", id="attr"),
        pytest.param(
            file_of(HEAD, {"call": "close", "attr": {"fd": 1.5}}), "line 2: fd: expected a number", id="a fraction"
        ),
        pytest.param(file_of(HEAD, {"call": "close", "attr": {"fd": True}}), "fd: expected a number", id="bool"),
        pytest.param(
            file_of(HEAD, {"call": "close", "attr": {"fd": 1 << 64}}), "line 2: fd: expected a number", id="too large"
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "memory": {"key": {"size": 1 << 40}}}), "line 2: memory 'key' has", id="huge"
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "memory": {"key": {"size": 1, "bytes": "0102"}}}),
            "line 2: memory 'key' has 2 bytes and a size of 1",
            id="short",
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "memory": {"key": {"size": 9, "bytes": "0g"}}}), "hexadecimal", id="no hex"
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "references": {"value@0": "fd1"}}), "there is no such place", id="nowhere"
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "memory": {"v": {"size": 4}}, "references": {"v@1": "fd1"}}),
            "reference v@1: there is no such place",
            id="beyond the end",
        ),
        pytest.param(
            file_of(HEAD, {"call": "x", "memory": {"v": {"size": 4}}, "references": {"v@0": "fd0"}}),
            "reference 'v@0': 'fd0' is none",
            id="no name",
        ),
        pytest.param(file_of(HEAD, {"call": "x", "opened": "door1"}), "opened 'door1' is no name", id="opened"),
        pytest.param(file_of(HEAD, {"call": "x", "result": -2}), "no call has", id="result"),
        pytest.param(file_of(HEAD, {"call": "x", "size": 5000}), "no call has", id="size"),
        pytest.param(
            file_of(HEAD, {"number": 2, "call": "close"}),
            "line 2: expected call 1, and this is call 2: lines are missing",
            id="a hole",
        ),
        pytest.param(file_of(HEAD, {"number": None, "call": "close"}), "number: expected a number", id="no number"),
        pytest.param(file_of(HEAD).replace(b"0}", b"1}"), "the end says 1 calls, and there are 0", id="another end"),
        pytest.param(file_of(HEAD) + b"{}", "line 2: the end is not the last line", id="behind the end"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_line(content: bytes, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        Recording.from_bytes(content)
    assert message in str(caught.value)


def parse_and_use(content: bytes) -> bool:
    """Whatever the bytes: FormatError or a Recording, whose replay ends, in differences or in ValueError."""
    try:
        recording = Recording.from_bytes(content)
    except FormatError:
        return False
    with Simulator(cpus=2) as simulator:
        try:
            list(map(str, replay(recording, simulator)))
        except ValueError:
            return False
    return True


def test_a_file_that_was_cut_off_is_refused_wherever_that_was(sample: bytes) -> None:
    assert Recording.from_bytes(sample.rstrip(b"\n")), "all that counts is there"
    for length in range(0, len(sample) - 1, 7):
        with pytest.raises(FormatError):
            Recording.from_bytes(sample[:length])


def test_a_file_that_was_cut_off_at_the_end_of_a_line_is_told_to_be(sample: bytes) -> None:
    lines = sample.splitlines(keepends=True)
    for kept in range(1, len(lines)):
        with pytest.raises(FormatError, match=f"line {kept}: the file was cut off behind call {kept - 1}"):
            Recording.from_bytes(b"".join(lines[:kept]))


def test_a_missing_line_is_noticed(sample: bytes) -> None:
    lines = sample.splitlines(keepends=True)
    with pytest.raises(FormatError, match="line 4: expected call 3, and this is call 4"):
        Recording.from_bytes(b"".join(lines[:3] + lines[4:]))


@pytest.mark.parametrize("content", ["{}", None, 5], ids=repr)
def test_what_is_no_bytes_is_a_type_error(content: Any) -> None:
    with pytest.raises(TypeError, match=r"expected the bytes of a recording, got .*Recording.load"):
        Recording.from_bytes(content)


def test_a_buffer_is_bytes(sample: bytes) -> None:
    assert Recording.from_bytes(memoryview(sample)) == Recording.from_bytes(bytearray(sample))


def test_a_disk_that_is_full_leaves_the_file_that_was_there(sample: bytes, tmp_path: Path) -> None:
    recording = Recording.from_bytes(sample)
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(b"what was there")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(sample) // 2, before[1]))  # as on a full disk, half of it fits
        with pytest.raises(OSError, match=re.escape(repr(str(path)))) as caught:
            recording.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == ["traffic.jsonl"]
    assert path.read_bytes() == b"what was there"


def test_a_file_is_written_where_a_link_leads_and_keeps_its_mode(sample: bytes, tmp_path: Path) -> None:
    recording = Recording.from_bytes(sample)
    path, link = tmp_path / "traffic.jsonl", tmp_path / "link"
    path.touch(mode=0o640)
    link.symlink_to(path)
    recording.save(link)
    assert link.is_symlink()
    assert path.read_bytes() == sample
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "traffic.jsonl"]


def test_what_is_no_regular_file_is_written_into(sample: bytes) -> None:
    recording = Recording.from_bytes(sample)
    reader, writer = os.pipe()
    try:
        recording.save(f"/proc/self/fd/{writer}")
        assert os.read(reader, 1 << 16) == sample
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        recording.save("/dev/full")


def test_a_directory_that_is_not_there_is_an_error_that_names_the_file(sample: bytes, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/traffic\.jsonl"):
        Recording.from_bytes(sample).save(tmp_path / "nowhere" / "traffic.jsonl")


def test_damaged_files_are_parsed_or_refused(sample: bytes) -> None:
    chosen = random.Random(1)
    lines = [json.loads(line) for line in sample.splitlines()[1:-1]]
    words = [
        "0",
        "1",
        "255",
        "4294967295",
        "-1",
        '"fd1"',
        '"fd9"',
        '"map1"',
        '"closed"',
        "null",
        "{}",
        '""',
        "18446744073709551615",
    ]
    used = 0
    for _ in range(300):
        damaged = copy.deepcopy(lines)
        at = chosen.randrange(len(lines))
        place: Any = damaged[at]
        while isinstance(place, dict) and place:
            name = chosen.choice(list(place))
            if isinstance(place[name], dict) and place[name] and chosen.random() < 0.8:
                place = place[name]
                continue
            place[name] = chosen.choice(words)
            break
        if chosen.random() < 0.2:
            damaged.insert(at, chosen.choice(lines))
        for number, line in enumerate(damaged, 1):
            line["number"] = number if chosen.random() < 0.99 else "1"
        used += parse_and_use(file_of(HEAD, *damaged))
    assert used > 50


def test_a_recording_that_makes_no_sense_is_a_mismatch_and_no_crash(sample: bytes) -> None:
    recording = Recording.from_bytes(sample)
    for event in recording:
        event.described.clear()

    def use() -> None:
        with rawbpf.ArrayMap.create(value="u64", max_entries=4, name="sample") as m:
            m[1] = 7
            m.lookup(1)

    with pytest.raises(ReplayMismatch), ReplayBackend(recording):
        use()


def test_a_bare_number_is_no_descriptor_of_this_process(tmp_path: Path) -> None:
    with (tmp_path / "mine").open("w") as mine, Simulator(cpus=2) as simulator:
        fd = mine.fileno()
        recording = Recording.from_bytes(
            file_of(
                HEAD,
                {"call": "close", "attr": {"fd": fd}},
                {"call": "dup", "attr": {"fd": fd}, "opened": "fd1"},
                {"call": "map_freeze", "size": 4, "attr": {"map_fd": fd}},
            )
        )
        differences = replay(recording, simulator)
        assert [each.what for each in differences] == [f"it cannot be made: descriptor {fd} is unknown here"] * 3
        mine.write("still open")
