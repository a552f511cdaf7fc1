"""Programs on a cgroup: they run for what the processes in it, and in the cgroups below, do with sockets and the like.

Only cgroups of version 2 have programs. Several run side by side, those of this cgroup before those of
the ones above. Source: kernel/bpf/cgroup.c:cgroup_bpf_link_attach, __cgroup_bpf_attach (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.codec.descriptor import descriptor_of
from rawbpf.errors import BpfError, PermissionDenied
from rawbpf.link.base import Attachment, Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link, obj, prog
from rawbpf.syscall.current import current
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import PROG_INFO
from rawbpf.uapi.names import attach_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

    Cgroup = str | os.PathLike[str] | HasFileno

_EPERM, _ENOENT, _E2BIG, _EBADF, _ENOTDIR, _EINVAL = 1, 2, 7, 9, 20, 22

# By program type, where it can be attached. Source: kernel/bpf/syscall.c:attach_type_to_prog_type (v6.12).
_PLACES = {
    c.BPF_PROG_TYPE_CGROUP_SKB: (c.BPF_CGROUP_INET_INGRESS, c.BPF_CGROUP_INET_EGRESS),
    c.BPF_PROG_TYPE_CGROUP_SOCK: (
        c.BPF_CGROUP_INET_SOCK_CREATE,
        c.BPF_CGROUP_INET_SOCK_RELEASE,
        c.BPF_CGROUP_INET4_POST_BIND,
        c.BPF_CGROUP_INET6_POST_BIND,
    ),
    c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR: (
        c.BPF_CGROUP_INET4_BIND,
        c.BPF_CGROUP_INET6_BIND,
        c.BPF_CGROUP_INET4_CONNECT,
        c.BPF_CGROUP_INET6_CONNECT,
        c.BPF_CGROUP_UNIX_CONNECT,
        c.BPF_CGROUP_UDP4_SENDMSG,
        c.BPF_CGROUP_UDP6_SENDMSG,
        c.BPF_CGROUP_UNIX_SENDMSG,
        c.BPF_CGROUP_UDP4_RECVMSG,
        c.BPF_CGROUP_UDP6_RECVMSG,
        c.BPF_CGROUP_UNIX_RECVMSG,
        c.BPF_CGROUP_INET4_GETPEERNAME,
        c.BPF_CGROUP_INET6_GETPEERNAME,
        c.BPF_CGROUP_UNIX_GETPEERNAME,
        c.BPF_CGROUP_INET4_GETSOCKNAME,
        c.BPF_CGROUP_INET6_GETSOCKNAME,
        c.BPF_CGROUP_UNIX_GETSOCKNAME,
    ),
    c.BPF_PROG_TYPE_SOCK_OPS: (c.BPF_CGROUP_SOCK_OPS,),
    c.BPF_PROG_TYPE_CGROUP_DEVICE: (c.BPF_CGROUP_DEVICE,),
    c.BPF_PROG_TYPE_CGROUP_SYSCTL: (c.BPF_CGROUP_SYSCTL,),
    c.BPF_PROG_TYPE_CGROUP_SOCKOPT: (c.BPF_CGROUP_GETSOCKOPT, c.BPF_CGROUP_SETSOCKOPT),
    c.BPF_PROG_TYPE_LSM: (c.BPF_LSM_CGROUP,),
}


class CgroupAttachment(Attachment):
    """An attachment to a cgroup on kernels before 5.7, which have no link objects for those.

    The program stays attached until this is closed, or for good where the process ends without that.
    """

    __slots__ = ("_attach_type", "_prog_fd")

    _why = "this kernel has no link objects for cgroups (since Linux 5.7)"

    def __init__(self, backend: Backend, cgroup_fd: int, prog_fd: int, attach_type: int, target: str) -> None:
        super().__init__(backend, cgroup_fd, target)
        self._prog_fd = prog_fd
        self._attach_type = attach_type

    def release(self) -> int:
        """Leave the program attached for good, and return a descriptor of the cgroup. Raises: Closed."""
        fd = super().release()
        self._backend.close(self._prog_fd)
        return fd

    def close(self) -> None:
        """Detach the program. Idempotent. Raises: BpfError where the kernel refuses."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            prog.prog_detach(
                self._backend,
                target_fd=fd,
                prog_fd=self._prog_fd,
                attach_type=self._attach_type,
                subject=self._target,
            )
        except BpfError as error:
            if error.errno != _ENOENT:  # somebody else detached it, or the cgroup is gone
                raise
        finally:
            self._close_own(fd)
            self._backend.close(self._prog_fd)


