"""What a ReplayBackend gave out is its own and nobody else's, and its first mismatch is never lost."""

from __future__ import annotations

import gc
import os
import tempfile
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.sim.simulator import Simulator
from rawbpf.testing import Recording, ReplayBackend, ReplayMismatch, record, replay
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterator


def fill(value: int) -> rawbpf.HashMap[int, int]:
    m = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4)
    m[1] = value
    return m


@pytest.fixture
def recording() -> Recording:
    with Simulator() as simulator, record(backend=simulator) as found:
        fill(1).close()
    return found


@pytest.fixture
def open_ended() -> Recording:
    """Return the recording of a map that outlives the block."""
    with Simulator() as simulator:
        with record(backend=simulator) as found:
            m = fill(1)
        events = len(found)
        m.close()
        del found.events[events:]
    return found


@pytest.fixture
def mine() -> Iterator[list[IO[bytes]]]:
    """Return a list for files of the test, each of which is still open at the end."""
    files: list[IO[bytes]] = []
    with ExitStack() as stack:
        yield files
        for file in files:
            stack.enter_context(file)
        for file in files:
            file.write(b"mine")
            file.flush()


def take_all_numbers_up_to(highest: int, files: list[IO[bytes]]) -> None:
    while not files or files[-1].fileno() < highest:
        files.append(tempfile.TemporaryFile())  # noqa: SIM115  (the fixture closes them)


def mismatch(recording: Recording, numbers: list[int]) -> ReplayMismatch:
    """Return a mismatch, whose traceback keeps a map that is still open; its descriptor's number goes to `numbers`."""

    def use() -> None:
        m = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4)
        numbers.append(m.fileno())
        m[1] = 2

    with pytest.raises(ReplayMismatch) as caught, ReplayBackend(recording):
        use()
    return caught.value


def forget(kept: list[ReplayMismatch]) -> None:
    kept.clear()
    gc.collect()


def test_what_a_traceback_keeps_closes_no_descriptor_of_others(recording: Recording, mine: list[IO[bytes]]) -> None:
    numbers: list[int] = []
    kept = [mismatch(recording, numbers)]
    take_all_numbers_up_to(numbers[0], mine)
    assert numbers[0] in [file.fileno() for file in mine], "the map's number is another file's now"
    with pytest.warns(ResourceWarning, match="unclosed"):
        forget(kept)


def test_closing_what_outlives_the_block_does_nothing(open_ended: Recording, mine: list[IO[bytes]]) -> None:
    with ReplayBackend(open_ended) as answers:
        m = fill(1)
        number = m.fileno()
    take_all_numbers_up_to(number, mine)
    assert number in [file.fileno() for file in mine]
    answers.close(number)
    m.close()
    assert m.closed
    answers.end()


def test_what_outlives_the_block_says_that_the_replay_has_ended(open_ended: Recording) -> None:
    with ReplayBackend(open_ended):
        m = fill(1)
    with m, pytest.raises(ReplayMismatch, match="calls map_update_elem after the replay has ended"):
        m[1] = 2


def test_a_descriptor_that_others_closed_is_not_closed_again(open_ended: Recording, mine: list[IO[bytes]]) -> None:
    with ReplayBackend(open_ended) as answers:
        m = fill(1)
        number = m.fileno()
        os.close(number)
        take_all_numbers_up_to(number, mine)
        m.close()
        with pytest.raises(ReplayMismatch):
            answers.fdinfo(0)
        answers.close(number)
        assert os.fstat(number).st_ino == next(os.fstat(f.fileno()).st_ino for f in mine if f.fileno() == number)
        answers._failure = None


def test_a_later_replay_finds_its_descriptors_open(recording: Recording) -> None:
    numbers: list[int] = []
    kept = [mismatch(recording, numbers)]

    class Disturbed(Simulator):
        def bpf(self, cmd: int, attr: Any, size: int, /) -> int:
            if cmd == c.BPF_MAP_UPDATE_ELEM:
                with pytest.warns(ResourceWarning, match="unclosed"):
                    forget(kept)
            return super().bpf(cmd, attr, size)

    with Disturbed(cpus=recording.possible_cpus) as disturbed:
        assert not replay(recording, disturbed)
    assert not kept


