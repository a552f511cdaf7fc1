"""Programs on sockets: a filter of what one receives, a selector for a port, and what is refused."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import sockets, tracers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.link.socket import SocketAttachment

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.needs("prog_type:socket_filter"),
    pytest.mark.guest,
]

_SO_DETACH_FILTER, _SO_DETACH_REUSEPORT_BPF, _SO_LOCK_FILTER = 27, 68, 44
_UDP_HEADER = 8
LOCKED = "EPERM: the socket's filter is locked"


def _of_length(length: int) -> list[Instruction]:
    # Keeps datagrams of this length and drops others.
    return [
        b.load_mem(b.R1, b.R1, 0, 4),  # skb->len
        b.mov_imm(b.R0, -1),
        b.jump_imm(b.R1, "==", _UDP_HEADER + length, 1),
        b.mov_imm(b.R0, 0),
        b.exit_(),
    ]


@pytest.fixture
def stack(backend: Backend) -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def receiver(stack: ExitStack) -> socket.socket:
    return stack.enter_context(sockets.udp())


@pytest.fixture
def sender(stack: ExitStack, receiver: socket.socket) -> socket.socket:
    made = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    made.connect(receiver.getsockname())
    return made


def _detach(of: socket.socket, option: int) -> int:
    try:
        of.setsockopt(socket.SOL_SOCKET, option, 0)
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_filter_keeps_what_it_says_until_it_is_detached(
    stack: ExitStack, receiver: socket.socket, sender: socket.socket
) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", _of_length(4), name="four"))
    with program.attach_socket(receiver) as attachment:
        for content in (b"long one", b"four", b"", b"1234"):
            sender.send(content)
        assert [receiver.recv(100), receiver.recv(100)] == [b"four", b"1234"]
        assert sockets.nothing_arrived(receiver)
        assert attachment.program_name == "four"
        assert attachment.target == f"socket fd {receiver.fileno()}"
    attachment.close()
    sender.send(b"long one")
    assert receiver.recv(100) == b"long one"
    assert _detach(receiver, _SO_DETACH_FILTER) == errno.ENOENT


def test_a_filter_takes_the_place_of_another(stack: ExitStack, receiver: socket.socket, sender: socket.socket) -> None:
    programs = [stack.enter_context(rawbpf.Program.load("socket", _of_length(length))) for length in (1, 2)]
    for program in programs:
        stack.enter_context(program.attach_socket(receiver))
    sender.send(b"1")
    sender.send(b"22")
    assert receiver.recv(10) == b"22"


def test_a_socket_filter_chooses_among_the_sockets_of_a_port(
    stack: ExitStack, receiver: socket.socket, sender: socket.socket
) -> None:
    others = [stack.enter_context(sockets.udp(receiver.getsockname()[1])) for _ in range(2)]
    for number, chosen in enumerate([receiver, *others]):
        program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(number)))
        with program.attach_reuseport(others[0]) as attachment:
            assert attachment.target == f"port of socket fd {others[0].fileno()}"
            for _ in range(5):
                sender.send(b"x")
                assert chosen.recv(10) == b"x"
        assert _detach(receiver, _SO_DETACH_REUSEPORT_BPF) == errno.ENOENT


def test_a_program_may_be_attached_before_the_port_is_bound(stack: ExitStack) -> None:
    first = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(1)))
    stack.enter_context(program.attach_reuseport(first))
    first.bind(("127.0.0.1", 0))
    second = stack.enter_context(sockets.udp(first.getsockname()[1]))
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        for _ in range(5):
            sender.sendto(b"x", first.getsockname())
            assert second.recv(10) == b"x"


METHODS = [pytest.param("attach_socket", id="filter"), pytest.param("attach_reuseport", id="port")]
each = pytest.mark.parametrize("method", METHODS)


@each
def test_an_attachment_has_no_link_object(stack: ExitStack, receiver: socket.socket, method: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    with getattr(program, method)(receiver) as attachment:
        assert isinstance(attachment, SocketAttachment)
        verbs: list[Callable[[], object]] = [
            lambda: attachment.info,
            lambda: attachment.id,
            lambda: attachment.pin("/nowhere"),
            lambda: attachment.update(program),
        ]
        for verb in verbs:
            with pytest.raises(
                rawbpf.NotSupported, match="the kernel has no link objects for what is attached to a socket"
            ):
                verb()


@each
@pytest.mark.parametrize("first", ["the socket", "another's detaching"])
def test_what_ended_before_is_closed_without_complaint(
    stack: ExitStack, receiver: socket.socket, method: str, first: str
) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    with getattr(program, method)(receiver):
        if first == "the socket":
            receiver.close()
        else:
            option = _SO_DETACH_FILTER if method == "attach_socket" else _SO_DETACH_REUSEPORT_BPF
            assert _detach(receiver, option) == 0


@each
def test_what_was_released_stays_attached(stack: ExitStack, receiver: socket.socket, method: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    program.backend.close(getattr(program, method)(receiver).release())
    option = _SO_DETACH_FILTER if method == "attach_socket" else _SO_DETACH_REUSEPORT_BPF
    assert _detach(receiver, option) == 0


@each
def test_a_program_of_another_type_is_refused(stack: ExitStack, receiver: socket.socket, method: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("xdp", tracers.returning(2), name="other"))
    wanted = "socket_filter" if method == "attach_socket" else "sk_reuseport or socket_filter"
    text = f"EINVAL: it takes programs of type {wanted}, and 'other' is of type xdp"
    with pytest.raises(rawbpf.BpfError, match=text):
        getattr(program, method)(receiver)


@each
def test_a_locked_filter_is_left_alone(stack: ExitStack, receiver: socket.socket, method: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    attachment = stack.enter_context(program.attach_socket(receiver))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
    with pytest.raises(rawbpf.PermissionDenied, match=LOCKED):
        getattr(program, method)(receiver)
    # Nor can it be detached any more: closing says so, and has closed what is ours.
    with pytest.raises(rawbpf.PermissionDenied, match=f"detach socket fd {receiver.fileno()}: {LOCKED}"):
        attachment.close()
    assert attachment.closed


def test_sockets_that_share_no_port_are_refused(stack: ExitStack) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    alone = stack.enter_context(sockets.udp(shared=False))
    text = (
        rf"setsockopt SO_ATTACH_REUSEPORT_EBPF port of socket fd {alone.fileno()}: EINVAL: the socket was bound without"
    )
    with pytest.raises(rawbpf.BpfError, match=text):
        program.attach_reuseport(alone)


@each
def test_what_is_no_open_socket_is_refused(stack: ExitStack, receiver: socket.socket, method: str) -> None:
    program = stack.enter_context(rawbpf.Program.load("socket", tracers.returning(0)))
    things: list[Any] = [receiver.fileno(), program, "socket"]
    for thing in things:
        with pytest.raises(TypeError, match="expected an open socket, got"):
            getattr(program, method)(thing)
    receiver.close()
    with pytest.raises(ValueError, match="is closed"):
        getattr(program, method)(receiver)
    program.close()
    with pytest.raises(rawbpf.Closed):
        getattr(program, method)(stack.enter_context(sockets.udp()))


@pytest.mark.parametrize(
    ("section", "method"), [("socket", r"attach_socket\(socket\)"), ("sk_reuseport", r"attach_reuseport\(socket\)")]
)
def test_the_section_names_the_method(backend: Backend, section: str, method: str) -> None:
    text = f"section '{section}' does not say to what: {method}"
    with (
        rawbpf.Program.load(section, tracers.returning(1)) as program,
        pytest.raises(rawbpf.SpecError, match=text),
    ):
        program.attach()
