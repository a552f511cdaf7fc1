"""A program on a cgroup judges what processes in it do, from when it is attached until its link is closed."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import cgroup_tree, kernel_ids, network, tracers
from support.bpffs import detached_bpffs
from support.packets import add_one

import rawbpf
from rawbpf.asm import build as b
from rawbpf.errors import BpfError, NotSupported, PermissionDenied, SpecError
from rawbpf.link.base import Link
from rawbpf.link.cgroup import CgroupAttachment
from rawbpf.program.program import Program
from rawbpf.syscall import prog
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.needs(*cgroup_tree.NEEDS, "prog_type:cgroup_skb", "prog_type:cgroup_sock"),
    pytest.mark.guest,
]

Counts = rawbpf.ArrayMap[int]
DOOMED = b"dropped"
_HEADERS = 20 + 8  # what IPv4 and UDP put before it


@pytest.fixture
def group(backend: Backend) -> Iterator[Path]:
    with cgroup_tree.new_cgroup() as path:
        yield path


@pytest.fixture
def counts(backend: Backend) -> Iterator[Counts]:
    with rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as array:
        yield array


def count_and_filter(map_fd: int) -> list[Instruction]:
    """Count the packets in the array's first u64, and drop those that are as long as DOOMED makes them."""
    return [
        b.load_mem(b.R3, b.R1, 0, 4),  # skb->len
        *add_one(map_fd),
        b.mov_imm(b.R0, 0),
        b.jump_imm(b.R3, "==", _HEADERS + len(DOOMED), 1),
        b.mov_imm(b.R0, 1),
        b.exit_(),
    ]


def no_datagrams() -> list[Instruction]:
    """Refuse sockets of type SOCK_DGRAM."""
    return [
        b.load_mem(b.R2, b.R1, 8, 4),  # bpf_sock->type
        b.mov_imm(b.R0, 0),
        b.jump_imm(b.R2, "==", socket.SOCK_DGRAM, 1),
        b.mov_imm(b.R0, 1),
        b.exit_(),
    ]


@pytest.fixture
def program(counts: Counts, request: pytest.FixtureRequest) -> Iterator[Program]:
    section = getattr(request, "param", "cgroup_skb/egress")
    with Program.load(section, count_and_filter(counts.fileno()), name="filter") as loaded:
        yield loaded


def exchange() -> str:
    """Send datagrams over loopback from one socket to another; return what arrived, or which were refused."""
    told = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(network.DEADLINE)
        for content in (b"one", DOOMED, b"last"):
            try:
                sender.sendto(content, receiver.getsockname())
            except PermissionError:
                told.append(f"refused {content.decode()}")
        while not told or told[-1] != "last":
            told.append(receiver.recv(64).decode())
    return ", ".join(told)


def make_socket(kind: int) -> str:
    try:
        socket.socket(socket.AF_INET, kind).close()
    except PermissionError:
        return "refused"
    return "made"


ALL = f"one, {DOOMED.decode()}, last"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param("cgroup_skb/egress", f"refused {DOOMED.decode()}, one, last", id="egress"),
        pytest.param("cgroup_skb/ingress", "one, last", id="ingress"),
    ],
    indirect=["program"],
)
def test_packets_of_its_processes_are_counted_and_dropped(
    group: Path, program: Program, counts: Counts, told: str
) -> None:
    assert cgroup_tree.run_inside(group, exchange) == ALL
    with program.attach_cgroup(group) as link:
        assert cgroup_tree.run_inside(group, exchange) == told
        assert counts[0] == 3
        assert exchange() == ALL  # of this process, which is elsewhere
        assert counts[0] == 3
        assert link.program_name == "filter"
    assert cgroup_tree.run_inside(group, exchange) == ALL
    assert counts[0] == 3


def test_it_decides_which_sockets_are_made(group: Path) -> None:
    with (
        Program.load("cgroup/sock_create", no_datagrams()) as program,
        program.attach_cgroup(str(group)),
    ):
        assert cgroup_tree.run_inside(group, lambda: make_socket(socket.SOCK_DGRAM)) == "refused"
        assert cgroup_tree.run_inside(group, lambda: make_socket(socket.SOCK_STREAM)) == "made"
        assert make_socket(socket.SOCK_DGRAM) == "made"


