"""Programs on the sockets of a map: attached by links, by PROG_ATTACH where there are none, and what is refused."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support import sockets, tracers

import rawbpf
from rawbpf.link.sockmap import SockMapAttachment
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.prog import prog_query
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.link.base import Link
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.guest,
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    # The kernel has links to such maps since Linux 6.10.
    pytest.mark.needs("btf_name:BPF_LINK_TYPE_SOCKMAP"),
    pytest.mark.needs("map_type:sockmap", "map_type:sockhash", "prog_type:sk_skb", "prog_type:sk_msg"),
]

DROP, PASS = 0, 1
SECTIONS = {
    "sk_skb/stream_parser": c.BPF_SK_SKB_STREAM_PARSER,
    "sk_skb/stream_verdict": c.BPF_SK_SKB_STREAM_VERDICT,
    "sk_skb/verdict": c.BPF_SK_SKB_VERDICT,
    "sk_msg": c.BPF_SK_MSG_VERDICT,
}
NO_LINKS: dict[int, list[tuple[int, int]]] = {c.BPF_LINK_CREATE: [(call, errno.EINVAL) for call in range(1, 9)]}

create: Any = rawbpf.Map.create


@pytest.fixture(params=["sockmap", "sockhash"])
def sock_map(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Any]:
    options = {"key": "u32"} if request.param == "sockhash" else {}
    with create(request.param, max_entries=4, name="peers", **options) as made:
        yield made


@pytest.fixture(params=["link", "no link objects"])
def kernel(backend: Backend, request: pytest.FixtureRequest) -> Backend:
    """The kernel as it is, and as one before 6.10."""
    return backend if request.param == "link" else FaultBackend(backend, NO_LINKS)


def _program(section: str, value: int = PASS, backend: Backend | None = None) -> rawbpf.Program:
    return rawbpf.Program.load(section, tracers.returning(value), name="judge", backend=backend)


def _attached(backend: Backend, sock_map: Any, attach_type: int) -> tuple[int, ...]:
    return prog_query(backend, target_fd=sock_map.fileno(), attach_type=attach_type).prog_ids


@pytest.mark.parametrize("section", SECTIONS)
def test_a_program_is_attached_where_its_section_says_until_the_link_is_closed(
    backend: Backend, kernel: Backend, sock_map: Any, section: str
) -> None:
    with _program(section, backend=kernel) as program:
        link = program.attach_sockmap(sock_map)
        assert isinstance(link, SockMapAttachment) == (kernel is not backend)
        assert (link.target, link.program_name) == (f"{section.removeprefix('sk_skb/')} of map peers", "judge")
        assert _attached(backend, sock_map, SECTIONS[section]) == (program.id,)
        link.close()
        link.close()
        assert link.closed
        assert _attached(backend, sock_map, SECTIONS[section]) == ()


def test_sockets_have_the_programs_that_the_map_had_when_they_were_stored(kernel: Backend, sock_map: Any) -> None:
    def is_dropped() -> bool:
        client.sendall(b"x")
        if sockets.nothing_arrived(server):
            return True
        assert server.recv(10) == b"x"
        return False

    client, server = sockets.unix_pair()
    with client, server, _program("sk_skb/verdict", DROP, kernel) as program:
        sock_map[1] = server
        with program.attach_sockmap(sock_map):
            assert not is_dropped()
            del sock_map[1]
            sock_map[1] = server
            assert is_dropped()
        assert is_dropped()
        del sock_map[1]
        assert not is_dropped()
        sock_map[1] = server
        assert not is_dropped()


def test_the_map_may_be_closed_before_the_link(kernel: Backend, sock_map: Any) -> None:
    with _program("sk_msg", backend=kernel) as program, sock_map.dup() as copied, program.attach_sockmap(sock_map):
        sock_map.close()
        assert _attached(kernel, copied, c.BPF_SK_MSG_VERDICT) == (program.id,)


def test_a_link_tells_the_kernels_words_and_exchanges_its_program(backend: Backend, sock_map: Any) -> None:
    with _program("sk_msg") as program, _program("sk_msg") as other, program.attach_sockmap(sock_map) as link:
        info = link.info
        assert (info.kind, info.prog_id, info.fields["map_id"]) == ("sockmap", program.id, sock_map.id)
        assert info.describe() == f"sk_msg_verdict of map {sock_map.id}"
        link.update(other)
        assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == (other.id,)


def test_an_attachment_without_a_link_object_says_so(backend: Backend, sock_map: Any) -> None:
    with (
        _program("sk_msg", backend=FaultBackend(backend, NO_LINKS)) as program,
        program.attach_sockmap(sock_map) as link,
    ):
        verbs: list[Callable[[], object]] = [lambda: link.info, lambda: link.id, lambda: link.pin("/nowhere")]
        for verb in verbs:
            with pytest.raises(rawbpf.NotSupported, match=r"attached by PROG_ATTACH, .*since Linux 6\.10"):
                verb()


def test_what_was_exchanged_meanwhile_is_left_alone(backend: Backend, sock_map: Any) -> None:
    old = FaultBackend(backend, NO_LINKS)
    with (
        _program("sk_msg", backend=old) as first,
        _program("sk_msg", backend=old) as second,
        second.attach_sockmap(sock_map) as earlier,
    ):
        with first.attach_sockmap(sock_map):
            assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == (first.id,)
            earlier.close()
            assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == (first.id,)
        assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == ()


def test_a_released_attachment_stays(backend: Backend, sock_map: Any) -> None:
    with _program("sk_msg", backend=FaultBackend(backend, NO_LINKS)) as program:
        backend.close(program.attach_sockmap(sock_map).release())
        assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == (program.id,)


@pytest.mark.parametrize("faults", [{}, {c.BPF_PROG_ATTACH: [(1, errno.EPERM)]}], ids=["link", "PROG_ATTACH"])
def test_what_cannot_be_attached_leaves_nothing_behind(
    backend: Backend, sock_map: Any, faults: dict[int, list[tuple[int, int]]]
) -> None:
    refusing = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.EINVAL if faults else errno.EPERM)]} | faults)
    with _program("sk_msg", backend=refusing) as program, pytest.raises(rawbpf.PermissionDenied):
        program.attach_sockmap(sock_map)


def test_a_place_is_taken_by_one_link(backend: Backend, sock_map: Any) -> None:
    with _program("sk_skb/verdict") as one, _program("sk_skb/stream_verdict") as two, one.attach_sockmap(sock_map):
        for program in (one, two):
            with pytest.raises(
                rawbpf.BpfError, match="of map peers: EBUSY: the map has such a program by another link, or"
            ):
                program.attach_sockmap(sock_map)


def test_the_place_of_an_sk_skb_program_may_be_said_when_attaching(backend: Backend, sock_map: Any) -> None:
    with _program("sk_skb") as program:
        for kind in ("sk_skb_stream_parser", c.BPF_SK_SKB_STREAM_PARSER):
            with program.attach_sockmap(sock_map, attach_type=kind) as link:
                assert link.target == "stream_parser of map peers"
        with pytest.raises(ValueError, match="parses or judges, and this one does not say which: give attach_type="):
            program.attach_sockmap(sock_map)
        with rawbpf.Program.from_id(program.id) as again, pytest.raises(ValueError, match="does not say which"):
            again.attach_sockmap(sock_map)


def test_an_sk_msg_program_of_unknown_origin_has_one_place(backend: Backend, sock_map: Any) -> None:
    with (
        _program("sk_msg") as program,
        rawbpf.Program.from_id(program.id) as again,
        again.attach_sockmap(sock_map),
    ):
        assert _attached(backend, sock_map, c.BPF_SK_MSG_VERDICT) == (program.id,)


def test_a_program_of_another_type_is_refused_before_the_kernel_attaches_it_elsewhere(
    backend: Backend, sock_map: Any
) -> None:
    counted = FaultBackend(backend, {})
    text = "takes programs of type sk_skb or sk_msg, and 'other' is of type xdp"
    with (
        rawbpf.Program.load("xdp", tracers.returning(2), name="other", backend=counted) as program,
        pytest.raises(rawbpf.BpfError, match=text),
    ):
        program.attach_sockmap(sock_map)
    assert "link_create" not in counted.calls


def test_what_is_no_map_of_sockets_is_refused(kernel: Backend) -> None:
    with (
        rawbpf.Map.create("hash", key="u32", value="u32", max_entries=1) as other,
        _program("sk_msg", backend=kernel) as program,
        socket.socket() as one,
    ):
        things: list[tuple[Any, str]] = [
            (other, "EINVAL: it attaches to maps of type sockmap or sockhash, and this is of type hash"),
            (program, "EINVAL: it is a program, not a map"),
            (one, "EINVAL: it is no bpf object, not a map"),
        ]
        for thing, text in things:
            with pytest.raises(rawbpf.BpfError, match=text):
                program.attach_sockmap(thing)
        with pytest.raises(TypeError, match=r"map: expected a sockmap or sockhash, open, as an object with fileno\(\)"):
            program.attach_sockmap(other.fileno())  # type: ignore[arg-type]
    with pytest.raises(rawbpf.Closed):
        program.attach_sockmap(other)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_section_names_the_method(backend: Backend, section: str) -> None:
    with (
        _program(section) as program,
        pytest.raises(rawbpf.SpecError, match=r"does not say to what: attach_sockmap\(map\)"),
    ):
        program.attach()


def test_the_object_detaches_what_was_attached_by_its_programs(backend: Backend, sock_map: Any) -> None:
    kept: list[Link] = []
    with _program("sk_msg") as program:
        program._links = kept
        link = program.attach_sockmap(sock_map)
        assert kept == [link]
        link.close()
