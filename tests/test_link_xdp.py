"""An XDP program sees what arrives at its interface, from when it is attached until its link is closed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from support import network, packets, tracers
from support.bpffs import detached_bpffs

import rawbpf
from rawbpf.errors import BpfError, NotSupported, PermissionDenied
from rawbpf.link.base import Link
from rawbpf.program.program import Program
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.link.xdp import Mode
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.needs(*network.NEEDS, "prog_type:xdp"),
    pytest.mark.guest,
]

Counts = rawbpf.ArrayMap[int]
Pair = tuple[network.Device, network.Device]


@pytest.fixture
def pair(backend: Backend) -> Iterator[Pair]:
    with network.namespace():
        yield network.veth_pair("veth")


def counting() -> Counts:
    return rawbpf.Map.create("array", key="u32", value="u64", max_entries=1)


@pytest.fixture
def counts(backend: Backend) -> Iterator[Counts]:
    with counting() as array:
        yield array


@pytest.fixture
def program(counts: Counts) -> Iterator[Program]:
    with Program.load("xdp", packets.count_and_filter(counts.fileno()), name="filter") as loaded:
        yield loaded


def cross(pair: Pair, *contents: bytes) -> list[bytes]:
    """Send frames from the first device to the second, and return the content's first bytes of those that arrive.

    The last must get through: once it is there, so are those before it.
    """
    near, far = pair
    arrived: list[bytes] = []
    with near.wire() as sender, far.wire() as receiver:
        for content in contents:
            sender.send(network.frame(far, near, content))
        while contents[-1] not in arrived:
            arrived.append(receiver.receive()[packets.PAYLOAD :].rstrip(b"\0"))
    return arrived


@pytest.mark.parametrize("mode", [None, "skb", "driver"])
def test_packets_are_counted_and_dropped_while_it_is_attached(
    pair: Pair, program: Program, counts: Counts, mode: Mode | None
) -> None:
    assert cross(pair, b"x before", b"before") == [b"x before", b"before"]
    with program.attach_xdp(pair[1].name, mode=mode) as link:
        assert cross(pair, b"x1", b"x2", b"one", b"x3", b"two") == [b"one", b"two"]
        assert counts[0] == 5
        assert link.program_name == "filter"
    assert cross(pair, b"x after", b"after") == [b"x after", b"after"]
    assert counts[0] == 5


def test_an_interface_goes_by_its_index_as_well(pair: Pair, program: Program, counts: Counts) -> None:
    with program.attach_xdp(pair[1].index) as link:
        assert link.target == f"xdp interface {pair[1].index}"
        assert cross(pair, b"x", b"one") == [b"one"]
    assert counts[0] == 2


def test_a_link_tells_its_interface(pair: Pair, program: Program) -> None:
    with program.attach_xdp("veth1") as link:
        info = link.info
        assert (info.type_number, info.kind, info.prog_id) == (c.BPF_LINK_TYPE_XDP, "xdp", program.id)
        assert info.fields == {"ifindex": pair[1].index}
        assert link.target == "xdp veth1"
        with Link.from_id(link.id) as other:
            assert (other.id, other.target) == (link.id, f"xdp interface {pair[1].index}")


def test_a_pinned_link_stays_attached_without_its_object(pair: Pair, program: Program, counts: Counts) -> None:
    with detached_bpffs() as root:
        with program.attach_xdp("veth1") as link:
            link.pin(root / "filter")
        assert cross(pair, b"x", b"one") == [b"one"]
        assert counts[0] == 2
        with Link.from_pin(root / "filter") as link:
            (root / "filter").unlink()
            assert cross(pair, b"x", b"two") == [b"two"]
        assert cross(pair, b"x", b"three") == [b"x", b"three"]
        assert counts[0] == 4


class TestUpdate:
    @pytest.fixture
    def link(self, pair: Pair, program: Program) -> Iterator[Link]:
        with program.attach_xdp("veth1") as attached:
            yield attached

    def test_another_program_takes_the_place(self, pair: Pair, link: Link, counts: Counts) -> None:
        assert cross(pair, b"one") == [b"one"]
        with (
            counting() as others,
            Program.load("xdp", packets.count_and_filter(others.fileno()), name="other") as other,
        ):
            link.update(other)
            assert (link.info.prog_id, link.program_name) == (other.id, "other")
            assert cross(pair, b"two", b"three") == [b"two", b"three"]
            assert (counts[0], others[0]) == (1, 2)

    def test_only_the_expected_program_is_exchanged(self, link: Link, program: Program) -> None:
        with Program.load("xdp", tracers.returning(packets.XDP_PASS)) as other:
            with pytest.raises(PermissionDenied, match="another program than old_prog_fd is attached"):
                link.update(other, expected=other)
            assert link.info.prog_id == program.id
            link.update(other, expected=program)
            assert link.info.prog_id == other.id

    def test_a_program_of_another_type_is_refused(self, link: Link, program: Program) -> None:
        with (
            Program.load("socket_filter", tracers.returning(0)) as other,
            pytest.raises(BpfError, match=r"EINVAL: .* a program of another type"),
        ):
            link.update(other)
        assert (link.info.prog_id, link.program_name) == (program.id, "filter")


def test_a_link_survives_its_interface_and_says_so(pair: Pair, program: Program) -> None:
    with program.attach_xdp("veth1") as link:
        network.ip("link", "delete", "veth0")
        assert link.info.describe() == "xdp interface (none: it is gone)"
        with pytest.raises(BpfError, match="what it was attached to is gone") as caught:
            link.update(program)
        assert caught.value.errno == errno.ENOLINK


class TestRefusals:
    @pytest.mark.parametrize(
        ("interface", "kind", "text"),
        [
            pytest.param("vth1", BpfError, r"interface 'vth1': ENODEV: .*did you mean veth1 or veth0", id="misspelt"),
            pytest.param("qqq", BpfError, r"interface 'qqq': ENODEV: .*; it has lo, veth0, veth1", id="nothing close"),
            pytest.param("a\0b", BpfError, r"interface 'a\\x00b': ENODEV", id="NUL"),
            pytest.param(9999, BpfError, "no interface with index 9999", id="no such index"),
            pytest.param(0, ValueError, "interfaces count from 1", id="zero"),
            pytest.param(1 << 32, ValueError, "interfaces count from 1", id="too large"),
            pytest.param(True, TypeError, "as name or index, got True", id="no interface at all"),
        ],
    )
    def test_of_what_is_no_interface(
        self, pair: Pair, program: Program, interface: str | int, kind: type[Exception], text: str
    ) -> None:
        with pytest.raises(kind, match=text):
            program.attach_xdp(interface)

    def test_of_an_unknown_mode(self, pair: Pair, program: Program) -> None:
        with pytest.raises(ValueError, match="expected 'skb', 'driver', 'offload' or None"):
            program.attach_xdp("veth1", mode="native")  # type: ignore[arg-type]  # that is the test

    @pytest.mark.parametrize(
        ("section", "text"),
        [
            pytest.param("socket_filter", "type xdp, and 'other' is of type socket_filter", id="type"),
            pytest.param("xdp/devmap", "loaded for a devmap .* stored in one, not attached", id="devmap"),
            pytest.param("xdp/cpumap", "loaded for a cpumap .* stored in one, not attached", id="cpumap"),
        ],
    )
    def test_of_a_program_that_belongs_elsewhere(self, pair: Pair, section: str, text: str) -> None:
        with (
            Program.load(section, tracers.returning(2), name="other") as program,
            pytest.raises(BpfError, match=text) as caught,
        ):
            program.attach_xdp("veth1")
        assert caught.value.errno == errno.EINVAL

    @pytest.mark.parametrize(
        ("interface", "mode", "text"),
        [
            pytest.param("lo", "driver", 'the driver has no XDP in mode "driver"; mode="skb"', id="driver"),
            pytest.param("lo", "offload", 'has no XDP in mode "offload"', id="offload, and no driver"),
            pytest.param("veth1", "offload", "the card runs no programs", id="offload"),
        ],
    )
    def test_of_a_mode_that_the_driver_has_not(
        self, pair: Pair, program: Program, interface: str, mode: Mode, text: str
    ) -> None:
        with pytest.raises(NotSupported, match=text):
            program.attach_xdp(interface, mode=mode)

    @pytest.mark.parametrize(
        ("mode", "number"),
        [pytest.param("driver", errno.EBUSY, id="same"), pytest.param("skb", errno.EEXIST, id="other")],
    )
    def test_of_a_second_program_name_the_first(
        self, pair: Pair, program: Program, counts: Counts, mode: Mode, number: int
    ) -> None:
        text = rf"program 'filter' \(id {program.id}\) in mode driver; it is exchanged by update\(\)"
        with (
            program.attach_xdp("veth1", mode="driver"),
            Program.load("xdp", tracers.returning(2), name="second") as second,
        ):
            with pytest.raises(BpfError, match=text) as caught:
                second.attach_xdp("veth1", mode=mode)
            assert caught.value.errno == number
            assert cross(pair, b"x", b"one") == [b"one"]
            assert counts[0] == 2

    @pytest.mark.needs("tool:bpftool")
    def test_a_program_that_no_link_attached_is_named_as_well(self, pair: Pair, program: Program) -> None:
        _bpftool_net("attach", "xdpgeneric", "id", str(program.id), "dev", "veth1")
        try:
            with pytest.raises(BpfError, match=r"program 'filter' \(id \d+\) in mode skb"):
                program.attach_xdp("veth1", mode="skb")
        finally:
            _bpftool_net("detach", "xdpgeneric", "dev", "veth1")

    def test_of_packets_too_large_for_the_driver(self, pair: Pair, program: Program) -> None:
        network.ip("link", "set", "veth0", "mtu", "65000")
        with pytest.raises(BpfError, match=r"ERANGE: .* lower its MTU"):
            program.attach_xdp("veth1", mode="driver")

    def test_leave_nothing_behind(self, pair: Pair, counts: Counts, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.EBUSY), (2, errno.ENOMEM), (3, errno.EINVAL)]})
        with Program.load("xdp", packets.count_and_filter(counts.fileno()), backend=faulty) as program:
            before = sorted(os.listdir("/proc/self/fd"))
            attach: Callable[[], Link] = lambda: program.attach_xdp("veth1")  # noqa: E731
            # A place that is free after all: an interface above has a program, and the kernel asks for those.
            with pytest.raises(BpfError, match="EBUSY: an interface above this one"):
                attach()
            with pytest.raises(BpfError, match="ENOMEM"):
                attach()
            # What a kernel says that knows LINK_CREATE, but not for XDP.
            with pytest.raises(NotSupported, match=r"no links for XDP \(since Linux 5\.9\).*; or it uses a devmap"):
                attach()
            assert sorted(os.listdir("/proc/self/fd")) == before
            assert cross(pair, b"x", b"one") == [b"x", b"one"]


def _bpftool_net(*arguments: str) -> None:
    import subprocess

    done = subprocess.run(["bpftool", "net", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
