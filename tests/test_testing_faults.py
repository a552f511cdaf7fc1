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
        assert "map_delete_elem" not in inner.calls


@pytest.mark.parametrize(
    ("due", "message"),
    [
        pytest.param({"map_updat_elem": 12}, "did you mean map_update_elem", id="name"),
        pytest.param({999: 12}, "no bpf command has the number 999", id="number"),
        pytest.param({"map_create": [(0, 12)]}, "counted from 1", id="call 0"),
        pytest.param({"map_create": [(1, 0)]}, "expected an errno", id="errno 0"),
        pytest.param({"map_create": -12}, "expected an errno", id="negative errno"),
        pytest.param({"map_create": [(1, 5), (1, 6)]}, "map_create: call 1 is to fail with EIO and ENXIO", id="twice"),
        pytest.param({"map_create": 5, Cmd.MAP_CREATE: 6}, "map_create: there are faults of it twice", id="two names"),
    ],
)
def test_what_cannot_happen_is_refused(backend: Backend, due: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message), faults(due):
        pass
    assert current() is backend


@pytest.mark.parametrize(
    ("due", "message"),
    [
        pytest.param({"map_update_elem": "EIO"}, r"map_update_elem: expected an errno, .*, got 'EIO'$", id="a name"),
        pytest.param({"map_update_elem": (1, 5)}, r"got 1 among them; one pair is \[\(1, 5\)\]", id="a bare pair"),
        pytest.param({"map_update_elem": [(1,)]}, r"got \(1,\) among them$", id="one number"),
        pytest.param({"map_update_elem": [(1, "EIO")]}, r"got \(1, 'EIO'\) among them$", id="a name in a pair"),
        pytest.param({"map_update_elem": None}, "expected an errno, .*, got None", id="None"),
        pytest.param({"map_update_elem": True}, "expected an errno, .*, got True", id="True"),
        pytest.param({None: 5}, "expected a bpf command, .*, got None", id="no command"),
        pytest.param([(1, 5)], "expected faults by command, as {'map_update_elem': .*, got a?", id="a list"),
    ],
)
def test_what_says_no_fault_is_a_type_error(backend: Backend, due: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message), faults(due):
        pass
    assert current() is backend


def test_calls_are_counted_by_name(backend: Backend) -> None:
    with faults({}) as failing, rawbpf.HashMap.create(key=4, value=4, max_entries=4) as m:
        failing.calls.clear()
        m[bytes(4)] = bytes(4)
        assert failing.calls == {"map_update_elem": 1}
        assert failing.calls["map_update_elem"] == failing.calls[Cmd.MAP_UPDATE_ELEM] == 1
        assert failing.calls["map_delete_elem"] == failing.calls[c.BPF_MAP_DELETE_ELEM] == 0
        cmds: list[Any] = [Cmd.MAP_UPDATE_ELEM, "map_update_elem", Cmd.MAP_DELETE_ELEM, "map_delete_elem", None]
        assert [cmd in failing.calls for cmd in cmds] == [True, True, False, False, False]


def test_a_fault_that_did_not_come_is_told(backend: Backend) -> None:
    due: dict[int | str, Any] = {
        "map_update_elem": [(3, errno.ENOMEM), (2, errno.EIO), (9, errno.EPERM)],
        Cmd.MAP_FREEZE: errno.EPERM,
        "map_update_batch": rawbpf.errors.ENOTSUPP,
    }
    with faults(due) as failing, rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        m[1] = 1
        with pytest.raises(rawbpf.BpfError, match="EIO"):
            m[2] = 2
        assert failing.unused == {
            "map_update_batch": rawbpf.errors.ENOTSUPP,
            "map_freeze": errno.EPERM,
            "map_update_elem": [(3, errno.ENOMEM), (9, errno.EPERM)],
        }
        with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            m.update({1: 1, 2: 2})
        assert failing.unused == {"map_freeze": errno.EPERM, "map_update_elem": [(9, errno.EPERM)]}
        with pytest.raises(rawbpf.PermissionDenied):
            m.freeze()
    assert failing.unused == {"map_update_elem": [(9, errno.EPERM)]}


def test_faults_that_must_come_fail_the_block_where_they_do_not(backend: Backend) -> None:
    due: dict[int | str, Any] = {"map_update_elem": [(1, errno.EIO), (4, errno.EPERM)], "map_freeze": errno.EPERM}
    with pytest.raises(AssertionError) as caught, faults(due, all_must_come=True):
        update_twice()
    assert str(caught.value) == "faults that did not come: map_freeze: EPERM, call 4 of map_update_elem: EPERM"
    with faults({"map_update_elem": [(1, errno.EIO)]}, all_must_come=True):
        update_twice()
    with pytest.raises(ZeroDivisionError), faults(due, all_must_come=True):
        raise ZeroDivisionError


def update_twice() -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        with pytest.raises(rawbpf.BpfError, match="EIO"):
            m[1] = 1
        m[2] = 2
