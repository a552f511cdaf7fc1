"""rawbpf.testing.faults: a call fails as if the kernel had refused it, and the kernel never sees it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.syscall.current import current
from rawbpf.testing import faults
from rawbpf.uapi import constants as c
from rawbpf.uapi.enums import Cmd

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


@pytest.mark.parametrize("cmd", [Cmd.MAP_UPDATE_ELEM, c.BPF_MAP_UPDATE_ELEM, "map_update_elem"], ids=repr)
def test_the_nth_call_of_a_command_fails(backend: Backend, cmd: int | str) -> None:
    with (
        faults({cmd: [(2, errno.ENOMEM), (3, errno.EPERM)]}) as failing,
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m,
    ):
        m[1] = 1
        with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            m[2] = 2
        with pytest.raises(rawbpf.PermissionDenied):
            m[3] = 3
        m[4] = 4
        assert m.snapshot() == {1: 1, 4: 4}
        assert failing.calls[c.BPF_MAP_UPDATE_ELEM] == 4


def test_an_errno_alone_is_for_every_call(backend: Backend) -> None:
    with (
        faults({"map_update_batch": rawbpf.errors.ENOTSUPP}) as failing,
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m,
    ):
        for _ in range(3):
            m.update({1: 1, 2: 2})  # falls back on one call for each
        assert m.snapshot() == {1: 1, 2: 2}
        assert failing.calls[c.BPF_MAP_UPDATE_BATCH] == 3
        failing.fail(c.BPF_MAP_UPDATE_BATCH, [(4, errno.EPERM)])
        with pytest.raises(rawbpf.PermissionDenied):
            m.update({1: 1, 2: 2})


def test_only_what_is_made_within_the_block_fails(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as before:
        with faults({"map_update_elem": errno.ENOMEM}):
            before[1] = 1
            during = rawbpf.HashMap.create(key="u32", value="u32", max_entries=4)
        with during, pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            during[1] = 1
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as after:
            after[1] = 1


def test_faults_lie_within_faults(backend: Backend) -> None:
    with (
        faults({"map_update_elem": [(1, errno.ENOMEM)]}) as inner,
        faults({"map_delete_elem": [(1, errno.EPERM)]}),
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m,
    ):
        with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            m[1] = 1
        with pytest.raises(rawbpf.PermissionDenied):
            del m[1]
        assert c.BPF_MAP_DELETE_ELEM not in inner.calls


@pytest.mark.parametrize(
    ("due", "message"),
    [
        pytest.param({"map_updat_elem": 12}, "did you mean map_update_elem", id="name"),
        pytest.param({999: 12}, "no bpf command has the number 999", id="number"),
        pytest.param({"map_create": [(0, 12)]}, "counted from 1", id="call 0"),
        pytest.param({"map_create": [(1, 0)]}, "expected an errno", id="errno 0"),
        pytest.param({"map_create": -12}, "expected an errno", id="negative errno"),
    ],
)
def test_what_cannot_happen_is_refused(backend: Backend, due: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message), faults(due):
        pass
    assert current() is backend
