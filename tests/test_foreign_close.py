"""A descriptor that others closed behind rawbpf's back: its number, which may be another file's, is left alone."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import TraceBackend
from rawbpf.testing import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.syscall.protocol import Backend

    Made = rawbpf.Map[Any, Any] | rawbpf.Program


def a_map(backend: Backend) -> Made:
    return rawbpf.Map.create("hash", key=4, value=4, max_entries=4, name="lost", backend=backend)


def an_array_in_memory(backend: Backend) -> Made:
    m = rawbpf.Map.create("array", value=4, max_entries=4, name="lost", backend=backend)
    m[0] = bytes(4)
    return m


def a_program(backend: Backend) -> Made:
    return rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()], name="lost", backend=backend)


KINDS = [a_map, an_array_in_memory, a_program]


@pytest.fixture(params=["bare", "traced", "failing", "recorded"])
def wrapped(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Backend]:
    if request.param == "recorded":
        recorder = Recorder(backend)
        yield recorder
        recorder.stop()
    else:
        kinds: dict[str, Callable[[], Backend]] = {
            "bare": lambda: backend,
            "traced": lambda: TraceBackend(backend, sink=lambda _: None),
            "failing": lambda: FaultBackend(backend, {}),
        }
        yield kinds[request.param]()


@pytest.mark.parametrize("make", KINDS)
def test_closing_what_is_closed_already_is_silent(wrapped: Backend, make: Callable[[Backend], Made]) -> None:
    made = make(wrapped)
    os.close(made.fileno())
    made.close()
    assert made.closed
    made.close()


@pytest.mark.parametrize("make", KINDS)
def test_a_file_that_has_the_number_now_stays_open(wrapped: Backend, make: Callable[[Backend], Made]) -> None:
    reader, writer = os.pipe()
    try:
        made = make(wrapped)
        os.dup2(writer, made.fileno(), inheritable=False)
        number = made.fileno()
        made.close()
        os.write(number, b"mine")
        os.close(number)
        assert os.read(reader, 10) == b"mine"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("make", KINDS)
def test_an_object_that_has_the_number_now_stays_open(wrapped: Backend, make: Callable[[Backend], Made]) -> None:
    # Objects of a real kernel share one inode.
    lost = make(wrapped)
    number = lost.fileno()
    os.close(number)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, backend=wrapped) as m:
        others = [m.dup() for _ in range(20)]
        assert number in [each.fileno() for each in (m, *others)]
        lost.close()
        for each in others:
            each[1] = 1
            each.close()
        assert dict(m.items()) == {1: 1}


def test_the_garbage_collector_closes_no_descriptor_of_others(wrapped: Backend) -> None:
    made = [a_map(wrapped)]
    number = made[0].fileno()
    os.close(number)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, backend=wrapped) as m:
        others = [m.dup() for _ in range(20)]
        with pytest.warns(ResourceWarning, match="unclosed"):
            forget(made)
        for each in others:
            assert not len(each)
            each.close()


def forget(made: list[Made]) -> None:
    made.clear()
    gc.collect()


def test_its_operations_raise_closed(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        os.close(m.fileno())
        with pytest.raises(rawbpf.Closed, match="EBADF"):
            m[1] = 1


def test_a_released_descriptor_is_the_callers(backend: Backend) -> None:
    program = rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()])
    fd = program.release()
    program.close()
    backend.close(fd)


def test_a_simulator_that_was_shut_down_leaves_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    simulator = Simulator()
    m, program = a_map(simulator), a_program(simulator)
    simulator.shut_down()
    m.close()
    program.close()
    assert os.listdir("/proc/self/fd") == before
