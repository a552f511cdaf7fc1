"""Arrays of sockets that share a port: a program chooses which of them gets a datagram or connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from support import sockets

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("map_type:reuseport_sockarray")]

_UDP_HEADER = 8
SLOTS = 4


def _by_first_byte(array_fd: int) -> list[Instruction]:
    # The datagram goes to the socket whose slot is its first byte; to none where that is empty.
    return [
        b.mov_reg(b.R6, b.R1),
        b.mov_imm(b.R2, _UDP_HEADER),  # the program sees the datagram with its header
        b.mov_reg(b.R3, b.R10),
        b.alu_imm(b.R3, "+=", -8),
        b.mov_imm(b.R4, 1),
        b.call(helper_number("skb_load_bytes")),
        b.jump_imm(b.R0, "!=", 0, 10),
        b.load_mem(b.R2, b.R10, -8, 1),
        b.store_reg(b.R10, -4, b.R2, 4),
        *_select(array_fd),
    ]


def _always(array_fd: int, slot: int) -> list[Instruction]:
    return [b.mov_reg(b.R6, b.R1), b.store_imm(b.R10, -4, slot, 4), *_select(array_fd)]


def _select(array_fd: int) -> list[Instruction]:
    # By the key in the stack's last four bytes, with the context in R6. Returns SK_PASS, or SK_DROP.
    return [
        b.mov_reg(b.R1, b.R6),
        b.ld_map_fd(b.R2, array_fd),
        b.mov_reg(b.R3, b.R10),
        b.alu_imm(b.R3, "+=", -4),
        b.mov_imm(b.R4, 0),
        b.call(helper_number("sk_select_reuseport")),
        b.jump_imm(b.R0, "==", 0, 2),
        b.mov_imm(b.R0, 0),
        b.exit_(),
        b.mov_imm(b.R0, 1),
        b.exit_(),
    ]


@pytest.fixture
def array(backend: Backend) -> Iterator[rawbpf.ReuseportSockArray]:
    with rawbpf.Map.create("reuseport_sockarray", max_entries=SLOTS) as made:
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def _of_one_port(count: int, stack: ExitStack) -> list[socket.socket]:
    made = [stack.enter_context(sockets.udp())]
    while len(made) < count:
        made.append(stack.enter_context(sockets.udp(made[0].getsockname()[1])))
    return made


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("prog_type:sk_reuseport")
def test_datagrams_arrive_at_the_socket_that_the_program_chooses(
    array: rawbpf.ReuseportSockArray, stack: ExitStack
) -> None:
    receivers = _of_one_port(3, stack)
    sender = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    sender.connect(receivers[0].getsockname())
    program = stack.enter_context(rawbpf.Program.load("sk_reuseport", _by_first_byte(array.fileno())))
    stack.enter_context(program.attach_reuseport(receivers[1]))
    array.update(enumerate(receivers))
    for round_ in (b"first", b"second"):
        for slot, receiver in enumerate(receivers):
            sender.send(bytes([slot]) + round_)
            assert receiver.recv(100) == bytes([slot]) + round_
            assert all(sockets.nothing_arrived(other) for other in receivers)
    # Slot 0 is another socket's, and then nobody's.
    del array[2]
    array[0] = receivers[2]
    sender.send(b"\0moved")
    assert receivers[2].recv(100) == b"\0moved"
    del array[0]
    sender.send(b"\0dropped")
    sender.settimeout(sockets.DEADLINE)
    with pytest.raises(ConnectionRefusedError):  # as if nobody had the port
        sender.recv(1)
    sender.send(b"\1kept")
    assert receivers[1].recv(100) == b"\1kept"
    assert all(sockets.nothing_arrived(other) for other in receivers)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.guest
@pytest.mark.needs("prog_type:sk_reuseport")
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_connections_arrive_at_the_socket_that_the_program_chooses(
    array: rawbpf.ReuseportSockArray, stack: ExitStack, slot: int
) -> None:
    servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))]
    for _ in range(2):
        servers.append(stack.enter_context(socket.create_server(servers[0].getsockname(), reuse_port=True)))
    program = stack.enter_context(rawbpf.Program.load("sk_reuseport", _always(array.fileno(), slot)))
    stack.enter_context(program.attach_reuseport(servers[0]))
    array.update(enumerate(servers))
    for _ in range(4):
        with socket.create_connection(servers[0].getsockname(), timeout=sockets.DEADLINE) as client:
            servers[slot].settimeout(sockets.DEADLINE)
            accepted, address = servers[slot].accept()
            with accepted:
                assert address == client.getsockname()


@pytest.mark.guest
def test_a_socket_reads_back_as_its_cookie_and_leaves_when_it_is_closed(
    array: rawbpf.ReuseportSockArray, stack: ExitStack
) -> None:
    one, two = _of_one_port(2, stack)
    array.update({0: one, 3: two})
    assert array.snapshot() == {0: sockets.cookie(one), 3: sockets.cookie(two)}
    one.close()
    assert array.snapshot() == {3: sockets.cookie(two)}


@pytest.mark.guest
def test_a_socket_is_in_one_slot_of_one_array(array: rawbpf.ReuseportSockArray, stack: ExitStack) -> None:
    one, two = _of_one_port(2, stack)
    array[0] = one
    text = "EBUSY: the socket is in a slot already, of this array or another: empty that first"
    with rawbpf.Map.create("reuseport_sockarray", max_entries=1) as other:
        for m, slot in ((array, 0), (array, 1), (other, 0)):
            with pytest.raises(rawbpf.BpfError, match=text):
                m[slot] = one
        del array[0]
        other[0] = one
        assert (other.snapshot(), array.snapshot()) == ({0: sockets.cookie(one)}, {})
        other[0] = two
        array[1] = one
        assert (other[0], array[1]) == (sockets.cookie(two), sockets.cookie(one))


REFUSED = [
    pytest.param(
        lambda: sockets.udp(shared=False), rawbpf.BpfError, "EINVAL: the socket must have had SO_REUSEPORT", id="alone"
    ),
    pytest.param(lambda: socket.socket(type=socket.SOCK_DGRAM), rawbpf.BpfError, "and be bound", id="not bound"),
    pytest.param(lambda: socket.socket(socket.AF_UNIX), rawbpf.NotSupported, "takes TCP and UDP sockets", id="Unix"),
]


@pytest.mark.guest
@pytest.mark.parametrize(("make", "error", "text"), REFUSED)
def test_sockets_that_share_no_port_are_refused(
    array: rawbpf.ReuseportSockArray, make: type[socket.socket], error: type[rawbpf.BpfError], text: str
) -> None:
    with make() as one, pytest.raises(error, match=text):
        array[0] = one


@pytest.mark.guest
def test_values_of_4_bytes_are_written_and_not_read(backend: Backend, stack: ExitStack) -> None:
    (one,) = _of_one_port(1, stack)
    with rawbpf.Map.create("reuseport_sockarray", value="u32", max_entries=1) as array:
        array[0] = one
        with pytest.raises(rawbpf.NotSupported, match="created with value_size 8, the map returns their cookies"):
            array.get(0)
        array.clear()
        array[0] = one
