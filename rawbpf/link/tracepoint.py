"""Programs on tracepoints, by way of a perf event: `tp/` and `tracepoint/` sections.

The event is opened for one CPU and all processes; a tracepoint's programs run on every CPU whatever
the event says. Since Linux 5.15 a link holds the event and has an id and pins; before, the event's
own descriptor holds the program. The newer way is tried first.

Source: kernel/trace/bpf_trace.c:perf_event_attach_bpf_prog, kernel/bpf/syscall.c:bpf_perf_link_attach (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.errors import BpfError, NotSupported, PermissionDenied
from rawbpf.link.base import EventLink, Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link
from rawbpf.syscall.current import current
from rawbpf.uapi import perf
from rawbpf.uapi.constants import BPF_LINK_CREATE, BPF_PERF_EVENT, BPF_PROG_TYPE_TRACEPOINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

_EPERM, _E2BIG, _EACCES, _EEXIST, _ENODEV, _EINVAL, _EOPNOTSUPP = 1, 7, 13, 17, 19, 22, 95
_ANY_PROCESS = -1


def attach_tracepoint(
    program: HasFileno, category: str, name: str, cookie: int = 0, *, backend: Backend | None = None
) -> Link:
    """Attach `program` to the tracepoint `category/name` and return the link.

    `program`: of type tracepoint, and made with `backend` (None: the current one). `cookie`: 64 bits
    that bpf_get_attach_cookie() gives the program.
    Raises: BpfError (ENOENT: no such tracepoint, the text has close names; EEXIST: attached there
    already; EACCES: it reads beyond the tracepoint's record; E2BIG: 64 programs are there);
    PermissionDenied (EPERM); NotSupported for a `cookie` on kernels that have none.
    Since: Linux 4.7; `cookie` since 5.15. Source: kernel/bpf/syscall.c:bpf_perf_link_attach
    """
    if backend is None:
        backend = current()
    kernel = backend
    event = kernel.host.tracepoint(category, name)
    target = f"tracepoint {category}/{name}"
    return owned(lambda: _attach(kernel, program.fileno(), event, cookie, target))


def _attach(backend: Backend, prog_fd: int, event: int, cookie: int, target: str) -> Link:
    event_fd = _open_event(backend, event, target)
    keep = False
    try:
        try:
            fields = {"perf_event_bpf_cookie": cookie} if cookie else {}
            fd = link.link_create(
                backend, prog_fd=prog_fd, target_fd=event_fd, attach_type=BPF_PERF_EVENT, subject=target, **fields
            )
        except BpfError as error:
            # Also what kernels without perf event links answer: then the older way tells which it was.
            if error.errno != _EINVAL:
                raise _explained(backend, prog_fd, error.errno or 0, target, error) from None
            _attach_by_ioctl(backend, prog_fd, event_fd, cookie, target, error)
            keep = True
            return EventLink(backend, event_fd, target)
        # The link holds the event by itself.
        return Link(backend, fd, target)
    finally:
        if not keep:
            backend.close(event_fd)


def _open_event(backend: Backend, event: int, target: str) -> int:
    packed = perf.perf_event_attr(type=perf.PERF_TYPE_TRACEPOINT, config=event, sample_period=1, wakeup_events=1)
    for cpu in range(backend.host.possible_cpus):
        try:
            return backend.perf_event_open(packed, _ANY_PROCESS, cpu, -1, perf.PERF_FLAG_FD_CLOEXEC)
        except OSError as error:
            if error.errno == _ENODEV and cpu + 1 < backend.host.possible_cpus:
                continue  # this CPU is offline
            raise _event_refused(backend, error.errno or 0, target) from error
    raise AssertionError("a machine has at least one CPU")


def _event_refused(backend: Backend, errno: int, target: str) -> BpfError:
    if errno not in (_EPERM, _EACCES):
        return BpfError(errno, call="perf_event_open", subject=target, backend=backend.name)
    from rawbpf.syscall import permission

    hint = permission.explain(backend.host, ("CAP_PERFMON",))
    return PermissionDenied(errno, call="perf_event_open", subject=target, hint=hint, backend=backend.name)


def _attach_by_ioctl(
    backend: Backend, prog_fd: int, event_fd: int, cookie: int, target: str, refusal: BpfError
) -> None:
    try:
        backend.ioctl(event_fd, _request(perf.PERF_EVENT_IOC_SET_BPF), prog_fd)
    except OSError as error:
        raise _explained(backend, prog_fd, error.errno or 0, target, refusal) from None
    # Closing the event, which the caller does, takes the program off again.
    if cookie:
        hint = "this kernel has no cookies for tracepoints (since Linux 5.15): load a program per cookie"
        raise NotSupported(
            _EOPNOTSUPP, call="link_create", cmd=BPF_LINK_CREATE, subject=target, hint=hint, backend=backend.name
        )
    backend.ioctl(event_fd, _request(perf.PERF_EVENT_IOC_ENABLE))


def _request(number: int) -> int:
    return perf.ioctl_request(number, os.uname().machine)


def _explained(backend: Backend, prog_fd: int, errno: int, target: str, error: BpfError) -> BpfError:
    from rawbpf.syscall.program_words import wrong_type

    if errno == _EINVAL:
        hint = wrong_type(backend, prog_fd, (BPF_PROG_TYPE_TRACEPOINT,)) or error.hint
    elif errno in _HINTS:
        hint = _HINTS[errno]
    else:
        return error
    return BpfError(errno, call="link_create", cmd=BPF_LINK_CREATE, subject=target, hint=hint, backend=backend.name)


_HINTS = {
    _EEXIST: "this program is attached to this tracepoint already",
    _E2BIG: "64 programs are attached to this tracepoint, and no more can be",
    # No permission is missing, although EACCES says so elsewhere.
    _EACCES: "the program reads further into its context than this tracepoint's record is long: "
    "its context struct is another tracepoint's",
}
