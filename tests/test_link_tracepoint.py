"""A program on a tracepoint runs from when it is attached until its link is closed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import tracers
from support.bpffs import detached_bpffs

import rawbpf
from rawbpf.asm import build as b
from rawbpf.errors import BpfError, NotSupported, PermissionDenied
from rawbpf.link.base import EventLink, Link
from rawbpf.program.program import Program
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.needs("prog_type:tracepoint", f"tracepoint:{'/'.join(tracers.GETPGID)}"),
    pytest.mark.guest,
]
# Before Linux 5.15 the event itself is what attaches.
EVENT_LINKS = pytest.mark.needs("btf_name:BPF_LINK_TYPE_PERF_EVENT")
# Before Linux 6.6 they do not say of which event they are.
TELLING_LINKS = pytest.mark.needs("btf_name:bpf_perf_link_fill_link_info")

Counts = rawbpf.ArrayMap[int]


@pytest.fixture
def counts(backend: Backend) -> Iterator[Counts]:
    with rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as array:
        yield array


@pytest.fixture
def counter(counts: Counts, backend: Backend) -> Iterator[Program]:
    with Program.load("tracepoint", tracers.count_getpgid(counts.fileno()), name="count") as program:
        yield program


def test_events_are_counted_exactly_while_attached(counter: Program, counts: Counts) -> None:
    tracers.call_getpgid(3)
    with counter.attach_tracepoint(*tracers.GETPGID):
        tracers.call_getpgid(100)
        assert counts[0] == 100
    tracers.call_getpgid(5)
    assert counts[0] == 100


def test_closing_twice_is_closing_once(counter: Program, counts: Counts) -> None:
    link = counter.attach_tracepoint(*tracers.GETPGID)
    link.close()
    link.close()
    assert link.closed
    assert "closed" in repr(link)
    with pytest.raises(rawbpf.Closed, match="sys_enter_getpgid"):
        link.fileno()
    with pytest.raises(rawbpf.Closed):
        _ = link.id
    tracers.call_getpgid()
    assert counts[0] == 0


def test_it_can_be_attached_again_after_it_was_detached(counter: Program, counts: Counts) -> None:
    for _ in range(3):
        with counter.attach_tracepoint(*tracers.GETPGID):
            tracers.call_getpgid(2)
    assert counts[0] == 6


def test_the_link_outlives_its_program(counts: Counts, backend: Backend) -> None:
    with Program.load("tracepoint", tracers.count_getpgid(counts.fileno())) as program:
        link = program.attach_tracepoint(*tracers.GETPGID)
    with link:
        tracers.call_getpgid(4)
        assert counts[0] == 4


def test_a_link_holds_one_descriptor(counter: Program) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with counter.attach_tracepoint(*tracers.GETPGID):
        assert len(os.listdir("/proc/self/fd")) == before + 1


@TELLING_LINKS
def test_a_link_tells_what_it_is(counter: Program) -> None:
    with counter.attach_tracepoint(*tracers.GETPGID, cookie=7) as link:
        info = link.info
        assert (info.id, info.prog_id, info.type_number) == (link.id, counter.id, c.BPF_LINK_TYPE_PERF_EVENT)
        assert (info.kind, info.name, info.cookie) == ("tracepoint", "sys_enter_getpgid", 7)
        assert link.target == "tracepoint syscalls/sys_enter_getpgid"
        assert "sys_enter_getpgid" in repr(link)
        with Link.from_id(link.id) as other:
            assert other.target == "tracepoint sys_enter_getpgid"
            assert other.id == link.id


@EVENT_LINKS
def test_the_program_gets_its_cookie(counts: Counts, backend: Backend) -> None:
    with (
        Program.load("tracepoint", tracers.store_cookie(counts.fileno())) as program,
        program.attach_tracepoint(*tracers.GETPGID, cookie=0xFEDCBA9876543210),
    ):
        tracers.call_getpgid()
        assert counts[0] == 0xFEDCBA9876543210


def test_a_released_link_stays_attached_until_its_descriptor_is_closed(counter: Program, counts: Counts) -> None:
    link = counter.attach_tracepoint(*tracers.GETPGID)
    fd = link.release()
    try:
        assert link.closed
        tracers.call_getpgid(2)
        assert counts[0] == 2
    finally:
        os.close(fd)
    tracers.call_getpgid()
    assert counts[0] == 2


@TELLING_LINKS
def test_a_pinned_link_stays_attached_until_its_pin_is_removed(counter: Program, counts: Counts) -> None:
    with detached_bpffs() as root:
        with counter.attach_tracepoint(*tracers.GETPGID) as link:
            link.pin(root / "it")
        tracers.call_getpgid(2)
        with Link.from_pin(root / "it") as again:
            assert again.target == "tracepoint sys_enter_getpgid"
        assert counts[0] == 2
        (root / "it").unlink()
        # The file system lets go of the link some time later.
        deadline = time.monotonic() + 10
        seen = -1
        while counts[0] != seen:
            assert time.monotonic() < deadline
            seen = counts[0]
            tracers.call_getpgid()


@EVENT_LINKS
def test_a_dropped_link_warns_where_it_was_attached_and_detaches(counter: Program, counts: Counts) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed <Link tracepoint .*getpgid.*test_link_tracepoint\.py:\d+"):
        counter.attach_tracepoint(*tracers.GETPGID)
    tracers.call_getpgid()
    assert counts[0] == 0


class TestKernelsWithoutEventLinks:
    """They answer LINK_CREATE with EINVAL, and take programs by ioctl."""

    @pytest.fixture
    def old(self, backend: Backend) -> FaultBackend:
        return FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.EINVAL), (2, errno.EINVAL)]})

    @pytest.fixture
    def counter(self, counts: Counts, old: FaultBackend) -> Iterator[Program]:
        with Program.load("tracepoint", tracers.count_getpgid(counts.fileno()), backend=old) as program:
            yield program

    def test_events_are_counted_exactly_while_attached(self, counter: Program, counts: Counts) -> None:
        with counter.attach_tracepoint(*tracers.GETPGID) as link:
            assert isinstance(link, EventLink)
            tracers.call_getpgid(100)
            assert counts[0] == 100
        tracers.call_getpgid(5)
        assert counts[0] == 100

    def test_there_is_no_link_object_to_pin_or_ask(self, counter: Program) -> None:
        with counter.attach_tracepoint(*tracers.GETPGID) as link:
            with pytest.raises(NotSupported, match=r"since Linux 5\.15"):
                _ = link.id
            with pytest.raises(NotSupported, match=r"since Linux 5\.15"):
                link.pin("/sys/fs/bpf/never")

    def test_a_cookie_is_refused_and_nothing_stays_attached(self, counter: Program, counts: Counts) -> None:
        with pytest.raises(NotSupported, match="no cookies for tracepoints"):
            counter.attach_tracepoint(*tracers.GETPGID, cookie=1)
        tracers.call_getpgid()
        assert counts[0] == 0

    def test_a_program_of_another_type_is_named(self, old: FaultBackend) -> None:
        with (
            Program.load("raw_tracepoint", tracers.returning(0), name="raw", backend=old) as program,
            pytest.raises(BpfError, match="takes programs of type tracepoint, and 'raw' is of type raw_tracepoint"),
        ):
            program.attach_tracepoint(*tracers.GETPGID)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(errno.EPERM, PermissionDenied, id="forbidden"),
        pytest.param(errno.ENOMEM, BpfError, id="no memory"),
    ],
)
def test_a_refused_link_leaves_nothing_behind(
    counts: Counts, backend: Backend, number: int, kind: type[BpfError]
) -> None:
    faulty = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, number)]})
    with Program.load("tracepoint", tracers.count_getpgid(counts.fileno()), backend=faulty) as program:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(kind, match="tracepoint syscalls/sys_enter_getpgid"):
            program.attach_tracepoint(*tracers.GETPGID)
        assert os.listdir("/proc/self/fd") == before
        tracers.call_getpgid()
        assert counts[0] == 0


def test_attaching_twice_says_so(counter: Program) -> None:
    with (
        counter.attach_tracepoint(*tracers.GETPGID),
        pytest.raises(BpfError, match="attached to this tracepoint already") as caught,
    ):
        counter.attach_tracepoint(*tracers.GETPGID)
    assert caught.value.errno == errno.EEXIST


def test_reading_beyond_the_record_says_so(backend: Backend) -> None:
    far = [b.load_mem(b.R0, b.R1, 4096), *tracers.returning(0)]
    with (
        Program.load("tracepoint", far) as program,
        pytest.raises(BpfError, match="reads further into its context than this tracepoint's record") as caught,
    ):
        program.attach_tracepoint(*tracers.GETPGID)
    assert not isinstance(caught.value, PermissionError)


def test_a_program_of_another_type_is_named(backend: Backend) -> None:
    with (
        Program.load("xdp", tracers.returning(2), name="packet") as program,
        pytest.raises(BpfError, match="takes programs of type tracepoint, and 'packet' is of type xdp"),
    ):
        program.attach_tracepoint(*tracers.GETPGID)


@pytest.mark.parametrize(
    ("category", "name", "text"),
    [
        pytest.param("sched", "sched_swich", "did you mean sched_switch", id="event"),
        pytest.param("shed", "sched_switch", "did you mean sched", id="category"),
        pytest.param("sched", "qqqqqq", "has no tracepoint 'qqqqqq' in this kernel$", id="nothing close"),
    ],
)
def test_an_unknown_tracepoint_gives_the_closest_names(counter: Program, category: str, name: str, text: str) -> None:
    with pytest.raises(BpfError, match=text) as caught:
        counter.attach_tracepoint(category, name)
    assert caught.value.errno == errno.ENOENT


@EVENT_LINKS
def test_links_lists_it(counter: Program) -> None:
    from rawbpf.link.info import links

    with counter.attach_tracepoint(*tracers.GETPGID) as link:
        assert link.id in {info.id for info in links("perf_event")}
        assert link.id not in {info.id for info in links("cgroup")}
