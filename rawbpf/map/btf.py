"""BTF objects that the kernel holds: which there are, and what is in them.

Maps and programs refer to them by id. Source: kernel/bpf/btf.c:btf_get_info_by_fd (v6.12)
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError
from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.uapi.info import BTF_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.btf import Btf
    from rawbpf.syscall.protocol import Backend

_E2BIG = 7
_NAME_SIZE = 64  # MODULE_NAME_LEN is the longest
KERNEL = "vmlinux"
"""What the kernel calls its own types."""


class BtfInfo:
    """A BTF object as it was when asked; holds no descriptor.

    `name` is `vmlinux` or a module's for the kernel's own (`kernel`), and empty for those that were
    loaded; `size` is bytes. Before Linux 5.11 all are without a name, and none says that it is the kernel's.
    """

    __slots__ = ("id", "kernel", "name", "size")

    def __init__(self, btf_id: int, name: str, size: int, kernel: bool) -> None:
        self.id = btf_id
        self.name = name
        self.size = size
        self.kernel = kernel

    def types(self) -> Btf:
        """Return the types, read from the kernel; a module's continue those of the kernel, its `base`.

        Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN); BpfError (ENOENT: it is gone); FormatError.
        """
        backend = current()
        fd = obj.btf_get_fd_by_id(backend, self.id)
        try:
            return _read_types(backend, fd)
        finally:
            backend.close(fd)

    def __repr__(self) -> str:
        return f"<BtfInfo {self.id}: {self.name or 'loaded'}, {self.size} bytes>"


def btfs(name: str | None = None) -> list[BtfInfo]:
    """Return what the kernel tells of every BTF object, or of those with that name.

    Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN). Since: Linux 5.4.
    """
    backend = current()
    found = [read_info(backend, fd) for fd in obj.every(backend, obj.btf_get_next_id, obj.btf_get_fd_by_id)]
    return [info for info in found if name in (None, info.name)]


def read_info(backend: Backend, fd: int) -> BtfInfo:
    """Return what the kernel tells of the BTF object behind `fd`."""
    name = ctypes.create_string_buffer(_NAME_SIZE)
    request = BTF_INFO.pack(name=ctypes.addressof(name), name_len=_NAME_SIZE)
    try:
        obj.obj_fill_info_by_fd(backend, fd, request)
    except BpfError as error:
        if error.errno != _E2BIG:
            raise
        request = BTF_INFO.pack()  # before Linux 5.11 they have no names
        obj.obj_fill_info_by_fd(backend, fd, request)
    field = BTF_INFO.unpack(request.raw)
    return BtfInfo(
        field["id"], name.value.decode("ascii", "backslashreplace"), field["btf_size"], bool(field["kernel_btf"])
    )


def read_btf(backend: Backend, btf_id: int, token_fd: int = 0) -> Btf | None:
    """Return the types of the BTF object `btf_id`; None where opening by id is not allowed. Raises: FormatError."""
    try:
        fd = obj.btf_get_fd_by_id(backend, btf_id, token_fd=token_fd)
    except BpfError:
        return None  # by id needs CAP_SYS_ADMIN: without it a map is untyped, not unusable
    try:
        return _read_types(backend, fd)
    finally:
        backend.close(fd)


def _read_types(backend: Backend, fd: int) -> Btf:
    from rawbpf.btf import Btf, indexed

    info = read_info(backend, fd)
    if info.kernel and info.name == KERNEL:
        return indexed(backend.host.btf())
    content = read_content(backend, fd, info.size)
    return Btf.from_bytes(content, base=indexed(backend.host.btf()) if info.kernel else None)


def read_content(backend: Backend, fd: int, size: int) -> bytes:
    """Return the `size` bytes of the BTF object behind `fd`."""
    content = ctypes.create_string_buffer(size)
    request = BTF_INFO.pack(btf=ctypes.addressof(content), btf_size=size)
    obj.obj_fill_info_by_fd(backend, fd, request)
    return content.raw[:size]
