"""A map is one map through every way to it: a duplicate, its id, a pin, and its memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from support import oracle
from support.bpffs import detached_bpffs

from rawbpf.syscall.obj import map_get_fd_by_id, obj_get, obj_get_info_by_fd, obj_pin
from rawbpf.testing import pool
from rawbpf.testing.operation import Operation, perform
from rawbpf.testing.party import Meeting
from rawbpf.testing.spec import MapSpec
from rawbpf.testing.strategies import MAP_TYPES
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def _dup(backend: Backend, fd: int) -> int:
    return backend.dup(fd)


def _by_id(backend: Backend, fd: int) -> int:
    return map_get_fd_by_id(backend, MAP_INFO.integer(obj_get_info_by_fd(backend, fd, MAP_INFO.size), "id"))


def _by_pin(backend: Backend, fd: int) -> int:
    # The simulator has a file system of its own.
    with ExitStack() as stack:
        folder = getattr(backend, "bpffs", None) or stack.enter_context(detached_bpffs())
        path = f"{folder}/map".encode()
        obj_pin(backend, fd, path)
        stack.callback(os.unlink, path)
        return obj_get(backend, path)


@contextmanager
def _opened(backend: Backend, ways: list[Callable[[Backend, int], int]], fd: int) -> Iterator[list[int]]:
    fds = [way(backend, fd) for way in ways]
    try:
        yield fds
    finally:
        for each in fds:
            backend.close(each)


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_what_is_done_through_one_descriptor_is_seen_through_the_others(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:

        @oracle.for_all(
            oracle.cases(map_type, stages[0].backend.host.possible_cpus, 40), examples=oracle.examples(map_type)
        )
        def aliases(case: tuple[MapSpec, list[Operation]]) -> None:
            for stage in stages:
                with Meeting(case[0], [stage]) as meeting:
                    party = meeting.parties[0]
                    with _opened(stage.backend, [_dup, _by_id, _by_pin], party.fds[""]) as others:
                        fds = [party.fds[""], *others]
                        for at, operation in enumerate(case[1]):
                            # The model does not know which of them is used.
                            party.fds[""] = fds[at % len(fds)]
                            meeting.perform(operation)
                        party.fds[""] = fds[0]
                        info = [perform(stage.backend, fd, case[0], Operation("info")) for fd in fds]
                        assert all(each == info[0] for each in info)
                    # What the others did by closing is nothing to this one.
                    assert perform(stage.backend, fds[0], case[0], Operation("info")) == info[0]


@pytest.mark.parametrize("value_size", [1, 3, 4, 8, 12])
def test_the_memory_of_an_array_is_what_lookups_read(value_size: int) -> None:
    oracle.require("array")
    spec = MapSpec("array", 4, value_size, 4, c.BPF_F_MMAPABLE)
    stride = value_size + 7 & ~7
    with oracle.stages("array") as stages:

        @oracle.for_all(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 255)), max_size=20))
        def agrees(writes: list[tuple[bool, int, int]]) -> None:
            for stage in stages:
                with Meeting(spec, [stage]) as meeting:
                    backend = stage.backend
                    with backend.mmap(meeting.parties[0].fds[""], backend.host.page_size) as memory:
                        for through_memory, index, byte in writes:
                            value = bytes([byte]) * value_size
                            key = index.to_bytes(4, backend.host.byteorder)
                            if through_memory:
                                memory[index * stride : index * stride + value_size] = value
                                assert meeting.parties[0].perform(Operation("lookup", key)).value == value
                                # The model has no memory: it is told.
                                meeting.perform(Operation("update", key, value))
                            else:
                                meeting.perform(Operation("update", key, value))
                                assert memory[index * stride : index * stride + value_size] == value
                        for each in pool.keys(spec):
                            meeting.perform(Operation("lookup", each))
