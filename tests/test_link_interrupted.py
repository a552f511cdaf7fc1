"""Whatever interrupts attaching, nothing stays attached or open."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from support import cgroup_tree, network, tracers
from support.signalled import Signalled

import rawbpf
from rawbpf.link.base import Link
from rawbpf.link.deferral import DeferredSignals
from rawbpf.link.rtnetlink import xdp_programs
from rawbpf.program.program import Program
from rawbpf.syscall import prog
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("nothing can be attached to a simulated kernel")

Counts = rawbpf.ArrayMap[int]


@pytest.fixture
def counts(backend: Backend) -> Iterator[Counts]:
    with rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as array:
        yield array


def _tracepoint(program: Program) -> Link:
    return program.attach_tracepoint(*tracers.GETPGID)


def _raw_tracepoint(program: Program) -> Link:
    return program.attach_raw_tracepoint("task_rename")


WAYS = [
    pytest.param(_tracepoint, -1, True, id="after perf_event_open"),
    pytest.param(_tracepoint, c.BPF_LINK_CREATE, False, id="before link_create"),
    pytest.param(_tracepoint, c.BPF_LINK_CREATE, True, id="after link_create"),
    pytest.param(_raw_tracepoint, c.BPF_RAW_TRACEPOINT_OPEN, False, id="before raw_tracepoint_open"),
    pytest.param(_raw_tracepoint, c.BPF_RAW_TRACEPOINT_OPEN, True, id="after raw_tracepoint_open"),
]


@pytest.mark.parametrize(("attach", "cmd", "after"), WAYS)
def test_ctrl_c_while_attaching_leaves_nothing_attached(
    counts: Counts, backend: Backend, attach: Callable[[Program], Link], cmd: int, after: bool
) -> None:
    interrupted = Signalled(backend, cmd, after)
    by_event = attach is _tracepoint
    instructions = (tracers.count_getpgid if by_event else tracers.count_renames)(counts.fileno())
    kind = "tracepoint" if by_event else "raw_tracepoint"
    with Program.load(kind, instructions, backend=interrupted) as program:
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(KeyboardInterrupt):
            attach(program)
        assert sorted(os.listdir("/proc/self/fd")) == before
        tracers.call_getpgid()
        tracers.rename_thread()
        assert counts[0] == 0


@pytest.mark.needs(*cgroup_tree.NEEDS, "prog_type:cgroup_skb")
@pytest.mark.parametrize(
    ("cmd", "after"),
    [
        pytest.param(c.BPF_LINK_CREATE, False, id="before link_create"),
        pytest.param(c.BPF_LINK_CREATE, True, id="after link_create"),
        pytest.param(c.BPF_PROG_ATTACH, True, id="after prog_attach"),
    ],
)
def test_ctrl_c_while_attaching_to_a_cgroup_leaves_nothing_attached(backend: Backend, cmd: int, after: bool) -> None:
    old = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.EINVAL)] if cmd == c.BPF_PROG_ATTACH else []})
    with (
        cgroup_tree.new_cgroup() as group,
        Program.load("cgroup_skb/egress", tracers.returning(1), backend=Signalled(old, cmd, after)) as program,
    ):
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(KeyboardInterrupt):
            program.attach_cgroup(group)
        assert sorted(os.listdir("/proc/self/fd")) == before
        fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert prog.prog_query(backend, target_fd=fd, attach_type=c.BPF_CGROUP_INET_EGRESS).count == 0
        finally:
            os.close(fd)


@pytest.mark.needs(*network.NEEDS, "prog_type:xdp")
@pytest.mark.parametrize("after", [False, True], ids=["before link_create", "after link_create"])
def test_ctrl_c_while_attaching_to_an_interface_leaves_nothing_attached(backend: Backend, after: bool) -> None:
    interrupted = Signalled(backend, c.BPF_LINK_CREATE, after)
    with network.namespace(), Program.load("xdp", tracers.returning(2), backend=interrupted) as program:
        near, _ = network.veth_pair("veth")
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(KeyboardInterrupt):
            program.attach_xdp(near.name)
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert xdp_programs(near.index) == {}


def test_the_signals_that_were_blocked_before_are_blocked_afterwards() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with DeferredSignals():
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= blocked
            assert signal.SIGSEGV not in blocked
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_other_threads_attach_as_well(counts: Counts) -> None:
    links: list[Link] = []
    with Program.load("tracepoint", tracers.count_getpgid(counts.fileno())) as program:
        thread = threading.Thread(target=lambda: links.append(_tracepoint(program)))
        thread.start()
        thread.join()
        with links[0]:
            tracers.call_getpgid(3)
    assert counts[0] == 3