def attach_cgroup(
    program: HasFileno, cgroup: Cgroup, attach_type: int | None = None, *, backend: Backend | None = None
) -> Link:
    """Attach `program` to the cgroup and return the link.

    `program`: of a type for cgroups, and made with `backend` (None: the current one). `cgroup`: the path of its
    directory, or that directory open. `attach_type`: a BPF_CGROUP_ number; None where the program's
    type has only one.
    Raises: BpfError (ENOENT: no such cgroup; EBADF: no cgroup, or one of version 1; EINVAL: a program of
    another type, or for another place; E2BIG: 64 programs are there); PermissionDenied (EPERM: also where
    another program is alone there, which the text names); TypeError where `attach_type` is needed.
    Since: Linux 4.10, as a link since 5.7. Source: kernel/bpf/cgroup.c:cgroup_bpf_link_attach
    """
    if backend is None:
        backend = current()
    kernel = backend
    place = _only_place(kernel, program) if attach_type is None else attach_type
    named = f"cgroup {os.fspath(cgroup)!r}" if isinstance(cgroup, str | os.PathLike) else "cgroup"
    target = f"{attach_type_name(place)} of {named}"
    return owned(lambda: _attach(kernel, program.fileno(), cgroup, place, target))


def _attach(backend: Backend, prog_fd: int, cgroup: Cgroup, attach_type: int, target: str) -> Link:
    cgroup_fd = _opened(backend, cgroup, target)
    try:
        try:
            fd = link.link_create(
                backend, prog_fd=prog_fd, target_fd=cgroup_fd, attach_type=attach_type, subject=target
            )
        except BpfError as error:
            # Also what kernels without such links answer: then the older way tells which it was.
            if error.errno == _EINVAL:
                error.errno = _attach_without_link(backend, prog_fd, cgroup_fd, attach_type)
                if not error.errno:
                    return _attachment(backend, cgroup_fd, prog_fd, attach_type, target)
            raise _explained(backend, prog_fd, cgroup_fd, attach_type, error) from None
        return Link(backend, fd, target)
    finally:
        backend.close(cgroup_fd)


def _opened(backend: Backend, cgroup: Cgroup, target: str) -> int:
    if not isinstance(cgroup, str | os.PathLike):
        return backend.dup(descriptor_of(cgroup, "the path of a cgroup, or its directory", "cgroup"))
    try:
        return os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        hint = "a cgroup is a directory" if error.errno == _ENOTDIR else ""
        hint = _version_2() if error.errno == _ENOENT else hint
        raise BpfError(error.errno or 0, call="open", subject=target, hint=hint, backend=backend.name) from None


def _attach_without_link(backend: Backend, prog_fd: int, cgroup_fd: int, attach_type: int) -> int:
    # Returns the errno of a refusal, or 0. Beside others where the kernel knows that (since Linux 4.15), else
    # with leave for cgroups below to override.
    number = 0
    for flags in (c.BPF_F_ALLOW_MULTI, c.BPF_F_ALLOW_OVERRIDE):
        try:
            prog.prog_attach(backend, target_fd=cgroup_fd, prog_fd=prog_fd, attach_type=attach_type, attach_flags=flags)
        except BpfError as error:
            number = error.errno or 0
            if number != _EINVAL:
                break
        else:
            return 0
    return number


