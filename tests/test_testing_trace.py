"""rawbpf.testing.trace: the calls of a block are collected, and counted per command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf.testing import Trace, trace
from rawbpf.uapi.enums import Cmd

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def test_the_calls_of_a_block_are_collected_and_counted(backend: Backend) -> None:
    with trace() as calls, rawbpf.HashMap.create(key=4, value=4, max_entries=8, name="seen") as m:
        calls.clear()
        for i in range(3):
            m[bytes([i, 0, 0, 0])] = b"abcd"
        assert m.get(b"none") is None
    assert len(calls) == calls.count() == 4
    assert calls.count("map_update_elem") == calls.count(Cmd.MAP_UPDATE_ELEM) == 3
    assert calls.count("map_update_elem", "map_lookup_elem") == 4
    assert calls.count("map_create") == 0
    assert calls.counts() == {"map_update_elem": 3, "map_lookup_elem": 1}
    assert [call.errno for call in calls] == [0, 0, 0, 2]
    assert calls[-1].cmd == Cmd.MAP_LOOKUP_ELEM
    assert str(calls).splitlines()[-1].endswith("= -1 ENOENT")
    assert repr(calls[0]).startswith("<Call bpf(map_update_elem, {map_fd=")
    assert repr(calls[-1]).endswith(") = -1 ENOENT>")
    assert repr(calls) == "<Trace of 4 calls: map_update_elem 3, map_lookup_elem 1>"


def test_what_was_made_before_the_block_is_not_seen(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as before, trace() as calls:
        before[1] = 1
        assert len(calls) == 0
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8):
            pass
        assert calls.count("map_create") == 1


def test_its_backend_can_be_handed_on(backend: Backend) -> None:
    calls = Trace(backend)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8, backend=calls.backend) as m:
        m[1] = 1
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as other:
        other[1] = 1
    assert calls.count("map_update_elem") == 1


def test_an_unknown_command_is_an_error_and_not_a_count_of_none(backend: Backend) -> None:
    with trace() as calls, pytest.raises(ValueError, match="did you mean map_create"):
        calls.count("map_creat")