def swallowing(recording: Recording, then: Exception | None = None) -> None:
    with ReplayBackend(recording):
        with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m, suppress(Exception):
            m[1] = 2
        if then is not None:
            raise then


def test_the_first_mismatch_is_raised_at_the_end_although_the_program_went_on(recording: Recording) -> None:
    with pytest.raises(ReplayMismatch, match=r"call 4: expected map_update_elem.*value: recorded"):
        swallowing(recording)


def test_another_error_that_follows_the_mismatch_names_it(recording: Recording) -> None:
    with pytest.raises(KeyError) as caught:
        swallowing(recording, then=KeyError("something else"))
    (note,) = caught.value.__notes__
    assert note.startswith("before that, ReplayMismatch: call 4: expected map_update_elem(")


def test_a_call_has_one_number(recording: Recording) -> None:
    with pytest.raises(ReplayMismatch, match="call 4: expected map_update_elem"):
        swallowing(recording)
    (line,) = (line for line in recording.lines() if "map_update_elem" in line)
    assert line.startswith('{"number": 4, "call": "map_update_elem"')
    recording.events[3].result = -1
    with Simulator() as simulator:
        (difference,) = replay(recording, simulator)
    assert (difference.number, str(difference)[:24]) == (4, "call 4, map_update_elem(")


@pytest.mark.parametrize("given", ["ok.jsonl", b"{}", None], ids=repr)
def test_what_is_no_recording_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="expected a Recording, got"):
        ReplayBackend(given)
    with Simulator() as simulator, pytest.raises(TypeError, match="expected a Recording, got"):
        replay(given, simulator)


def test_a_path_in_place_of_a_recording_is_told_how_to_read_it() -> None:
    with Simulator() as simulator, pytest.raises(TypeError, match=r"Recording.load\(path\) reads a file"):
        replay("ok.jsonl", simulator)  # type: ignore[arg-type]  # on purpose


def test_a_replay_takes_names_that_the_recording_has(recording: Recording) -> None:
    with Simulator() as simulator:
        with pytest.raises(ValueError, match=r"no 'fd99'; descriptors that it has from outside: none"):
            replay(recording, simulator, fds={"fd99": 0})
        with pytest.raises(TypeError, match="expected descriptors by their names"):
            replay(recording, simulator, fds=[0])  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match=r"fds\['fd1'\]: expected a descriptor"):
            replay(recording, simulator, fds={"fd1": "x"})  # type: ignore[dict-item]  # on purpose
        with pytest.raises(TypeError, match="expected a backend"):
            replay(recording, None)  # type: ignore[arg-type]  # on purpose


def test_a_missing_descriptor_is_told_which_there_are() -> None:
    with Simulator() as simulator, rawbpf.HashMap.create(key=4, value=4, max_entries=1, backend=simulator) as outside:
        with record(backend=simulator) as recording, rawbpf.Map.from_fd(outside) as m:
            m[bytes(4)] = bytes(4)
        with pytest.raises(ValueError, match="that it has from outside: fd1"):
            replay(recording, simulator, fds={"fd9": outside.fileno()})
        assert not replay(recording, simulator, fds={"fd1": outside})


def test_text_is_shown_as_text() -> None:
    with Simulator() as simulator:
        with record(backend=simulator) as recording, pytest.raises(rawbpf.BpfError):
            rawbpf.Map.from_pin(f"{simulator.bpffs}/counts")
        (call,) = recording
        assert "*pathname='dir1/counts'" in str(call)
        with pytest.raises(ReplayMismatch, match="pathname: recorded 'counts', now 'other'"), ReplayBackend(recording):
            rawbpf.Map.from_pin(f"{simulator.bpffs}/other")
