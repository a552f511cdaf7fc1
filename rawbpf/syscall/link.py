"""The bpf commands on links, and those that make something like a link: raw tracepoints and iterators.

Must not know hooks: `rawbpf.link` has one file for each.

Source: kernel/bpf/syscall.c:link_create (v6.12).
"""

from __future__ import annotations

from rawbpf.syscall.command import command
from rawbpf.syscall.pointer import cstring, pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.names import attach_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def link_create(
    backend: Backend,
    *,
    prog_fd: int,
    target_fd: int = 0,
    target_ifindex: int = 0,
    attach_type: int,
    flags: int = 0,
    subject: str = "",
    **fields: int,
) -> int:
    """Attach a program, or a struct_ops map, whose descriptor is `prog_fd`; return the link's descriptor.

    `fields` are those of the kind of link, as the layout names them: `perf_event_bpf_cookie`,
    `tracing_target_btf_id`, `kprobe_multi_cnt` ...; what a pointer among them points to must outlive the call.
    Raises: PermissionDenied (EPERM); NotSupported (ENOTSUPP, EOPNOTSUPP); BpfError (EINVAL, EBADF, EBUSY, EEXIST);
    TypeError for a field that LINK_CREATE has not.
    Since: Linux 5.7. Source: kernel/bpf/syscall.c:link_create
    """
    values: dict[str, int | bytes] = {
        "prog_fd": prog_fd,
        **({"target_ifindex": target_ifindex} if target_ifindex else {"target_fd": target_fd}),
        "attach_type": attach_type,
        "flags": flags,
        **fields,
    }
    subject = subject or attach_type_name(attach_type)
    return command(backend, attr.LINK_CREATE, values, subject=subject, blocking=True)[0]


def link_update(
    backend: Backend,
    link_fd: int,
    *,
    new_prog_fd: int,
    old_prog_fd: int | None = None,
    flags: int = 0,
    subject: str = "",
) -> None:
    """Replace the program (or struct_ops map) of a link; `old_prog_fd` with BPF_F_REPLACE says which must be there.

    Raises: Closed (EBADF); BpfError (EINVAL; EPERM as PermissionDenied if another program is there).
    Since: Linux 5.7. Source: kernel/bpf/syscall.c:link_update
    """
    values: dict[str, int | bytes] = {"link_fd": link_fd, "new_prog_fd": new_prog_fd, "flags": flags}
    if old_prog_fd is not None:
        values["old_prog_fd"] = old_prog_fd
    command(backend, attr.LINK_UPDATE, values, subject=subject, blocking=True)


def link_detach(backend: Backend, link_fd: int, *, subject: str = "") -> None:
    """Detach what a link attached, though others may hold the link.

    Raises: Closed (EBADF); NotSupported (EOPNOTSUPP) for kinds that only close. Since: Linux 5.9.
    Source: kernel/bpf/syscall.c:link_detach
    """
    command(backend, attr.LINK_DETACH, {"link_fd": link_fd}, subject=subject, blocking=True)


def raw_tracepoint_open(
    backend: Backend, prog_fd: int, name: bytes | None = None, cookie: int = 0, *, subject: str = ""
) -> int:
    """Attach a program to the raw tracepoint `name`; return the link's descriptor.

    `name` is None for programs that know their target by BTF (`tp_btf`, fentry, LSM).
    Raises: BpfError (ENOENT: no such tracepoint; EINVAL); PermissionDenied (EPERM).
    Since: Linux 4.17; `cookie` since 6.9. Source: kernel/bpf/syscall.c:bpf_raw_tracepoint_open
    """
    text = None if name is None else cstring(name)
    values: dict[str, int | bytes] = {"name": pointer_to(text), "prog_fd": prog_fd, "cookie": cookie}
    quoted = "" if name is None else f"'{name.decode('ascii', 'backslashreplace')}'"
    return command(backend, attr.RAW_TRACEPOINT_OPEN, values, subject=subject or quoted, blocking=True)[0]


def iter_create(backend: Backend, link_fd: int, flags: int = 0, *, subject: str = "") -> int:
    """Return a descriptor from which the output of an iterator link is read.

    Raises: Closed (EBADF); BpfError (EINVAL) for another kind of link. Since: Linux 5.8.
    Source: kernel/bpf/bpf_iter.c:bpf_iter_new_fd
    """
    return command(backend, attr.ITER_CREATE, {"link_fd": link_fd, "flags": flags}, subject=subject)[0]
