"""A refusal for want of privileges names the capability that is missing, and what else may be in the way."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from support.child import run_as_nobody

from rawbpf.errors import BpfError, PermissionDenied
from rawbpf.syscall import misc, obj
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.map import map_create
from rawbpf.syscall.permission import explain, needed
from rawbpf.syscall.prog import prog_load, prog_query
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name, prog_type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

RETURN_0 = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
EVERYTHING = ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
CAN = pytest.mark.needs("kernel", "capability:CAP_SETUID", "capability:CAP_SETGID", "capability:CAP_SYS_ADMIN")


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except PermissionDenied as error:
        return str(error)
    except BpfError as error:
        return f"not refused for want of a capability: {error}"
    return "not refused"


def a_map(backend: Backend, map_type: int) -> Callable[[], int]:
    return lambda: map_create(backend, map_type=map_type, key_size=4, value_size=4, max_entries=1)


@pytest.mark.real_kernel("it is about what this process may do")
@CAN
@pytest.mark.parametrize(
    ("capabilities", "action", "missing"),
    [
        pytest.param((), lambda b: a_map(b, c.BPF_MAP_TYPE_LRU_HASH)(), "CAP_BPF", id="map"),
        pytest.param(("CAP_BPF",), lambda b: a_map(b, c.BPF_MAP_TYPE_SOCKMAP)(), "CAP_NET_ADMIN", id="socket map"),
        pytest.param(
            (), lambda b: a_map(b, c.BPF_MAP_TYPE_SOCKMAP)(), "CAP_BPF and CAP_NET_ADMIN", id="socket map, none"
        ),
        pytest.param((), lambda b: btf_load(b, b"BTF"), "CAP_BPF", id="BTF"),
        pytest.param(("CAP_BPF",), lambda b: obj.map_get_next_id(b, 0), "CAP_SYS_ADMIN", id="ids"),
        pytest.param(("CAP_BPF",), lambda b: obj.prog_get_fd_by_id(b, 1), "CAP_SYS_ADMIN", id="descriptor by id"),
        pytest.param(("CAP_BPF",), misc.enable_stats, "CAP_SYS_ADMIN", id="statistics"),
        pytest.param(
            ("CAP_BPF",),
            lambda b: prog_query(b, target_fd=0, attach_type=c.BPF_CGROUP_INET_INGRESS),
            "CAP_NET_ADMIN",
            id="query",
        ),
    ],
)
def test_the_missing_capability_is_named(
    backend: Backend, capabilities: tuple[str, ...], action: Callable[[Backend], object], missing: str
) -> None:
    answer = run_as_nobody(lambda: refusal(lambda: action(backend)), *capabilities)
    assert f"EPERM: needs {missing}, which this process lacks" in answer
    assert f"setcap {missing.lower().replace(' and ', ',')}+ep" in answer


@pytest.mark.real_kernel("it is about what this process may do")
@CAN
@pytest.mark.parametrize("prog_type", range(1, 33), ids=prog_type_name)
def test_the_capabilities_that_a_program_type_needs_are_the_kernels(backend: Backend, prog_type: int) -> None:
    wanted = needed(c.BPF_PROG_LOAD, {"prog_type": prog_type})

    def load() -> str:
        return refusal(lambda: prog_load(backend, prog_type=prog_type, insns=RETURN_0))

    for without in wanted:
        rest = tuple(name for name in wanted if name != without)
        assert f"EPERM: needs {without}, which this process lacks" in run_as_nobody(load, *rest)
    answer = run_as_nobody(load, *wanted)
    if "EPERM" in run_as_nobody(load, *EVERYTHING):
        # A security module refuses this type to everybody; that is told apart.
        assert "so something else forbids it" in answer
    else:
        assert "EPERM" not in answer


@pytest.mark.real_kernel("it is about what this process may do")
@CAN
@pytest.mark.parametrize("map_type", range(1, 34), ids=map_type_name)
def test_the_capabilities_that_a_map_type_needs_are_the_kernels(backend: Backend, map_type: int) -> None:
    wanted = needed(c.BPF_MAP_CREATE, {"map_type": map_type})
    for without in wanted:
        rest = tuple(name for name in wanted if name != without)
        answer = run_as_nobody(lambda: refusal(a_map(backend, map_type)), *rest)
        # The kernel looks at the sizes first: a type that refuses these never gets as far.
        assert f"EPERM: needs {without}, which this process lacks" in answer or ": EINVAL: " in answer
    assert "EPERM" not in run_as_nobody(lambda: refusal(a_map(backend, map_type)), *wanted)


@pytest.mark.real_kernel("it is about what this process may do")
@CAN
def test_a_refused_process_is_told_of_the_sysctl(backend: Backend) -> None:
    value = backend.host.unprivileged_bpf_disabled()
    answer = run_as_nobody(lambda: refusal(a_map(backend, c.BPF_MAP_TYPE_LRU_HASH)))
    assert f"(kernel.unprivileged_bpf_disabled is {value}, which " in answer


class FakeHost:
    """A machine of which only what permissions depend on is known."""

    def __init__(self, capabilities: frozenset[str], sysctl: int | None, lockdown: str | None) -> None:
        self.capabilities = lambda: capabilities
        self.unprivileged_bpf_disabled = lambda: sysctl
        self.lockdown = lambda: lockdown


@pytest.mark.parametrize(
    ("has", "sysctl", "lockdown", "words"),
    [
        pytest.param((), None, None, "lacks; run it as root", id="nothing known"),
        pytest.param(
            (), 1, None, "is 1, which forbids bpf to unprivileged processes until the next boot)", id="sysctl 1"
        ),
        pytest.param((), 0, None, "is 0, which leaves only some map types and socket filters", id="sysctl 0"),
        pytest.param((), 9, "integrity", "is 9); the kernel is locked down (integrity)", id="lockdown"),
        pytest.param(("CAP_SYS_ADMIN",), 2, None, "something else forbids it", id="all capabilities"),
        pytest.param(("CAP_BPF",), 2, "none", "something else forbids it", id="the capability"),
        pytest.param(("CAP_BPF",), 2, "confidentiality", "); the kernel is locked down (confidentiality)", id="locked"),
    ],
)
def test_what_stands_in_the_way_is_told(
    has: tuple[str, ...], sysctl: int | None, lockdown: str | None, words: str
) -> None:
    host = FakeHost(frozenset(has), sysctl, lockdown)
    assert words in explain(host, ("CAP_BPF",))  # type: ignore[arg-type]  # only what is asked for is there


@CAN
def test_a_descriptor_that_was_handed_over_works_without_capabilities(backend: Backend) -> None:
    import ctypes

    from rawbpf.syscall.map import map_lookup_elem, map_update_elem

    fd = a_map(backend, c.BPF_MAP_TYPE_HASH)()
    key, value = ctypes.c_uint32(1), ctypes.c_uint32(7)

    def use() -> str:
        map_update_elem(backend, fd, key, value)
        map_lookup_elem(backend, fd, key, value)
        return str(value.value)

    try:
        assert run_as_nobody(use) == "7"
    finally:
        backend.close(fd)
