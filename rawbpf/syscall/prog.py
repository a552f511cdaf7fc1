"""The bpf commands on programs, one function each.

Must not know ELF, relocations or how a verifier's log reads; `attr` fields that depend on each other
(counts and pointers) are put together here.

Source: kernel/bpf/syscall.c (v6.12).
"""

from __future__ import annotations

import ctypes
from ctypes import sizeof

from rawbpf.syscall.command import command, pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.obj import obj_fill_info_by_fd, obj_get_info_by_fd
from rawbpf.syscall.pointer import cstring, pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.constants import BPF_F_TOKEN_FD
from rawbpf.uapi.info import PROG_INFO
from rawbpf.uapi.names import attach_type_name, prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.syscall.pointer import CData
    from rawbpf.syscall.protocol import Backend

_INSN_SIZE = 8
_ENOSPC = 28


class LoadReport:
    """What a load told: `log_true_size`, the log buffer it needs in full (0: Linux before 6.4), and its result as `fd`.

    Whoever is interrupted before `prog_load` has returned finds the descriptor here; below 0 there is none.
    """

    __slots__ = ("fd", "log_true_size")

    def __init__(self) -> None:
        self.fd = -1
        self.log_true_size = 0


def prog_load(
    backend: Backend,
    *,
    prog_type: int,
    insns: bytes,
    license: bytes = b"GPL",
    name: bytes = b"",
    expected_attach_type: int = 0,
    prog_flags: int = 0,
    kern_version: int = 0,
    ifindex: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    func_info_rec_size: int = 0,
    line_info: bytes = b"",
    line_info_rec_size: int = 0,
    core_relos: bytes = b"",
    core_relo_rec_size: int = 0,
    attach_btf_id: int = 0,
    attach_prog_fd: int = 0,
    attach_btf_obj_fd: int = 0,
    fd_array: Sequence[int] = (),
    fd_array_cnt: int = 0,
    log_level: int = 0,
    log_buffer: CData | None = None,
    token_fd: int = 0,
    report: LoadReport | None = None,
    subject: str = "",
) -> int:
    """Load a program and return its descriptor.

    `insns` are 8 bytes each, in the kernel's byte order; `func_info`, `line_info` and `core_relos` are
    records of their `_rec_size`. With `log_level` above 0 the verifier's log goes to `log_buffer`, NUL
    terminated; `report` receives how much it had to say. `fd_array` holds maps and BTF that the program
    refers to by index; only with `fd_array_cnt` is it also checked and bound.
    Raises: PermissionDenied (EPERM); NotSupported (ENOTSUPP); BpfError (EACCES and EINVAL: the verifier;
    ENOSPC: the log did not fit; E2BIG, ENOMEM).
    Since: Linux 3.18. Source: kernel/bpf/syscall.c:bpf_prog_load
    """
    layout = attr.PROG_LOAD
    license_text = cstring(license)
    fds = (ctypes.c_int * len(fd_array))(*fd_array) if fd_array else None
    values: dict[str, int | bytes] = {
        "prog_type": prog_type,
        "insn_cnt": len(insns) // _INSN_SIZE,
        "insns": pointer_to(insns),
        "license": pointer_to(license_text),
        "log_level": log_level,
        "log_size": 0 if log_buffer is None else sizeof(log_buffer),
        "log_buf": pointer_to(log_buffer),
        "kern_version": kern_version,
        "prog_flags": prog_flags | (BPF_F_TOKEN_FD if token_fd else 0),
        "prog_name": name,
        "prog_ifindex": ifindex,
        "expected_attach_type": expected_attach_type,
        "prog_btf_fd": btf_fd,
        "func_info_rec_size": func_info_rec_size,
        "func_info": pointer_to(func_info),
        "func_info_cnt": _count("func_info", func_info, func_info_rec_size),
        "line_info_rec_size": line_info_rec_size,
        "line_info": pointer_to(line_info),
        "line_info_cnt": _count("line_info", line_info, line_info_rec_size),
        "attach_btf_id": attach_btf_id,
        "attach_btf_obj_fd": attach_btf_obj_fd,
        "core_relo_cnt": _count("core_relos", core_relos, core_relo_rec_size),
        "fd_array": pointer_to(fds),
        "core_relos": pointer_to(core_relos),
        "core_relo_rec_size": core_relo_rec_size,
        "prog_token_fd": token_fd,
        "fd_array_cnt": fd_array_cnt,
    }
    if attach_prog_fd:
        values["attach_prog_fd"] = attach_prog_fd
    attr_buffer = pack(layout, values)
    result = invoke(backend, layout.cmd, attr_buffer, layout.size, blocking=True)
    if report is not None:
        report.fd = result
        report.log_true_size = layout.integer(attr_buffer, "log_true_size")
    if result < 0:
        subject = subject or _description(name, prog_type, len(insns) // _INSN_SIZE)
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, values=values)
    return result