def test_it_judges_the_cgroups_below_beside_their_own_programs(group: Path, program: Program, counts: Counts) -> None:
    with cgroup_tree.new_cgroup(group) as below, program.attach_cgroup(group), program.attach_cgroup(below):
        assert cgroup_tree.run_inside(below, exchange) == f"refused {DOOMED.decode()}, one, last"
        # All see what none has dropped before them.
        assert counts[0] == 6


@pytest.mark.parametrize("attach_type", ["cgroup_inet_egress", c.BPF_CGROUP_INET_EGRESS], ids=["word", "number"])
def test_a_program_for_several_places_is_told_which(group: Path, counts: Counts, attach_type: str | int) -> None:
    with Program.load("cgroup/skb", count_and_filter(counts.fileno())) as program:
        with pytest.raises(TypeError, match=r"attach_type= is needed.*'cgroup_inet_ingress', 'cgroup_inet_egress'"):
            program.attach_cgroup(group)
        with program.attach_cgroup(group, attach_type=attach_type) as link:
            assert link.info.fields["attach_type"] == c.BPF_CGROUP_INET_EGRESS


def test_a_type_with_one_place_needs_no_telling(group: Path) -> None:
    with (
        Program.load("cgroup_device", tracers.returning(1)) as program,
        program.attach_cgroup(group) as link,
    ):
        assert link.info.fields["attach_type"] == c.BPF_CGROUP_DEVICE


def test_a_cgroup_goes_by_its_open_directory_as_well(group: Path, program: Program, counts: Counts) -> None:
    with _Directory(group) as directory, program.attach_cgroup(directory):
        cgroup_tree.run_inside(group, exchange)
    assert counts[0] == 3


