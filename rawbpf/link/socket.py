"""Programs on single sockets: filters of what one receives, and selectors among those that share a port.

They are attached by setsockopt(2), for which the kernel has no link objects: a program stays with the
socket, or with the sockets of the port, until it is detached or the last of them is closed.
Source: net/core/sock.c:sk_setsockopt, net/core/filter.c:sk_attach_bpf, sk_reuseport_attach_bpf (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import ENOTSUPP, BpfError, NotSupported, PermissionDenied
from rawbpf.link.base import Attachment
from rawbpf.link.deferral import owned
from rawbpf.syscall.current import current
from rawbpf.syscall.program_words import wrong_type
from rawbpf.uapi.constants import BPF_PROG_TYPE_SK_REUSEPORT, BPF_PROG_TYPE_SOCKET_FILTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

    class Socket(Protocol):
        """A socket, as `socket.socket` and what wraps one."""

        def fileno(self) -> int:
            """Return the descriptor, -1 once closed."""

        def setsockopt(self, level: int, option: int, value: int, /) -> object:
            """Set an option."""


_EPERM, _ENOENT, _EINVAL, _ENOMEM, _ENOPROTOOPT = 1, 2, 22, 12, 92

# Source: include/uapi/asm-generic/socket.h (v6.12)
_SOL_SOCKET = 1
_SO_DETACH_FILTER, _SO_ATTACH_BPF = 27, 50
_SO_ATTACH_REUSEPORT_EBPF, _SO_DETACH_REUSEPORT_BPF = 52, 68


class SocketAttachment(Attachment):
    """An attachment to a socket, closed or ended before that is: of a closed one nothing can be detached."""

    __slots__ = ("_option", "_socket")

    _why = "the kernel has no link objects for what is attached to a socket"

    def __init__(self, backend: Backend, program_fd: int, socket: Socket, option: int, target: str) -> None:
        super().__init__(backend, program_fd, target)
        self._socket = socket
        self._option = option

    def close(self) -> None:
        """Detach the program from the socket, if that is still open. Idempotent. Raises: PermissionDenied (EPERM)."""
        try:
            if not self.closed and self._socket.fileno() >= 0:
                self._socket.setsockopt(_SOL_SOCKET, self._option, 0)
        except OSError as error:
            if error.errno != _ENOENT:  # it was detached by others
                raise _refusal(self._backend, error.errno or 0, "detach", self._target) from None
        finally:
            super().close()


def attach_socket(program: HasFileno, socket: Socket, *, backend: Backend | None = None) -> SocketAttachment:
    """Attach `program` as the filter of what `socket` receives, in place of one that is there; return the attachment.

    `program`: of type socket_filter: it returns how many bytes of a packet are kept, 0 drops it.
    Raises: TypeError for what is no socket; BpfError (EINVAL: a program of another type); PermissionDenied
    (EPERM: the filter is locked by SO_LOCK_FILTER).
    Since: Linux 3.19. Source: net/core/filter.c:sk_attach_bpf
    """
    types = (BPF_PROG_TYPE_SOCKET_FILTER,)
    return _attach(program, socket, types, "SO_ATTACH_BPF", _SO_ATTACH_BPF, _SO_DETACH_FILTER, backend)


def attach_reuseport(program: HasFileno, socket: Socket, *, backend: Backend | None = None) -> SocketAttachment:
    """Attach `program` to the sockets that share the port of `socket`; return the attachment.

    `program`: of type sk_reuseport, which selects a socket of a reuseport_sockarray, or of type
    socket_filter, which returns the number of one in the order in which they were bound. `socket`: any of them.
    Raises: TypeError for what is no socket; BpfError (EINVAL: a program of another type, or a socket without
    SO_REUSEPORT); PermissionDenied (EPERM: the filter is locked); NotSupported for other sockets than TCP and UDP.
    Since: Linux 4.5; of type sk_reuseport 4.19. Source: net/core/filter.c:sk_reuseport_attach_bpf
    """
    types = (BPF_PROG_TYPE_SK_REUSEPORT, BPF_PROG_TYPE_SOCKET_FILTER)
    options = _SO_ATTACH_REUSEPORT_EBPF, _SO_DETACH_REUSEPORT_BPF
    return _attach(program, socket, types, "SO_ATTACH_REUSEPORT_EBPF", *options, backend)


def _attach(
    program: HasFileno,
    socket: Socket,
    types: tuple[int, ...],
    word: str,
    option: int,
    undo: int,
    backend: Backend | None,
) -> SocketAttachment:
    kernel = current() if backend is None else backend
    if not hasattr(socket, "setsockopt"):
        raise TypeError(f"expected an open socket, got {socket!r} ({type(socket).__name__})")
    prog_fd, number = program.fileno(), socket.fileno()
    if number < 0:
        raise ValueError(f"expected a socket that is open, but {socket!r} is closed")
    where = f"{'socket' if option == _SO_ATTACH_BPF else 'port of socket'} fd {number}"

    def attach() -> SocketAttachment:
        made = SocketAttachment(kernel, kernel.dup(prog_fd), socket, undo, where)
        try:
            socket.setsockopt(_SOL_SOCKET, option, prog_fd)
        except BaseException:
            kernel.close(made.release())
            raise
        return made

    try:
        return owned(attach)
    except OSError as error:
        errno = error.errno or 0
        hint = wrong_type(kernel, prog_fd, types) if errno == _EINVAL else ""
        raise _refusal(kernel, errno, f"setsockopt {word}", where, hint) from None


def _refusal(backend: Backend, errno: int, call: str, where: str, hint: str = "") -> BpfError:
    classes = {_EPERM: PermissionDenied, ENOTSUPP: NotSupported, _ENOPROTOOPT: NotSupported}
    kind: type[BpfError] = classes.get(errno, BpfError)
    return kind(errno, call=call, subject=where, hint=hint or _HINTS.get(errno, ""), backend=backend.name)


_HINTS = {
    _EPERM: "the socket's filter is locked (SO_LOCK_FILTER)",
    _EINVAL: "the socket was bound without SO_REUSEPORT",
    _ENOMEM: "the program is larger than net.core.optmem_max allows",
    _ENOPROTOOPT: "this kernel does not attach such programs to sockets",
    ENOTSUPP: "only TCP and UDP sockets share ports by program",
}
