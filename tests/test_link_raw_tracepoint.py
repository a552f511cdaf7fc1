"""Programs on raw tracepoints, by name (`raw_tp`) and by BTF (`tp_btf`), run until their link is closed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import tracers

import rawbpf
from rawbpf.errors import BpfError, SpecError
from rawbpf.link.base import Link
from rawbpf.program.program import Program
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.needs("prog_type:raw_tracepoint", "tracepoint:task/task_rename"),
]

Counts = rawbpf.ArrayMap[int]

KINDS = [
    pytest.param("raw_tracepoint/task_rename", id="raw_tracepoint"),
    pytest.param("raw_tp.w/task_rename", id="writable"),
    pytest.param("tp_btf/task_rename", id="tp_btf", marks=pytest.mark.needs("prog_type:tracing")),
]


@pytest.fixture
def counts(backend: Backend) -> Iterator[Counts]:
    with rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as array:
        yield array


@pytest.mark.guest
@pytest.mark.parametrize("section", KINDS)
def test_events_are_counted_exactly_while_attached(counts: Counts, section: str) -> None:
    with Program.load(section, tracers.count_renames(counts.fileno()), name="count") as program:
        assert program.section == section
        tracers.rename_thread(3)
        with program.attach() as link:
            tracers.rename_thread(50)
            assert counts[0] == 50
            assert link.info.prog_id == program.id
        tracers.rename_thread()
        assert counts[0] == 50


def test_a_raw_tracepoint_link_tells_its_name_and_cookie(counts: Counts) -> None:
    with (
        Program.load("raw_tracepoint", tracers.count_renames(counts.fileno())) as program,
        program.attach_raw_tracepoint("task_rename", cookie=9) as link,
    ):
        info = link.info
        assert (info.type_number, info.kind, info.name) == (
            c.BPF_LINK_TYPE_RAW_TRACEPOINT,
            "raw tracepoint",
            "task_rename",
        )
        assert info.cookie == 9
        with Link.from_id(info.id) as other:
            assert other.target == "raw tracepoint task_rename"


@pytest.mark.needs("prog_type:tracing")
@pytest.mark.parametrize("cookie", [0, 5])
def test_a_tracepoint_by_btf_takes_a_cookie(counts: Counts, cookie: int) -> None:
    with (
        Program.load("tp_btf/task_rename", tracers.count_renames(counts.fileno())) as program,
        program.attach_tracing(cookie) as link,
    ):
        tracers.rename_thread(2)
        assert counts[0] == 2
        assert (link.info.name, link.info.cookie) == ("task_rename", cookie)
        assert link.target == "tp_btf/task_rename"


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("task_renam", "no tracepoint 'task_renam'; did you mean task_rename", id="misspelt"),
        pytest.param("task/task_rename", "go by the event alone: 'task_rename', without 'task'", id="with category"),
        pytest.param("qqqqqqqq", "no tracepoint 'qqqqqqqq'$", id="nothing close"),
    ],
)
def test_an_unknown_raw_tracepoint_gives_the_closest_names(backend: Backend, name: str, text: str) -> None:
    with (
        Program.load("raw_tracepoint", tracers.returning(0)) as program,
        pytest.raises(BpfError, match=text) as caught,
    ):
        program.attach_raw_tracepoint(name)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.guest
@pytest.mark.needs("prog_type:tracing")
@pytest.mark.parametrize(
    ("section", "text"),
    [
        pytest.param("tp_btf/task_renam", "no tracepoint 'task_renam'; did you mean task_rename", id="tp_btf"),
        pytest.param("fentry/tcp_sendms", "no function 'tcp_sendms'; did you mean tcp_sendmsg", id="fentry"),
        pytest.param("fsession/tcp_sendms", "no function 'tcp_sendms'; did you mean tcp_sendmsg", id="fsession"),
        pytest.param(
            "lsm/file_opn",
            "no LSM hook 'file_opn'; did you mean file_open",
            marks=pytest.mark.needs("btf_name:bpf_lsm_file_open"),
            id="lsm",
        ),
    ],
)
def test_an_unknown_target_by_btf_gives_the_closest_names(backend: Backend, section: str, text: str) -> None:
    with pytest.raises(BpfError, match=text) as caught:
        Program.load(section, tracers.returning(0))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.guest
def test_a_tracing_program_without_a_target_is_refused_before_the_kernel_sees_it(backend: Backend) -> None:
    with pytest.raises(SpecError, match="is loaded for one tracepoint: name it"):
        Program.load("tp_btf", tracers.returning(0))
    with pytest.raises(SpecError, match=r"is loaded for a function of that: give Program\.load its attach_prog_fd"):
        Program.load("freplace/other", tracers.returning(0))


@pytest.mark.guest
def test_a_program_of_another_type_is_named(backend: Backend) -> None:
    with Program.load("xdp", tracers.returning(2), name="packet") as program:
        with pytest.raises(
            BpfError, match="type raw_tracepoint or raw_tracepoint_writable, and 'packet' is of type xdp"
        ):
            program.attach_raw_tracepoint("task_rename")
        with pytest.raises(BpfError, match="type tracing or lsm or ext, and 'packet' is of type xdp"):
            program.attach_tracing()