class _Directory:
    """A directory that is open, with fileno()."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def fileno(self) -> int:
        return self._fd

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class TestLinks:
    def test_it_tells_its_cgroup(self, group: Path, program: Program) -> None:
        with program.attach_cgroup(group) as link:
            info = link.info
            assert (info.type_number, info.kind, info.prog_id) == (c.BPF_LINK_TYPE_CGROUP, "cgroup", program.id)
            # Source: fs/kernfs: the id of a cgroup is the inode number of its directory.
            assert info.fields["cgroup_id"] == group.stat().st_ino
            assert link.target == f"cgroup_inet_egress of cgroup {str(group)!r}"
            with Link.from_id(link.id) as other:
                assert other.target == f"cgroup_inet_egress of cgroup {group.stat().st_ino}"

    def test_pinned_it_stays_attached_without_its_object(self, group: Path, program: Program, counts: Counts) -> None:
        with detached_bpffs() as root:
            with program.attach_cgroup(group) as link:
                link.pin(root / "filter")
            cgroup_tree.run_inside(group, exchange)
            assert counts[0] == 3
            with Link.from_pin(root / "filter") as last:
                (root / "filter").unlink()
                ours = ("link", last.id)
            assert not kernel_ids.left_over({ours})  # which some kernels take their time for
            cgroup_tree.run_inside(group, exchange)
            assert counts[0] == 3

    def test_its_program_is_exchanged(self, group: Path, program: Program, counts: Counts) -> None:
        with (
            Program.load("cgroup_skb/egress", tracers.returning(1), name="lets_all") as other,
            program.attach_cgroup(group) as link,
        ):
            link.update(other, expected=program)
            assert cgroup_tree.run_inside(group, exchange) == ALL
            assert (counts[0], link.info.prog_id) == (0, other.id)

    def test_it_survives_its_cgroup_and_says_so(self, backend: Backend, program: Program) -> None:
        with cgroup_tree.new_cgroup() as path:
            link = program.attach_cgroup(path)
        with link:
            # The kernel detaches when the last reference to the removed cgroup has gone, from a work queue.
            deadline = time.monotonic() + network.DEADLINE
            while link.info.fields["cgroup_id"]:
                assert time.monotonic() < deadline
                os.sched_yield()
            assert link.info.describe() == "cgroup_inet_egress of cgroup (none: it is gone)"
            with pytest.raises(BpfError, match="what it was attached to is gone"):
                link.update(program)


class TestRefusals:
    @pytest.mark.parametrize(
        ("where", "number", "text"),
        [
            pytest.param(
                cgroup_tree.ROOT / "never", errno.ENOENT, f"those of version 2 are in {cgroup_tree.ROOT}", id="none"
            ),
            pytest.param("/etc", errno.EBADF, "it is no cgroup; those of version 2 are in", id="no cgroup"),
            pytest.param("/etc/passwd", errno.ENOTDIR, "a cgroup is a directory", id="no directory"),
            pytest.param(
                "/sys/fs/cgroup/pids",
                errno.EBADF,
                "it is a cgroup of version 1, and only those of version 2",
                id="version 1",
                marks=pytest.mark.needs("file:/sys/fs/cgroup/pids/cgroup.procs"),
            ),
        ],
    )
    def test_of_what_is_no_cgroup(self, program: Program, where: str | Path, number: int, text: str) -> None:
        with pytest.raises(BpfError, match=text) as caught:
            program.attach_cgroup(where)
        assert caught.value.errno == number

    def test_of_a_number(self, program: Program) -> None:
        with pytest.raises(TypeError, match="expected the path of a cgroup, or its directory, open, as an object"):
            program.attach_cgroup(3)  # type: ignore[arg-type]  # that is the test

    @pytest.mark.parametrize(
        ("section", "attach_type", "text"),
        [
            pytest.param("xdp", None, "type cgroup_skb or .*, and 'other' is of type xdp", id="type"),
            pytest.param("xdp", "cgroup_device", "type cgroup_device, and 'other' is of type xdp", id="type of place"),
            pytest.param("cgroup_skb/egress", "xdp", "xdp is no place of cgroups", id="no place"),
            pytest.param(
                "cgroup/sock_create", "cgroup_inet_sock_release", "loaded for another place", id="another place"
            ),
        ],
    )
    def test_of_a_program_that_belongs_elsewhere(
        self, group: Path, section: str, attach_type: str | None, text: str
    ) -> None:
        with (
            Program.load(section, tracers.returning(1), name="other") as program,
            pytest.raises(BpfError, match=text) as caught,
        ):
            program.attach_cgroup(group, attach_type=attach_type)
        assert caught.value.errno == errno.EINVAL

    def test_by_the_section_name_the_method(self, program: Program) -> None:
        with pytest.raises(SpecError, match="does not say to what: attach_cgroup"):
            program.attach()

    @pytest.mark.parametrize("above", [False, True], ids=["here", "above"])
    def test_by_a_program_that_is_alone_name_it(
        self, group: Path, program: Program, backend: Backend, above: bool
    ) -> None:
        with (
            cgroup_tree.new_cgroup(group) as below,
            Program.load("cgroup_skb/egress", tracers.returning(1), name="hermit") as hermit,
            _Directory(group) as directory,
        ):
            place = c.BPF_CGROUP_INET_EGRESS
            group_fd, hermit_fd = directory.fileno(), hermit.fileno()
            prog.prog_attach(backend, target_fd=group_fd, prog_fd=hermit_fd, attach_type=place)
            try:
                where = "a cgroup above" if above else "this cgroup"
                with pytest.raises(
                    PermissionDenied, match=rf"{where} has program 'hermit' \(id {hermit.id}\), attached"
                ):
                    program.attach_cgroup(below if above else group)
            finally:
                prog.prog_detach(backend, target_fd=group_fd, prog_fd=hermit_fd, attach_type=place)

    def test_of_more_than_64_programs(self, group: Path, program: Program) -> None:
        from contextlib import ExitStack

        with ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(program.attach_cgroup(group))
            with pytest.raises(BpfError, match="E2BIG: 64 programs are attached"):
                program.attach_cgroup(group)

    def test_leave_nothing_behind(self, group: Path, counts: Counts, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.ENOMEM)]})
        with Program.load("cgroup_skb/egress", count_and_filter(counts.fileno()), backend=faulty) as program:
            before = sorted(os.listdir("/proc/self/fd"))
            with pytest.raises(BpfError, match="ENOMEM"):
                program.attach_cgroup(group)
            assert sorted(os.listdir("/proc/self/fd")) == before
            cgroup_tree.run_inside(group, exchange)
            assert counts[0] == 0


class TestOldKernels:
    """They answer LINK_CREATE with EINVAL, and have the command PROG_ATTACH."""

    @pytest.fixture
    def old(self, backend: Backend) -> FaultBackend:
        return FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.EINVAL)]})

    @pytest.fixture
    def program(self, counts: Counts, old: FaultBackend) -> Iterator[Program]:
        with Program.load("cgroup_skb/egress", count_and_filter(counts.fileno()), backend=old) as loaded:
            yield loaded

    @pytest.mark.parametrize("multi", [True, False], ids=["beside others", "before 4.15"])
    def test_packets_are_counted_exactly_while_it_is_attached(
        self, group: Path, program: Program, old: FaultBackend, counts: Counts, multi: bool
    ) -> None:
        if not multi:
            old.fail(c.BPF_PROG_ATTACH, [(1, errno.EINVAL)])
        assert counts[0] == 0  # from now on in memory, which holds a descriptor
        before = sorted(os.listdir("/proc/self/fd"))
        with program.attach_cgroup(group) as link:
            assert isinstance(link, CgroupAttachment)
            with _Directory(group) as directory:
                found = prog.prog_query(old, target_fd=directory.fileno(), attach_type=c.BPF_CGROUP_INET_EGRESS)
            assert found.attach_flags == (c.BPF_F_ALLOW_MULTI if multi else c.BPF_F_ALLOW_OVERRIDE)
            cgroup_tree.run_inside(group, exchange)
            assert counts[0] == 3
        assert sorted(os.listdir("/proc/self/fd")) == before
        cgroup_tree.run_inside(group, exchange)
        assert counts[0] == 3
        link.close()

    @pytest.mark.parametrize(
        "verb",
        [
            pytest.param(lambda link: link.id, id="id"),
            pytest.param(lambda link: link.pin("/sys/fs/bpf/never"), id="pin"),
            pytest.param(lambda link: link.update(link), id="update"),
        ],
    )
    def test_there_is_no_link_object(self, group: Path, program: Program, verb: Callable[[Link], object]) -> None:
        with program.attach_cgroup(group) as link, pytest.raises(NotSupported, match=r"since Linux 5\.7"):
            verb(link)

    def test_a_released_one_stays_attached(self, group: Path, program: Program, backend: Backend) -> None:
        fd = program.attach_cgroup(group).release()
        try:
            there = prog.prog_query(backend, target_fd=fd, attach_type=c.BPF_CGROUP_INET_EGRESS)
            assert there.prog_ids == (program.id,)
            prog.prog_detach(backend, target_fd=fd, prog_fd=program.fileno(), attach_type=c.BPF_CGROUP_INET_EGRESS)
        finally:
            os.close(fd)

    def test_closing_what_others_detached_is_no_error(self, group: Path, program: Program, backend: Backend) -> None:
        with program.attach_cgroup(group) as link:
            prog.prog_detach(
                backend,
                target_fd=link.fileno(),
                prog_fd=program.fileno(),
                attach_type=c.BPF_CGROUP_INET_EGRESS,
            )

    def test_a_refusal_is_that_of_the_older_way(self, group: Path, program: Program, old: FaultBackend) -> None:
        old.fail(c.BPF_PROG_ATTACH, [(1, errno.E2BIG)])
        with pytest.raises(BpfError, match="E2BIG: 64 programs are attached"):
            program.attach_cgroup(group)

    def test_a_program_of_another_type_is_named(self, group: Path, old: FaultBackend) -> None:
        with (
            Program.load("xdp", tracers.returning(2), name="other", backend=old) as program,
            pytest.raises(BpfError, match="type cgroup_skb, and 'other' is of type xdp"),
        ):
            program.attach_cgroup(group, attach_type="cgroup_inet_egress")
