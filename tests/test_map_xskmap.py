"""Packets are handed to the AF_XDP sockets in an xskmap, past the network stack."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import network, packets
from support.xsk import AF_XDP, XskSocket, set_rx_ring

import rawbpf
from rawbpf.errors import BpfError, IndexOutOfRange, KeyExists, KeyNotFound
from rawbpf.program.program import Program
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.link.xdp import Mode
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.guest,
    pytest.mark.real_kernel("it is about network interfaces and AF_XDP sockets, of which a simulated kernel has none"),
    pytest.mark.needs(*network.NEEDS, "prog_type:xdp", "map_type:xskmap"),
]

Pair = tuple[network.Device, network.Device]


@pytest.fixture
def pair(backend: Backend) -> Iterator[Pair]:
    with network.namespace():
        yield network.veth_pair("veth")


@pytest.fixture
def sockets(backend: Backend) -> Iterator[rawbpf.XskMap]:
    with rawbpf.Map.create("xskmap", max_entries=2) as m:
        yield m


@pytest.mark.parametrize("mode", ["skb", "driver"])
def test_a_frame_goes_to_the_socket_and_past_the_stack(pair: Pair, sockets: rawbpf.XskMap, mode: Mode) -> None:
    near, far = pair
    instructions = packets.redirect(sockets.fileno(), packets.RX_QUEUE, otherwise=packets.XDP_PASS)
    with (
        Program.load("xdp", instructions) as program,
        program.attach_xdp(far.name, mode=mode),
        near.wire() as sender,
        far.wire() as stack,
    ):
        with XskSocket(far) as xsk:
            sockets[0] = xsk
            for content in (b"one", b"two"):
                sender.send(network.frame(far, near, content))
            assert [xsk.receive(), xsk.receive()] == [network.frame(far, near, content) for content in (b"one", b"two")]
            del sockets[0]
            sender.send(network.frame(far, near, b"three"))
            # Had the first two gone on, they would come before it.
            assert stack.receive() == network.frame(far, near, b"three")
            sockets[0] = xsk
            sender.send(network.frame(far, near, b"four"))
            assert xsk.receive() == network.frame(far, near, b"four")
        # A socket that closed has left its slot.
        sender.send(network.frame(far, near, b"five"))
        assert stack.receive() == network.frame(far, near, b"five")


def test_a_slot_takes_another_socket_only_by_name_of_it(sockets: rawbpf.XskMap) -> None:
    with socket.socket(AF_XDP, socket.SOCK_RAW) as one, socket.socket(AF_XDP, socket.SOCK_RAW) as two:
        for each in (one, two):  # Linux 7.2 takes none without
            set_rx_ring(each)
        with pytest.raises(KeyNotFound):
            sockets.replace(0, one)
        sockets.insert(0, one)
        sockets.insert(0, one)  # it is there already
        with pytest.raises(KeyExists):
            sockets.insert(0, two)
        sockets.replace(0, two)
        with pytest.raises(KeyExists):
            sockets.insert(0, one)
        sockets.update({0: one, 1: two})
        sockets.clear()
        sockets.insert(0, two)
        sockets.insert(1, one)
        del sockets[0]
        del sockets[0]  # an empty slot can be emptied


def test_a_slot_beyond_the_last_is_refused(sockets: rawbpf.XskMap) -> None:
    with socket.socket(AF_XDP, socket.SOCK_RAW) as one:
        with pytest.raises(IndexOutOfRange, match="no index 2: max_entries is 2"):
            sockets[2] = one
        with pytest.raises(IndexOutOfRange, match="no index 2"):
            del sockets[2]
        with pytest.raises(IndexOutOfRange, match="no index 2"):
            sockets.delete_many([0, 2])


def test_a_socket_without_a_ring_is_refused_with_that(backend: Backend) -> None:
    newer = FaultBackend(backend, {c.BPF_MAP_UPDATE_ELEM: [(1, errno.ENOBUFS)]})
    with (
        socket.socket(AF_XDP, socket.SOCK_RAW) as one,
        rawbpf.XskMap.create(max_entries=1, backend=newer) as sockets,
        pytest.raises(BpfError, match="ENOBUFS: the socket has no ring to receive by: set its XDP_RX_RING first"),
    ):
        sockets[0] = one


@pytest.mark.parametrize("kind", ["TCP socket", "file"])
def test_what_is_no_af_xdp_socket_is_refused(sockets: rawbpf.XskMap, kind: str) -> None:
    with socket.socket() if kind == "TCP socket" else open(os.devnull, "rb") as other:
        with pytest.raises(BpfError, match=r"no AF_XDP socket: socket\.socket\(44, socket\.SOCK_RAW\)") as caught:
            sockets[0] = other
        assert type(caught.value) is BpfError
        assert caught.value.errno == (errno.EOPNOTSUPP if kind == "TCP socket" else errno.ENOTSOCK)


def test_a_number_or_a_closed_socket_is_refused(sockets: rawbpf.XskMap) -> None:
    one = socket.socket(AF_XDP, socket.SOCK_RAW)
    one.close()
    with pytest.raises(ValueError, match=r"that is open, but .* is closed"):
        sockets[0] = one
    with pytest.raises(TypeError, match="a number may be a descriptor or an id"):
        sockets[0] = 5  # type: ignore[assignment]  # that is the test


@pytest.mark.parametrize("verb", ["__getitem__", "get", "__contains__", "__iter__", "__len__", "keys", "items", "pop"])
def test_what_the_kernel_does_not_tell_cannot_be_asked(sockets: rawbpf.XskMap, verb: str) -> None:
    assert not hasattr(sockets, verb)
