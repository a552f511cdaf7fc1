"""The bpf commands that work on any kind of object: pins, ids, infos.

Each kind has a function of its own for ids, since the kernel has a command each. Must not know what
an info struct says: `uapi.info` has those layouts.

Source: kernel/bpf/syscall.c, kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError
from rawbpf.syscall.command import command, pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.pointer import cstring, pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.constants import BPF_F_PATH_FD, BPF_F_TOKEN_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.syscall.pointer import CData
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import Layout

_ENOENT, _EAGAIN = 2, 11


def obj_pin(
    backend: Backend, fd: int, path: bytes, file_flags: int = 0, dir_fd: int | None = None, *, subject: str = ""
) -> None:
    """Pin the object of `fd` at `path` in a bpf file system; a relative path starts at `dir_fd`.

    Raises: KeyExists (EEXIST); NotFound (ENOENT); BpfError (EINVAL if `fd` cannot be pinned);
    PermissionDenied (EPERM where there is no bpf file system, or for a dot in the name).
    Since: Linux 4.4; `dir_fd` since 6.5. Source: kernel/bpf/inode.c:bpf_obj_pin_user
    """
    text = cstring(path)
    values = _path(text, file_flags, dir_fd) | {"bpf_fd": fd}
    command(backend, attr.OBJ_PIN, values, subject=subject or _quoted(path))


def obj_get(backend: Backend, path: bytes, file_flags: int = 0, dir_fd: int | None = None, *, subject: str = "") -> int:
    """Return a new descriptor of the object pinned at `path`; `file_flags` may be BPF_F_RDONLY or BPF_F_WRONLY.

    Raises: NotFound (ENOENT); PermissionDenied (EACCES: the file's mode, or no pin at all).
    Since: Linux 4.4; `dir_fd` since 6.5. Source: kernel/bpf/inode.c:bpf_obj_get_user
    """
    text = cstring(path)
    return command(backend, attr.OBJ_GET, _path(text, file_flags, dir_fd), subject=subject or _quoted(path))[0]


def _path(text: bytes, file_flags: int, dir_fd: int | None) -> dict[str, int | bytes]:
    if dir_fd is not None:
        file_flags |= BPF_F_PATH_FD
    return {"pathname": pointer_to(text), "file_flags": file_flags, "path_fd": dir_fd or 0}


def _quoted(path: bytes) -> str:
    return f"'{path.decode('utf-8', 'backslashreplace')}'"


def obj_get_info_by_fd(backend: Backend, fd: int, size: int, *, subject: str = "") -> bytes:
    """Return the info struct of the object behind `fd`, at most `size` bytes: as many as the kernel has.

    Raises: Closed (EBADF); BpfError (EINVAL) for a descriptor that is no bpf object.
    Since: Linux 4.13. Source: kernel/bpf/syscall.c:bpf_obj_get_info_by_fd
    """
    info = ctypes.create_string_buffer(size)
    length = obj_fill_info_by_fd(backend, fd, info, subject=subject)
    return info.raw[:length]


def obj_fill_info_by_fd(backend: Backend, fd: int, info: CData, *, subject: str = "") -> int:
    """Fill `info` in, whose pointers and counts say where arrays (ids, instructions, names) shall go.

    Returns: how many bytes of it the kernel wrote. Raises: as `obj_get_info_by_fd`; BpfError (EFAULT, E2BIG).
    """
    values: dict[str, int | bytes] = {"bpf_fd": fd, "info_len": ctypes.sizeof(info), "info": pointer_to(info)}
    _, filled = command(backend, attr.OBJ_GET_INFO_BY_FD, values, subject=subject)
    return min(attr.OBJ_GET_INFO_BY_FD.integer(filled, "info_len"), ctypes.sizeof(info))


def map_get_next_id(backend: Backend, start_id: int = 0) -> int | None:
    """Return the smallest id of a map above `start_id`; None after the last.

    Raises: PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 4.13.
    """
    return _next_id(backend, attr.MAP_GET_NEXT_ID, start_id)


def prog_get_next_id(backend: Backend, start_id: int = 0) -> int | None:
    """Return the smallest id of a program above `start_id`; None after the last.

    Raises: PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 4.13.
    """
    return _next_id(backend, attr.PROG_GET_NEXT_ID, start_id)


def btf_get_next_id(backend: Backend, start_id: int = 0) -> int | None:
    """Return the smallest id of a BTF object above `start_id`; None after the last.

    Raises: PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 5.4.
    """
    return _next_id(backend, attr.BTF_GET_NEXT_ID, start_id)


def link_get_next_id(backend: Backend, start_id: int = 0) -> int | None:
    """Return the smallest id of a link above `start_id`; None after the last.

    Raises: PermissionDenied (EPERM) without CAP_SYS_ADMIN. Since: Linux 5.8.
    """
    return _next_id(backend, attr.LINK_GET_NEXT_ID, start_id)


def _next_id(backend: Backend, layout: Layout, start_id: int) -> int | None:
    values: dict[str, int | bytes] = {"start_id": start_id}
    attr_buffer = pack(layout, values)
    if (result := invoke(backend, layout.cmd, attr_buffer, layout.size)) < 0:
        if result == -_ENOENT:
            return None
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=f"above {start_id}", values=values)
    return layout.integer(attr_buffer, "next_id")


def map_get_fd_by_id(backend: Backend, map_id: int, open_flags: int = 0) -> int:
    """Return a new descriptor of the map with this id; `open_flags` may be BPF_F_RDONLY or BPF_F_WRONLY.

    Raises: NotFound (ENOENT: no such map, or it is being freed); PermissionDenied (EPERM).
    Since: Linux 4.13. Source: kernel/bpf/syscall.c:bpf_map_get_fd_by_id
    """
    values: dict[str, int | bytes] = {"map_id": map_id, "open_flags": open_flags}
    return command(backend, attr.MAP_GET_FD_BY_ID, values, subject=f"map {map_id}")[0]


def prog_get_fd_by_id(backend: Backend, prog_id: int) -> int:
    """Return a new descriptor of the program with this id.

    Raises: NotFound (ENOENT); PermissionDenied (EPERM). Since: Linux 4.13.
    """
    return command(backend, attr.PROG_GET_FD_BY_ID, {"prog_id": prog_id}, subject=f"program {prog_id}")[0]


def btf_get_fd_by_id(backend: Backend, btf_id: int, *, token_fd: int = 0) -> int:
    """Return a new descriptor of the BTF object with this id.

    Raises: NotFound (ENOENT); PermissionDenied (EPERM). Since: Linux 4.18; `token_fd` since 6.9.
    """
    values: dict[str, int | bytes] = {"btf_id": btf_id}
    if token_fd:
        values |= {"open_flags": BPF_F_TOKEN_FD, "fd_by_id_token_fd": token_fd}
    return command(backend, attr.BTF_GET_FD_BY_ID, values, subject=f"BTF {btf_id}")[0]


def link_get_fd_by_id(backend: Backend, link_id: int) -> int:
    """Return a new descriptor of the link with this id.

    Raises: NotFound (ENOENT); BpfError (EAGAIN for a link that is being created); PermissionDenied (EPERM).
    Since: Linux 5.8.
    """
    return command(backend, attr.LINK_GET_FD_BY_ID, {"link_id": link_id}, subject=f"link {link_id}")[0]


def every(
    backend: Backend, next_id: Callable[[Backend, int], int | None], fd_by_id: Callable[[Backend, int], int]
) -> Iterator[int]:
    """Yield a descriptor of each object that the two commands list and open; closed before the next.

    Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
    """
    found = next_id(backend, 0)
    while found is not None:
        try:
            fd = fd_by_id(backend, found)
        except BpfError as error:
            if error.errno not in (_ENOENT, _EAGAIN):  # it went away since, or is not attached yet
                raise
        else:
            try:
                yield fd
            finally:
                backend.close(fd)
        found = next_id(backend, found)
