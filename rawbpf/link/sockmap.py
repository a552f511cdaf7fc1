"""Programs on the sockets of a sockmap or sockhash: they see what the sockets receive or send, and redirect it.

A map has one program of each kind: a parser and a verdict on what is received (sk_skb), a verdict on
what is sent (sk_msg). A socket takes up the programs that the map has when it is stored, and has them
until it leaves the map: detaching is for those that come later.
Source: net/core/sock_map.c:sock_map_link_create, sock_map_get_from_fd (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import descriptor_of
from rawbpf.errors import BpfError
from rawbpf.link.base import Attachment, Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import require_kind
from rawbpf.syscall.obj import obj_get_info_by_fd
from rawbpf.syscall.prog import prog_attach, prog_detach
from rawbpf.syscall.program_words import wrong_type
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

_ENOENT, _EBUSY, _EINVAL = 2, 16, 22
_MAPS = (c.BPF_MAP_TYPE_SOCKMAP, c.BPF_MAP_TYPE_SOCKHASH)
_WORDS = {
    c.BPF_SK_SKB_STREAM_PARSER: "stream_parser",
    c.BPF_SK_SKB_STREAM_VERDICT: "stream_verdict",
    c.BPF_SK_SKB_VERDICT: "verdict",
    c.BPF_SK_MSG_VERDICT: "sk_msg",
}


class SockMapAttachment(Attachment):
    """An attachment to a sockmap on kernels before 6.10, which have no link objects for those."""

    __slots__ = ("_attach_type", "_map_fd")

    _why = "it is attached by PROG_ATTACH, because this kernel has no link objects for sockmaps (since Linux 6.10)"

    def __init__(self, backend: Backend, program_fd: int, attach_type: int, target: str) -> None:
        super().__init__(backend, program_fd, target)
        self._attach_type = attach_type
        self._map_fd = -1  # until it is attached

    def release(self) -> int:
        """Return the descriptor, which is the program's, and leave that attached. Raises: Closed."""
        fd, map_fd = super().release(), self._map_fd
        self._map_fd = -1
        self._backend.close(map_fd)
        return fd

    def close(self) -> None:
        """Detach the program. Idempotent."""
        map_fd, self._map_fd = self._map_fd, -1
        try:
            if map_fd >= 0:
                self._detach(map_fd)
        finally:
            super().close()

    def _detach(self, map_fd: int) -> None:
        try:
            prog_detach(
                self._backend, target_fd=map_fd, prog_fd=self._fd, attach_type=self._attach_type, subject=self._target
            )
        except BpfError as error:
            if error.errno != _ENOENT:  # another program took its place
                raise
        finally:
            self._backend.close(map_fd)


def attach_sockmap(
    program: HasFileno, target: HasFileno, *, attach_type: int = 0, backend: Backend | None = None
) -> Link:
    """Attach `program` to the sockets that will be stored in the map `target`, and return the link.

    Sockets keep the programs that they were stored with, also when the link is closed, until they leave the map.
    `program`: of type sk_skb or sk_msg, and made with `backend` (None: the current one). `target`: an open
    sockmap or sockhash. `attach_type`: the place of an sk_skb program; sk_msg programs have one only.
    Raises: BpfError (EBUSY: a link has the place; EINVAL: a program or a map of another type); PermissionDenied
    (EPERM); ValueError for an sk_skb program without its place.
    Since: Linux 4.14; as a link object 6.10. Source: net/core/sock_map.c:sock_map_link_create
    """
    kernel = current() if backend is None else backend
    map_fd, prog_fd = descriptor_of(target, "a sockmap or sockhash", "map"), program.fileno()
    place = attach_type or c.BPF_SK_MSG_VERDICT
    where = f"{_WORDS.get(place, 'program')} of map {getattr(target, 'name', '') or f'fd {map_fd}'}"
    # The kernel goes by the program's type, and would attach one of another type somewhere else.
    if wrong := wrong_type(kernel, prog_fd, (c.BPF_PROG_TYPE_SK_SKB, c.BPF_PROG_TYPE_SK_MSG)):
        raise _invalid(kernel, where, wrong)
    if not attach_type and not wrong_type(kernel, prog_fd, (c.BPF_PROG_TYPE_SK_SKB,)):
        hint = "give attach_type=, or load it from a section such as sk_skb/stream_verdict"
        raise ValueError(f"an sk_skb program parses or judges, and this one does not say which: {hint}")

    def attach() -> Link:
        try:
            fd = link.link_create(kernel, prog_fd=prog_fd, target_fd=map_fd, attach_type=place, subject=where)
        except BpfError as error:
            if error.errno != _EINVAL:
                raise
            if wrong := _wrong_map(kernel, map_fd):
                raise _invalid(kernel, where, wrong) from None
            return _attach_without_link(kernel, prog_fd, map_fd, place, where)  # before Linux 6.10
        return Link(kernel, fd, where)

    try:
        return owned(attach)
    except BpfError as error:
        if error.errno == _EBUSY:
            error.hint = "the map has such a program by another link, or a verdict beside stream_verdict"
        raise


def _attach_without_link(backend: Backend, prog_fd: int, map_fd: int, attach_type: int, where: str) -> Link:
    made = SockMapAttachment(backend, backend.dup(prog_fd), attach_type, where)
    try:
        held = backend.dup(map_fd)
        try:
            prog_attach(backend, target_fd=held, prog_fd=prog_fd, attach_type=attach_type, subject=where)
        except BaseException:
            backend.close(held)
            raise
        made._map_fd = held
    except BaseException:
        made.close()
        raise
    return made


def _wrong_map(backend: Backend, map_fd: int) -> str:
    # Empty if it is a map that sockets are stored in.
    try:
        require_kind(backend, map_fd, "map")
    except BpfError as error:
        return error.hint
    map_type = MAP_INFO.integer(obj_get_info_by_fd(backend, map_fd, MAP_INFO.size), "type")
    if map_type in _MAPS:
        return ""
    return f"it attaches to maps of type sockmap or sockhash, and this is of type {map_type_name(map_type)}"


def _invalid(backend: Backend, where: str, hint: str) -> BpfError:
    return BpfError(_EINVAL, call="link_create", cmd=c.BPF_LINK_CREATE, subject=where, hint=hint, backend=backend.name)
