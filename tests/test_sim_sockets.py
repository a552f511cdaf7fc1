"""Simulated maps of sockets answer as the running kernel does, for sockets of every kind and state."""

from __future__ import annotations

import os
import random
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.sockets import tcp_pair
from support.twin import Side, agree, u32, u64

from rawbpf.sim import Simulator
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_kernel = pytest.mark.needs("kernel")
TYPES = {
    "sockmap": c.BPF_MAP_TYPE_SOCKMAP,
    "sockhash": c.BPF_MAP_TYPE_SOCKHASH,
    "reuseport_sockarray": c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
    "xskmap": c.BPF_MAP_TYPE_XSKMAP,
}
AF_XDP = 44
_SOL_XDP, _XDP_RX_RING = 283, 2  # include/uapi/linux/if_xdp.h
BY_COOKIE = [*TYPES][:3]


def _sockets(side: Side) -> Iterator[tuple[str, socket.socket]]:
    # One of each kind and state; kinds that this kernel has not are left out on both sides.
    def made(name: str, *arguments: int) -> Iterator[tuple[str, socket.socket]]:
        with suppress(OSError):
            yield name, side.add_socket(name, socket.socket(*arguments))

    def reused(name: str, *arguments: int) -> socket.socket:
        found = side.add_socket(name, socket.socket(*arguments))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return found

    yield from made("TCP")
    bound = reused("bound TCP")
    bound.bind(("127.0.0.1", 0))
    yield "bound TCP", bound
    bound.listen()
    yield "listening TCP, shared", bound
    listening = side.add_socket("listening TCP", socket.create_server(("127.0.0.1", 0)))
    yield "listening TCP", listening
    near = side.add_socket("near", socket.create_connection(listening.getsockname()))
    far = side.add_socket("far", listening.accept()[0])
    yield "connected TCP", near
    yield "accepted TCP", far
    far.shutdown(socket.SHUT_RDWR)
    near.recv(1)
    yield "TCP whose peer said goodbye", near
    yield "listening TCP 6", side.add_socket("TCP 6", socket.create_server(("::1", 0), family=socket.AF_INET6))
    yield from made("UDP", socket.AF_INET, socket.SOCK_DGRAM)
    yield "shared UDP, not bound", reused("shared UDP, not bound", socket.AF_INET, socket.SOCK_DGRAM)
    for name, options in (("bound UDP", ()), ("shared UDP", (1,))):
        datagrams = reused(name, socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, len(options))
        datagrams.bind(("127.0.0.1", 0))
        yield name, datagrams
    yield from made("Unix stream", socket.AF_UNIX)
    yield from made("Unix datagram", socket.AF_UNIX, socket.SOCK_DGRAM)
    yield from made("Unix packets", socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        pair = [
            side.add_socket(f"Unix pair {kind} {end}", each) for end, each in enumerate(socket.socketpair(type=kind))
        ]
        yield f"Unix pair {kind}", pair[0]
    yield from made("netlink", socket.AF_NETLINK, socket.SOCK_RAW)
    yield from made("raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    yield from made("packet", socket.AF_PACKET, socket.SOCK_RAW)
    yield from made("XDP", AF_XDP, socket.SOCK_RAW)
    for _, receiver in made("XDP with a ring to receive from", AF_XDP, socket.SOCK_RAW):
        receiver.setsockopt(_SOL_XDP, _XDP_RX_RING, 16)
        yield "XDP with a ring to receive from", receiver


@pytest.mark.guest
@needs_kernel
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("value_size", [4, 8])
def test_maps_of_sockets_take_sockets_of_the_same_kinds_and_states(name: str, value_size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", TYPES[name], value_size=value_size, max_entries=64)
        if "m" not in side.fds:
            return
        for index, (what, made) in enumerate(_sockets(side)):
            fd = (u64 if value_size == 8 else u32)(made.fileno())
            key = u32(index)
            yield what, side.update("m", key, fd, c.BPF_EXIST), side.update("m", key, fd), side.lookup("m", key)
            yield side.update("m", key, fd, c.BPF_NOEXIST), side.update("m", u32(99), fd), side.lookup("m", u32(99))
        yield [(side.update("m", u32(0), fd), side.update("m", u32(0), fd, 4)) for fd in (u64(1 << 31), u64(1 << 32))]
        yield [(key, side.delete("m", u32(key))) for key in range(66)]

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("key_size", [4, 7, 40])
def test_a_hash_of_sockets_has_the_order_of_the_kernel(key_size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", c.BPF_MAP_TYPE_SOCKHASH, key_size, 8, 12)
        pairs = [side.add_socket(f"unix {n}", each) for n in range(3) for each in socket.socketpair()]
        chance = random.Random(key_size)
        for _ in range(400):
            key = bytes([chance.randrange(20)]) * key_size
            verb = chance.choice(("update", "update", "delete", "lookup", "keys"))
            if verb == "update":
                flags = chance.choice((0, 0, 0, 1, 2, 3))
                yield key, side.update("m", key, u64(chance.choice(pairs).fileno()), flags)
            elif verb == "delete":
                yield key, side.delete("m", key)
            else:
                yield key, side.lookup("m", key) if verb == "lookup" else side.keys("m")

    agree(scenario)


@pytest.mark.guest
@needs_kernel
def test_a_socket_serves_one_kind_of_map() -> None:
    def scenario(side: Side) -> Iterator[object]:
        for name in BY_COOKIE:
            yield side.make_map(name, TYPES[name], value_size=8)
        for order in (BY_COOKIE, BY_COOKIE[::-1]):
            made = side.add_socket("UDP", socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(("127.0.0.1", 0))
            for index in (0, 1):
                yield order, index, [side.update(name, u32(index), u64(made.fileno())) for name in order]
            yield [side.delete(name, u32(0)) for name in order], [side.delete(name, u32(1)) for name in order]

    assert "EBUSY" in str(agree(scenario))


@pytest.mark.guest
@needs_kernel
@pytest.mark.parametrize("name", BY_COOKIE)
def test_a_socket_that_is_closed_leaves_the_map(name: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", TYPES[name], value_size=8)
        made = side.add_socket("listening", socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield side.update("m", u32(0), u64(made.fileno())), side.lookup("m", u32(0))
        again = os.dup(made.fileno())
        made.close()
        yield side.lookup("m", u32(0))
        os.close(again)
        yield side.lookup("m", u32(0)), side.delete("m", u32(0)), side.keys("m")

    assert str(agree(scenario)[-1]).startswith("('ENOENT'")


@pytest.mark.guest
@needs_kernel
def test_a_socket_whose_connection_was_reset_stays_until_it_is_closed() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", c.BPF_MAP_TYPE_SOCKMAP, value_size=8)
        near, far = tcp_pair()
        side.add_socket("near", near)
        side.add_socket("far", far)
        yield side.update("m", u32(0), u64(near.fileno())), side.lookup("m", u32(0))
        # Closing with linger 0 resets.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        yield side.lookup("m", u32(0))

    assert agree(scenario)[-1] == "near"


@pytest.mark.guest
def test_no_descriptor_of_a_socket_is_kept() -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.make_map("m", c.BPF_MAP_TYPE_SOCKMAP)
        near, far = socket.socketpair()
        with near:
            assert side.update("m", u32(0), u32(far.fileno())) == ""
            far.close()
            assert near.recv(1) == b""


@pytest.mark.needs("map_type:xskmap", "capability:CAP_NET_RAW")
@pytest.mark.parametrize(("release", "answer"), [("6.18", ""), ("7.0", "ENOBUFS")])
def test_maps_of_newer_kernels_want_an_xdp_socket_to_receive(release: str, answer: str) -> None:
    with Simulator(release) as simulator, Side(simulator) as side:
        side.make_map("m", c.BPF_MAP_TYPE_XSKMAP)
        with socket.socket(AF_XDP, socket.SOCK_RAW) as sock:
            assert side.update("m", u32(0), u32(sock.fileno())) == answer
            sock.setsockopt(_SOL_XDP, _XDP_RX_RING, 16)
            assert side.update("m", u32(0), u32(sock.fileno())) == ""