def _count(what: str, records: bytes, size: int) -> int:
    if not records:
        return 0
    if size <= 0 or len(records) % size:
        raise ValueError(f"{what} has {len(records)} bytes, which are no whole records of {size} bytes")
    return len(records) // size


def _description(name: bytes, prog_type: int, insns: int) -> str:
    quoted = f"'{name.decode('ascii', 'backslashreplace')}' " if name else ""
    return f"{quoted}({prog_type_name(prog_type)}, {insns} instructions)"


class TestRun:
    """The result of a test run: what the program returned, its mean duration, the bytes that it has for the buffers.

    `data_size` and `ctx_size` may be more than the buffers hold: then `complete` is False.
    """

    __slots__ = ("complete", "ctx_size", "data_size", "duration_ns", "retval")
    __test__ = False  # its name makes pytest look inside

    def __init__(self, retval: int, duration_ns: int, data_size: int, ctx_size: int, complete: bool) -> None:
        self.retval = retval
        self.duration_ns = duration_ns
        self.data_size = data_size
        self.ctx_size = ctx_size
        self.complete = complete

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={getattr(self, name)}" for name in ("retval", "duration_ns", "data_size", "ctx_size")
        )
        return f"TestRun({fields})"


def prog_test_run(
    backend: Backend,
    fd: int,
    *,
    data_in: bytes = b"",
    data_out: CData | None = None,
    ctx_in: CData | None = None,
    ctx_out: CData | None = None,
    repeat: int = 0,
    flags: int = 0,
    cpu: int = 0,
    batch_size: int = 0,
    subject: str = "",
) -> TestRun:
    """Run a program on `data_in` and `ctx_in`, `repeat` times, and fill `data_out` and `ctx_out`.

    Programs of type syscall have their context written back into `ctx_in`.
    Returns: also where an output buffer was too small (`complete` is False).
    Raises: NotSupported (ENOTSUPP) for types that cannot be run; BpfError (EINVAL) for sizes the type refuses.
    Since: Linux 4.12; `ctx_in` since 5.2, `cpu` since 5.10. Source: kernel/bpf/syscall.c:bpf_prog_test_run
    """
    layout = attr.PROG_TEST_RUN
    values: dict[str, int | bytes] = {
        "prog_fd": fd,
        "data_size_in": len(data_in),
        "data_size_out": 0 if data_out is None else sizeof(data_out),
        "data_in": pointer_to(data_in),
        "data_out": pointer_to(data_out),
        "repeat": repeat,
        "ctx_size_in": 0 if ctx_in is None else sizeof(ctx_in),
        "ctx_size_out": 0 if ctx_out is None else sizeof(ctx_out),
        "ctx_in": pointer_to(ctx_in),
        "ctx_out": pointer_to(ctx_out),
        "flags": flags,
        "cpu": cpu,
        "batch_size": batch_size,
    }
    attr_buffer = pack(layout, values)
    result = invoke(backend, layout.cmd, attr_buffer, layout.size, blocking=True)
    if result < 0 and result != -_ENOSPC:
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, values=values)
    return TestRun(
        layout.integer(attr_buffer, "retval"),
        layout.integer(attr_buffer, "duration"),
        layout.integer(attr_buffer, "data_size_out"),
        layout.integer(attr_buffer, "ctx_size_out"),
        result >= 0,
    )