def _attachment(backend: Backend, cgroup_fd: int, prog_fd: int, attach_type: int, target: str) -> Link:
    own_cgroup = backend.dup(cgroup_fd)
    try:
        return CgroupAttachment(backend, own_cgroup, backend.dup(prog_fd), attach_type, target)
    except BaseException:
        prog.prog_detach(backend, target_fd=own_cgroup, prog_fd=prog_fd, attach_type=attach_type)
        backend.close(own_cgroup)
        raise


def _only_place(backend: Backend, program: HasFileno) -> int:
    info = PROG_INFO.unpack(obj.obj_get_info_by_fd(backend, program.fileno(), PROG_INFO.size))
    places = _PLACES.get(info["type"])
    if places is None:
        from rawbpf.syscall.program_words import wrong_type

        hint = wrong_type(backend, program.fileno(), _PLACES)
        raise BpfError(_EINVAL, call="attach", subject="cgroup", hint=hint, backend=backend.name)
    if len(places) > 1:
        words = ", ".join(repr(attach_type_name(place)) for place in places)
        raise TypeError(f"attach_type= is needed, as the program was not loaded for one place: {words}")
    return places[0]


def _explained(backend: Backend, prog_fd: int, cgroup_fd: int, attach_type: int, error: BpfError) -> BpfError:
    kind: type[BpfError] = BpfError
    if error.errno == _EINVAL:
        hint = _invalid(backend, prog_fd, attach_type)
    elif error.errno == _EBADF:
        hint = _no_cgroup(cgroup_fd)
    elif error.errno == _E2BIG:
        hint = "64 programs are attached to this cgroup in this place, and no more can be"
    elif error.errno == _EPERM:
        kind, hint = PermissionDenied, _alone(backend, cgroup_fd, attach_type)
    elif error.errno == _ENOENT:
        hint = "the cgroup was removed"
    else:
        return error
    return kind(
        error.errno,
        call="link_create",
        cmd=c.BPF_LINK_CREATE,
        subject=error.subject,
        hint=hint or error.hint,
        backend=backend.name,
    )


def _invalid(backend: Backend, prog_fd: int, attach_type: int) -> str:
    from rawbpf.syscall.program_words import wrong_type

    types = [kind for kind, places in _PLACES.items() if attach_type in places]
    if hint := wrong_type(backend, prog_fd, types or _PLACES):
        return hint
    if not types:
        return f"{attach_type_name(attach_type)} is no place of cgroups"
    return "the program was loaded for another place (its expected attach type), or this kernel has no such one"


def _no_cgroup(cgroup_fd: int) -> str:
    try:
        names = os.listdir(cgroup_fd)
    except OSError:
        names = []
    if "cgroup.procs" in names and "cgroup.controllers" not in names:
        return f"it is a cgroup of version 1, and only those of version 2 have programs; {_version_2()}"
    return f"it is no cgroup; {_version_2()}"


def _version_2() -> str:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        places = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    return f"those of version 2 are in {places[0]}" if places else "none of version 2 are mounted (mount -t cgroup2)"


def _alone(backend: Backend, cgroup_fd: int, attach_type: int) -> str:
    # For who has the capability: another program was attached without BPF_F_ALLOW_MULTI.
    from rawbpf.syscall.program_words import named_program

    try:
        here = prog.prog_query(backend, target_fd=cgroup_fd, attach_type=attach_type)
        effective = prog.prog_query(
            backend, target_fd=cgroup_fd, attach_type=attach_type, query_flags=c.BPF_F_QUERY_EFFECTIVE
        )
    except BpfError:
        return ""
    if here.prog_ids and not here.attach_flags & c.BPF_F_ALLOW_MULTI:
        where, found = "this cgroup", here.prog_ids
    else:
        where, found = "a cgroup above", effective.prog_ids
    if not found:
        return ""
    programs = ", ".join(named_program(backend, prog_id) for prog_id in found)
    return f"{where} has {programs}, attached without BPF_F_ALLOW_MULTI, and so alone"
