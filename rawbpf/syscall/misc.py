"""The bpf commands that are about no map, program, link or BTF: statistics, tasks' descriptors, tokens.

Source: kernel/bpf/syscall.c, kernel/bpf/token.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.syscall.command import command, pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.pointer import pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.constants import BPF_STATS_RUN_TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_ENOSPC = 28


def enable_stats(backend: Backend, type: int = BPF_STATS_RUN_TIME) -> int:
    """Let the kernel measure programs' run time for as long as the returned descriptor is open.

    Raises: PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 5.8.
    Source: kernel/bpf/syscall.c:bpf_enable_stats
    """
    return command(backend, attr.ENABLE_STATS, {"type": type})[0]


class TaskFd:
    """What a perf event or raw tracepoint descriptor of a process stands for.

    `fd_type` is a BPF_FD_TYPE_ number; `name` the tracepoint, function or file (b"" for an address),
    `offset` the offset in it, `address` the probe's address.
    """

    __slots__ = ("address", "fd_type", "name", "offset", "prog_id")

    def __init__(self, prog_id: int, fd_type: int, name: bytes, offset: int, address: int) -> None:
        self.prog_id = prog_id
        self.fd_type = fd_type
        self.name = name
        self.offset = offset
        self.address = address

    def __repr__(self) -> str:
        return f"TaskFd(prog_id={self.prog_id}, fd_type={self.fd_type}, name={self.name!r})"


def task_fd_query(backend: Backend, pid: int, fd: int, *, subject: str = "") -> TaskFd:
    """Return what descriptor `fd` of process `pid` stands for, if it is a probe with a program.

    Raises: BpfError (ENOENT: no such process; EBADF as Closed; NotSupported for other descriptors);
    PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 4.18.
    Source: kernel/bpf/syscall.c:bpf_task_fd_query
    """
    layout = attr.TASK_FD_QUERY
    size = 256
    while True:
        name = ctypes.create_string_buffer(size)
        values: dict[str, int | bytes] = {"pid": pid, "fd": fd, "buf_len": size, "buf": pointer_to(name)}
        attr_buffer = pack(layout, values)
        if (result := invoke(backend, layout.cmd, attr_buffer, layout.size)) >= 0:
            break
        needed = layout.integer(attr_buffer, "buf_len") + 1
        if result != -_ENOSPC or needed <= size:
            subject = subject or f"descriptor {fd} of process {pid}"
            raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, values=values)
        size = needed
    return TaskFd(
        layout.integer(attr_buffer, "prog_id"),
        layout.integer(attr_buffer, "fd_type"),
        name.value,
        layout.integer(attr_buffer, "probe_offset"),
        layout.integer(attr_buffer, "probe_addr"),
    )


def token_create(backend: Backend, bpffs_fd: int, flags: int = 0, *, subject: str = "") -> int:
    """Return a token that hands on what a bpf file system, mounted in a user namespace, was told to delegate.

    Raises: PermissionDenied (EPERM); NotSupported (EOPNOTSUPP) outside a user namespace; BpfError (EINVAL).
    Since: Linux 6.9. Source: kernel/bpf/token.c:bpf_token_create
    """
    return command(backend, attr.TOKEN_CREATE, {"bpffs_fd": bpffs_fd, "flags": flags}, subject=subject)[0]