def prog_attach(
    backend: Backend,
    *,
    target_fd: int = 0,
    target_ifindex: int = 0,
    prog_fd: int,
    attach_type: int,
    attach_flags: int = 0,
    replace_prog_fd: int = 0,
    relative_fd: int = 0,
    relative_id: int = 0,
    expected_revision: int = 0,
    subject: str = "",
) -> None:
    """Attach a program to a cgroup, sockmap, network namespace or interface; nothing detaches it but `prog_detach`.

    Raises: PermissionDenied (EPERM); BpfError (EINVAL, EBADF, EEXIST; ESTALE for another revision).
    Since: Linux 4.10. Source: kernel/bpf/syscall.c:bpf_prog_attach
    """
    values: dict[str, int | bytes] = _attach_target(target_fd, target_ifindex, relative_fd, relative_id)
    values |= {
        "attach_bpf_fd": prog_fd,
        "attach_type": attach_type,
        "attach_flags": attach_flags,
        "replace_bpf_fd": replace_prog_fd,
        "expected_revision": expected_revision,
    }
    command(backend, attr.PROG_ATTACH, values, subject=subject or attach_type_name(attach_type), blocking=True)


def prog_detach(
    backend: Backend,
    *,
    target_fd: int = 0,
    target_ifindex: int = 0,
    prog_fd: int = 0,
    attach_type: int,
    attach_flags: int = 0,
    relative_fd: int = 0,
    relative_id: int = 0,
    expected_revision: int = 0,
    subject: str = "",
) -> None:
    """Detach a program that `prog_attach` attached.

    Raises: BpfError (ENOENT: not attached; EINVAL); PermissionDenied (EPERM).
    Since: Linux 4.10. Source: kernel/bpf/syscall.c:bpf_prog_detach
    """
    values: dict[str, int | bytes] = _attach_target(target_fd, target_ifindex, relative_fd, relative_id)
    values |= {
        "attach_bpf_fd": prog_fd,
        "attach_type": attach_type,
        "attach_flags": attach_flags,
        "expected_revision": expected_revision,
    }
    command(backend, attr.PROG_DETACH, values, subject=subject or attach_type_name(attach_type), blocking=True)


def _attach_target(target_fd: int, target_ifindex: int, relative_fd: int, relative_id: int) -> dict[str, int | bytes]:
    # Each pair is one word of the attr: the second of a pair is packed only where it is meant.
    return {
        **({"target_ifindex": target_ifindex} if target_ifindex else {"target_fd": target_fd}),
        **({"relative_id": relative_id} if relative_id else {"relative_fd": relative_fd}),
    }


class Attached:
    """What is attached at one place: the programs' ids in order, and per program its attach flags and link id.

    `prog_flags` and `link_ids` are empty where the kernel does not tell them; `count` may exceed the
    number of ids that were asked for.
    """

    __slots__ = ("attach_flags", "count", "link_ids", "prog_flags", "prog_ids", "revision")

    def __init__(
        self,
        prog_ids: tuple[int, ...],
        count: int,
        attach_flags: int,
        revision: int,
        prog_flags: tuple[int, ...],
        link_ids: tuple[int, ...],
    ) -> None:
        self.prog_ids = prog_ids
        self.count = count
        self.attach_flags = attach_flags
        self.revision = revision
        self.prog_flags = prog_flags
        self.link_ids = link_ids

    def __repr__(self) -> str:
        return f"Attached(prog_ids={self.prog_ids}, attach_flags={self.attach_flags}, revision={self.revision})"


