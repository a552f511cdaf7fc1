"""Maps of sockets: programs move bytes from one connection to another, and closed sockets leave by themselves."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import sockets, tracers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.needs("kernel", "capability:CAP_NET_ADMIN")]

_INGRESS = 1  # BPF_F_INGRESS
TARGET = 5
# kind of map: (how an sk_skb program redirects by it, how an sk_msg program does)
HELPERS = {"sockmap": ("sk_redirect_map", "msg_redirect_map"), "sockhash": ("sk_redirect_hash", "msg_redirect_hash")}
KINDS = [pytest.param(word, id=word, marks=pytest.mark.needs(f"map_type:{word}")) for word in HELPERS]
# Sockmaps take sockets of AF_UNIX where these have a function for that (since Linux 5.15).
UNIX = pytest.mark.needs("btf_name:unix_dgram_bpf_update_proto")
PAIRS = [pytest.param(sockets.tcp_pair, id="tcp"), pytest.param(sockets.unix_pair, marks=UNIX, id="unix")]

create: Any = rawbpf.Map.create


def _map(kind: str, **options: Any) -> Any:
    return create(kind, max_entries=8, **({"key": "u32"} if kind == "sockhash" else {}), **options)


def _redirecting(kind: str, map_fd: int, *, sent: bool = False) -> list[Instruction]:
    # To the socket under TARGET: what was received goes out there, what is `sent` comes in there.
    helper = helper_number(HELPERS[kind][sent])
    if kind == "sockmap":
        key = [b.mov_imm(b.R3, TARGET)]
    else:
        key = [b.store_imm(b.R10, -4, TARGET, 4), b.mov_reg(b.R3, b.R10), b.alu_imm(b.R3, "+=", -4)]
    flags = b.mov_imm(b.R4, _INGRESS if sent else 0)
    return [b.ld_map_fd(b.R2, map_fd), *key, flags, b.call(helper), b.exit_()]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _pair(make: Callable[[], tuple[socket.socket, socket.socket]], stack: ExitStack) -> list[socket.socket]:
    return [stack.enter_context(each) for each in make()]


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("prog_type:sk_skb")
@pytest.mark.parametrize("make", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_one_connection_receives_is_sent_out_of_another(
    backend: Backend, stack: ExitStack, kind: str, make: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    m = stack.enter_context(_map(kind))
    program = stack.enter_context(rawbpf.Program.load("sk_skb/stream_verdict", _redirecting(kind, m.fileno())))
    stack.enter_context(program.attach_sockmap(m))
    (client, proxy_in), (proxy_out, server) = _pair(make, stack), _pair(make, stack)
    m[0], m[TARGET] = proxy_in, proxy_out
    for content in (b"one", bytes(range(256)) * 64):
        client.sendall(content)
        received = b""
        while len(received) < len(content):
            received += server.recv(65536)
        assert received == content
    assert sockets.nothing_arrived(proxy_in)
    # The other way nobody redirects.
    proxy_in.sendall(b"back")
    assert client.recv(10) == b"back"


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("prog_type:sk_msg")
@pytest.mark.parametrize("kind", KINDS)
def test_what_one_socket_sends_comes_in_at_another(backend: Backend, stack: ExitStack, kind: str) -> None:
    m = stack.enter_context(_map(kind))
    program = stack.enter_context(rawbpf.Program.load("sk_msg", _redirecting(kind, m.fileno(), sent=True)))
    stack.enter_context(program.attach_sockmap(m))
    (sender, peer), (_, other) = _pair(sockets.tcp_pair, stack), _pair(sockets.tcp_pair, stack)
    m.update({1: sender, TARGET: other})
    sender.sendall(b"over there")
    assert other.recv(100) == b"over there"
    assert sockets.nothing_arrived(peer)
    del m[1]
    sender.sendall(b"straight on")
    assert peer.recv(100) == b"straight on"
    assert sockets.nothing_arrived(other)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("prog_type:sk_skb")
@pytest.mark.parametrize("kind", KINDS)
def test_what_would_go_to_an_empty_slot_is_dropped(backend: Backend, stack: ExitStack, kind: str) -> None:
    m = stack.enter_context(_map(kind))
    program = stack.enter_context(rawbpf.Program.load("sk_skb/stream_verdict", _redirecting(kind, m.fileno())))
    stack.enter_context(program.attach_sockmap(m))
    (client, proxy_in), (proxy_out, server) = _pair(sockets.tcp_pair, stack), _pair(sockets.tcp_pair, stack)
    m[0] = proxy_in
    client.sendall(b"lost")
    # Nothing tells that the kernel has dropped it but that what follows overtakes it.
    deadline = time.monotonic() + sockets.DEADLINE
    while unacknowledged(client):
        assert time.monotonic() < deadline
    m[TARGET] = proxy_out
    client.sendall(b"kept")
    assert server.recv(100) == b"kept"
    assert sockets.nothing_arrived(proxy_in)


def unacknowledged(of: socket.socket) -> int:
    """Return how many segments of a TCP socket were not received yet."""
    info = of.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[24:28], "little")  # tcpi_unacked


@pytest.mark.parametrize("make", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_reads_back_as_its_cookie_and_leaves_when_it_is_closed(
    backend: Backend, stack: ExitStack, kind: str, make: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    m = stack.enter_context(_map(kind))
    one, two = _pair(make, stack)
    m.update({2: one, 3: two})
    assert m.snapshot() == {2: sockets.cookie(one), 3: sockets.cookie(two)}
    one.close()
    assert m.snapshot() == {3: sockets.cookie(two)}
    assert 2 not in m
    other, _ = _pair(make, stack)
    m[2] = m[3] = other
    assert m.snapshot() == dict.fromkeys((2, 3), sockets.cookie(other))


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_4_bytes_are_written_and_not_read(backend: Backend, stack: ExitStack, kind: str) -> None:
    m = stack.enter_context(_map(kind, value="u32"))
    one, _ = _pair(sockets.tcp_pair, stack)
    m[2] = one
    verbs: list[Callable[[], object]] = [lambda: m[2], lambda: m.get(2), lambda: 2 in m, m.snapshot, lambda: len(m)]
    for verb in verbs:
        with pytest.raises(rawbpf.NotSupported, match="its sockets cannot be read; created with value_size 8, the map"):
            verb()
    del m[2]
    with pytest.raises(rawbpf.KeyNotFound):
        del m[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_sockets_that_cannot_be_read_is_cleared_all_the_same(
    backend: Backend, stack: ExitStack, kind: str
) -> None:
    m = stack.enter_context(_map(kind, value="u32"))
    one, _ = _pair(sockets.tcp_pair, stack)
    m.update({2: one, 3: one})
    m.clear()
    for slot in (2, 3):
        with pytest.raises(rawbpf.KeyNotFound):
            del m[slot]


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


STATES = [
    pytest.param(socket.socket, False, id="TCP, not connected"),
    pytest.param(_listening, True, id="TCP, listening"),
    # Whether UDP has to be bound depends on the kernel: 6.1 does not ask, 5.10 and 6.18 do.
    pytest.param(lambda: sockets.udp(shared=False), True, id="UDP, bound"),
    pytest.param(lambda: socket.socket(socket.AF_UNIX), False, id="Unix, not connected"),
    pytest.param(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), True, marks=UNIX, id="Unix datagrams"),
    pytest.param(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), False, id="netlink"),
]


@pytest.mark.parametrize(("make", "taken"), STATES)
@pytest.mark.parametrize("kind", KINDS)
def test_sockets_are_taken_or_refused_by_their_state(
    backend: Backend, kind: str, make: Callable[[], socket.socket], taken: bool
) -> None:
    with make() as one, _map(kind) as m:
        if taken:
            m[1] = one
            assert m[1] == sockets.cookie(one)
            return
        with pytest.raises(
            rawbpf.NotSupported, match="EOPNOTSUPP: the kernel takes sockets that can pass bytes on: a TCP"
        ):
            m[1] = one


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("prog_type:sk_skb")
@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_takes_one_program_of_a_kind(backend: Backend, stack: ExitStack, kind: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("sk_skb/stream_verdict", tracers.returning(1)))
    maps = [stack.enter_context(_map(kind)) for _ in range(2)]
    one, _ = _pair(sockets.tcp_pair, stack)
    for m in maps:
        stack.enter_context(program.attach_sockmap(m))
    maps[0][1] = one
    with pytest.raises(rawbpf.BpfError, match="EBUSY: the socket has a program of the same kind from another map"):
        maps[1][1] = one
    del maps[0][1]
    maps[1][1] = one
    assert maps[1][1] == sockets.cookie(one)


@pytest.mark.needs("map_type:sockhash")
def test_keys_of_a_sockhash_may_be_structs(backend: Backend, stack: ExitStack) -> None:
    key = {"address": "ipv4", "port": "be16", "pad": "u16"}
    m = stack.enter_context(create("sockhash", key=key, max_entries=2))
    one, two = _pair(sockets.tcp_pair, stack)
    m[(*two.getsockname(), 0)] = one
    (found,) = m
    assert (str(found.address), found.port) == two.getsockname()
    assert m[found] == sockets.cookie(one)
