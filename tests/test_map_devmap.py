"""Packets are redirected to the devices in a devmap, by index or by hash, and pass a program on their way out."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import network, packets, tracers

import rawbpf
from rawbpf.codec.descriptor import ProgId
from rawbpf.errors import BpfError, IndexOutOfRange, KeyExists, KeyNotFound, MapFull
from rawbpf.program.program import Program
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.link.xdp import Mode
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("it is about network interfaces and AF_XDP sockets, of which a simulated kernel has none"),
    pytest.mark.needs(*network.NEEDS, "prog_type:xdp", "map_type:devmap", "map_type:devmap_hash"),
]
# XDP in the kernel's own driver runs the programs of such maps where it hands frames on itself (since Linux 5.15).
SKB = pytest.param("skb", marks=pytest.mark.needs("btf_name:cpu_map_generic_redirect"))

# A redirected frame leaves through the first of these devices and arrives at the second; its content begins with
# what it goes by.
BRAVO, CHARLIE = ord("b"), ord("c")
KINDS = pytest.mark.parametrize("kind", ["devmap", "devmap_hash"])


class Net:
    """Three pairs: what is sent into `sender` arrives at a program, which sends it on to the others."""

    def __init__(self) -> None:
        self.sender, self.entry = network.veth_pair("alpha", 1)
        self.bravo, self.behind_bravo = network.veth_pair("bravo", 2)
        self.charlie, self.behind_charlie = network.veth_pair("charlie", 3)

    def frame(self, content: bytes) -> bytes:
        return network.frame(self.behind_bravo, self.sender, content)


@pytest.fixture
def net(backend: Backend) -> Iterator[Net]:
    with network.namespace():
        yield Net()


def devices(kind: str, **options: Any) -> Any:
    return rawbpf.Map.create(kind, max_entries=128 if kind == "devmap" else 4, **options)


@pytest.mark.guest
@KINDS
@pytest.mark.parametrize("mode", ["skb", "driver"])
def test_a_frame_is_redirected_and_counted_at_the_other_end(net: Net, kind: str, mode: Mode) -> None:
    with ExitStack() as stack:
        m = stack.enter_context(devices(kind))
        m[BRAVO] = net.bravo.name
        m[CHARLIE] = net.charlie.index
        counts = stack.enter_context(rawbpf.Map.create("array", key="u32", value="u64", max_entries=1))
        redirect = stack.enter_context(Program.load("xdp", packets.redirect(m.fileno(), packets.FIRST_BYTE)))
        # A veth takes redirected frames in the driver's mode only for a peer that has a program as well.
        count = stack.enter_context(Program.load("xdp", packets.count_and_filter(counts.fileno())))
        stack.enter_context(redirect.attach_xdp(net.entry.name, mode=mode))
        stack.enter_context(count.attach_xdp(net.behind_bravo.name, mode=mode))
        stack.enter_context(count.attach_xdp(net.behind_charlie.name, mode=mode))
        sender = stack.enter_context(net.sender.wire())
        bravo = stack.enter_context(net.behind_bravo.wire())
        charlie = stack.enter_context(net.behind_charlie.wire())
        for content in (b"b1", b"c1", b"nowhere", b"b2"):
            sender.send(net.frame(content))
        assert [bravo.receive(), bravo.receive()] == [net.frame(b"b1"), net.frame(b"b2")]
        assert charlie.receive() == net.frame(b"c1")
        assert counts[0] == 3

        # What is removed is no target any more, and what is replaced another one.
        del m[CHARLIE]
        m[BRAVO] = net.charlie.name
        for content in (b"c2", b"b3"):
            sender.send(net.frame(content))
        assert charlie.receive() == net.frame(b"b3")
        assert counts[0] == 4


@pytest.mark.guest
@KINDS
@pytest.mark.parametrize("mode", [SKB, "driver"])
def test_frames_pass_the_program_of_their_device_only(net: Net, kind: str, mode: Mode) -> None:
    with ExitStack() as stack:
        m = stack.enter_context(devices(kind, value=8))
        counts = stack.enter_context(rawbpf.Map.create("array", key="u32", value="u64", max_entries=1))
        count = stack.enter_context(Program.load("xdp/devmap", packets.count_and_filter(counts.fileno()), name="count"))
        m[BRAVO] = net.bravo.name
        m[CHARLIE] = net.charlie.name, count
        m[packets.DOOMED[0]] = net.charlie.index, count
        redirect = stack.enter_context(Program.load("xdp", packets.redirect(m.fileno(), packets.FIRST_BYTE)))
        ends = stack.enter_context(Program.load("xdp", tracers.returning(packets.XDP_PASS)))
        stack.enter_context(redirect.attach_xdp(net.entry.name, mode=mode))
        stack.enter_context(ends.attach_xdp(net.behind_bravo.name, mode=mode))
        stack.enter_context(ends.attach_xdp(net.behind_charlie.name, mode=mode))
        sender = stack.enter_context(net.sender.wire())
        bravo = stack.enter_context(net.behind_bravo.wire())
        charlie = stack.enter_context(net.behind_charlie.wire())
        for content in (b"b1", packets.DOOMED, b"c1", b"c2"):
            sender.send(net.frame(content))
        assert bravo.receive() == net.frame(b"b1")
        assert [charlie.receive(), charlie.receive()] == [net.frame(b"c1"), net.frame(b"c2")]
        assert counts[0] == 3


@KINDS
class TestElements:
    @pytest.mark.guest
    def test_it_is_a_dict_of_what_was_stored(self, net: Net, kind: str) -> None:
        with devices(kind) as m:
            m[3] = net.bravo.name
            m.update({1: net.charlie.name, 2: net.sender.index})
            assert {key: value.ifindex for key, value in m.items()} == {
                1: net.charlie.index,
                2: net.sender.index,
                3: net.bravo.index,
            }
            assert (len(m), 1 in m, 0 in m, m.get(0), m.get(3).ifindex) == (3, True, False, None, net.bravo.index)
            assert m[1] == (net.charlie.index, None)
            m[0] = m[1]  # what was read can be stored
            assert m.snapshot().keys() == {0, 1, 2, 3}
            del m[1]
            assert sorted(m) == [0, 2, 3]
            m.clear()
            assert len(m) == 0

    @pytest.mark.guest
    def test_a_program_is_read_as_its_id_and_opened(self, net: Net, kind: str) -> None:
        with (
            devices(kind, value=8) as m,
            Program.load("xdp/devmap", tracers.returning(2), name="egress") as program,
        ):
            m[1] = net.bravo.name, program
            m[2] = net.bravo.name, None
            assert m[1] == (net.bravo.index, program.id)
            assert isinstance(m[1].prog_id, ProgId)
            assert m[2].prog_id is None
            with m.open(1) as again:
                assert (again.id, again.name) == (program.id, "egress")
            with pytest.raises(ValueError, match="has no program"):
                m.open(2)

    @pytest.mark.guest
    def test_a_device_that_goes_leaves_its_slots(self, net: Net, kind: str) -> None:
        with devices(kind) as m:
            m.put_many({1: net.bravo.name, 2: net.charlie.name})
            network.ip("link", "delete", net.bravo.name)
            assert list(m) == [2]

    def test_an_opened_map_knows_its_programs(self, net: Net, kind: str) -> None:
        with devices(kind, value=8) as m, Program.load("xdp/devmap", tracers.returning(2)) as program:
            m[1] = net.bravo.name, program
            with rawbpf.Map.from_id(m.id) as again:
                assert type(again).__name__ == type(m).__name__
                assert again[1] == (net.bravo.index, program.id)

    @pytest.mark.parametrize(
        ("value", "kind_of_error", "text"),
        [
            pytest.param("brav0", BpfError, r"find interface 'brav0': ENODEV: .*; did you mean bravo0", id="misspelt"),
            pytest.param(9999, BpfError, "EINVAL: this network namespace has no interface with index 9999", id="none"),
            pytest.param(0, ValueError, "interfaces count from 1", id="zero"),
            pytest.param(-1, ValueError, "interfaces count from 1", id="negative"),
            pytest.param(None, TypeError, "value: expected an interface as name or index", id="nothing"),
            pytest.param(("bravo0",), TypeError, "ifindex, or a pair of it and a program", id="no pair"),
            pytest.param(("bravo0", 5), TypeError, "a number may be a descriptor or an id", id="a number as program"),
        ],
    )
    def test_what_is_no_device_is_refused(
        self, net: Net, kind: str, value: object, kind_of_error: type[Exception], text: str
    ) -> None:
        with devices(kind, value=8) as m:
            with pytest.raises(kind_of_error, match=text):
                m[1] = value
            assert len(m) == 0

    def test_a_program_needs_room(self, net: Net, kind: str) -> None:
        with devices(kind) as m, Program.load("xdp/devmap", tracers.returning(2)) as program:
            with pytest.raises(TypeError, match="no room for a program: create it with value=8"):
                m[1] = net.bravo.name, program
            assert len(m) == 0

    @pytest.mark.parametrize(
        ("section", "text"),
        [
            pytest.param("xdp", r'loaded for one: Program\.load\("xdp/devmap", \.\.\.\)', id="no devmap program"),
            pytest.param("xdp/cpumap", r'SEC\("xdp/devmap"\)', id="for a cpumap"),
            pytest.param("socket_filter", "type xdp, and 'other' is of type socket_filter", id="another type"),
        ],
    )
    def test_a_program_that_belongs_elsewhere_is_refused(self, net: Net, kind: str, section: str, text: str) -> None:
        with devices(kind, value=8) as m, Program.load(section, tracers.returning(2), name="other") as program:
            with pytest.raises(BpfError, match=text) as caught:
                m[1] = net.bravo.name, program
            assert caught.value.errno == errno.EINVAL

    def test_what_is_open_but_no_program_is_refused(self, net: Net, kind: str) -> None:
        with devices(kind, value=8) as m, socket.socket() as other, pytest.raises(BpfError, match="not a program"):
            m[1] = net.bravo.name, other

    def test_a_program_behind_descriptor_0_is_refused_where_the_kernel_would_overlook_it(
        self, net: Net, kind: str
    ) -> None:
        class First:
            def fileno(self) -> int:
                return 0

        with devices(kind, value=8) as m, pytest.raises(ValueError, match="descriptor 0 is no program"):
            m[1] = net.bravo.name, First()

    def test_several_are_looked_at_before_the_first_is_stored(self, net: Net, kind: str) -> None:
        with devices(kind) as m:
            with pytest.raises(BpfError, match="interface 'nowhere': ENODEV"):
                m.update({1: net.bravo.name, 2: "nowhere"})
            assert len(m) == 0
            with pytest.raises(BpfError, match="no interface with index 9999") as caught:
                m.update({1: net.bravo.name, 2: 9999})
            assert (caught.value.applied, list(m)) == (1, [1])

    def test_values_are_of_4_or_8_bytes(self, backend: Backend, kind: str) -> None:
        with pytest.raises(ValueError, match="4 bytes, or 8 with room for a program"):
            devices(kind, value="u16")

    def test_verbs_that_the_kernel_does_not_mean_are_absent(self, backend: Backend, kind: str) -> None:
        with devices(kind) as m:
            assert not hasattr(m, "replace")  # BPF_EXIST is ignored
            assert hasattr(m, "insert") == (kind == "devmap_hash")  # to an array every slot exists
            assert not hasattr(m, "sum")


@pytest.mark.guest
def test_an_array_of_devices_has_slots(net: Net) -> None:
    with rawbpf.Map.create("devmap", max_entries=2) as m:
        m[0] = net.bravo.name
        del m[1]  # an empty slot can be emptied
        for use in (lambda: m[2], lambda: m.__setitem__(2, "bravo0"), lambda: m.__delitem__(2)):
            with pytest.raises(IndexOutOfRange, match="no index 2: max_entries is 2"):
                use()
        with pytest.raises(IndexOutOfRange, match="no index 2: max_entries is 2") as caught:
            m.delete_many([1, 2])
        assert caught.value.applied == 1
        with pytest.raises(KeyNotFound):
            _ = m[1]
        # Programs may not write to it: the kernel adds the flag.
        assert m.info.map_flags & c.BPF_F_RDONLY_PROG


@pytest.mark.guest
def test_a_hash_of_devices_has_keys(net: Net) -> None:
    with rawbpf.Map.create("devmap_hash", key="ipv4", max_entries=2) as m:
        m["10.0.0.1"] = net.bravo.name
        m.insert("10.0.0.2", net.charlie.name)
        assert {str(key) for key in m} == {"10.0.0.1", "10.0.0.2"}
        with pytest.raises(KeyExists):
            m.insert("10.0.0.2", net.bravo.name)
        with pytest.raises(MapFull):
            m["10.0.0.3"] = net.bravo.name
        with pytest.raises(KeyNotFound):
            del m["10.0.0.3"]