def prog_query(
    backend: Backend,
    *,
    target_fd: int = 0,
    target_ifindex: int = 0,
    attach_type: int,
    query_flags: int = 0,
    max_progs: int = 64,
    details: bool = False,
    subject: str = "",
) -> Attached:
    """Return what is attached to a cgroup, sockmap, network namespace or interface.

    `details` asks for flags and link ids per program, which kernels before 6.6 refuse for some places.
    Raises: BpfError (ENOSPC if there are more than `max_progs`; EINVAL); PermissionDenied (EPERM) without
    CAP_NET_ADMIN. Since: Linux 4.15. Source: kernel/bpf/syscall.c:bpf_prog_query
    """
    layout = attr.PROG_QUERY
    array = ctypes.c_uint32 * max_progs
    prog_ids = array()
    prog_flags, link_ids = (array(), array()) if details else (None, None)
    values: dict[str, int | bytes] = {
        **({"target_ifindex": target_ifindex} if target_ifindex else {"target_fd": target_fd}),
        "attach_type": attach_type,
        "query_flags": query_flags,
        "prog_ids": pointer_to(prog_ids),
        "prog_cnt": max_progs,
        "prog_attach_flags": pointer_to(prog_flags),
        "link_ids": pointer_to(link_ids),
    }
    _, filled = command(backend, layout, values, subject=subject or attach_type_name(attach_type), blocking=True)
    count = layout.integer(filled, "prog_cnt")
    known = min(count, max_progs)
    return Attached(
        tuple(prog_ids[:known]),
        count,
        layout.integer(filled, "attach_flags"),
        layout.integer(filled, "revision"),
        tuple(prog_flags[:known]) if prog_flags is not None else (),
        tuple(link_ids[:known]) if link_ids is not None else (),
    )


def prog_bind_map(backend: Backend, prog_fd: int, map_fd: int, *, subject: str = "") -> None:
    """Make a program hold a map that its instructions do not mention.

    Raises: Closed (EBADF); BpfError (EINVAL). Since: Linux 5.10. Source: kernel/bpf/syscall.c:bpf_prog_bind_map
    """
    command(backend, attr.PROG_BIND_MAP, {"prog_fd": prog_fd, "map_fd": map_fd}, subject=subject)


def prog_stream_read(backend: Backend, prog_fd: int, stream_id: int, size: int, *, subject: str = "") -> bytes:
    """Read up to `size` bytes of what a program printed: BPF_STDOUT or BPF_STDERR; b"" where there is nothing.

    Raises: Closed (EBADF); BpfError (ENOENT for an unknown stream). Since: Linux 6.17.
    Source: kernel/bpf/syscall.c:prog_stream_read
    """
    text = ctypes.create_string_buffer(size)
    values: dict[str, int | bytes] = {
        "stream_buf": pointer_to(text),
        "stream_buf_len": size,
        "stream_id": stream_id,
        "prog_fd": prog_fd,
    }
    result, _ = command(backend, attr.PROG_STREAM_READ_BY_FD, values, subject=subject)
    return text.raw[:result]


def prog_info(backend: Backend, fd: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the `bpf_prog_info` of the program behind `fd`, and the ids of the maps that it uses.

    Raises: Closed (EBADF); BpfError (EINVAL: no program). Since: Linux 4.15.
    Source: kernel/bpf/syscall.c:bpf_prog_get_info_by_fd
    """
    info = obj_get_info_by_fd(backend, fd, PROG_INFO.size)
    count = PROG_INFO.integer(info, "nr_map_ids")
    if not count:
        return info, ()
    # The array's place has to be handed in, so that it takes a second call.
    ids = (ctypes.c_uint32 * count)()
    request = ctypes.create_string_buffer(PROG_INFO.size)
    PROG_INFO.set(request, "nr_map_ids", count)
    PROG_INFO.set(request, "map_ids", ctypes.addressof(ids))
    size = obj_fill_info_by_fd(backend, fd, request)
    known = min(count, PROG_INFO.integer(request.raw, "nr_map_ids"))
    return request.raw[:size], tuple(ids[:known])
