"""OBJ_PIN and OBJ_GET. Source: kernel/bpf/syscall.c:bpf_obj_pin, bpf_obj_get; kernel/bpf/inode.c (v6.12)."""

from __future__ import annotations

import os
from errno import EINVAL

from rawbpf.sim.command.map import access
from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import SimMap
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import OBJ_GET, OBJ_PIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

_PATH_MAX = 4096


def pin(kernel: Kernel, attr: Attr) -> int:
    """OBJ_PIN: give an object a name in the bpf file system."""
    attr.check(kernel.release.end(OBJ_PIN))
    address, fd, flags, at = attr.take("=QIIi")
    if flags & ~kernel.release.pin_flags or (at and not flags & c.BPF_F_PATH_FD):
        raise Refused(EINVAL)
    try:
        file = kernel.files.find(fd)
    except Refused:
        file = None
    if file is None:
        raise Refused(EINVAL)
    path = kernel.memory.string(address, _PATH_MAX)
    kernel.pins.pin(path, at if flags & c.BPF_F_PATH_FD else None, file.content)
    return 0


def get(kernel: Kernel, attr: Attr) -> int:
    """OBJ_GET: return a descriptor of what is pinned."""
    attr.check(kernel.release.end(OBJ_GET))
    address, fd, flags, at = attr.take("=QIIi")
    allowed = c.BPF_F_RDONLY | c.BPF_F_WRONLY | kernel.release.pin_flags
    if fd or flags & ~allowed or (at and not flags & c.BPF_F_PATH_FD):
        raise Refused(EINVAL)
    may_read, may_write = access(flags)
    mode = os.O_RDWR if may_read and may_write else os.O_RDONLY if may_read else os.O_WRONLY
    content = kernel.pins.get(kernel.memory.string(address, _PATH_MAX), at if flags & c.BPF_F_PATH_FD else None, mode)
    if not isinstance(content, SimMap):
        may_read = may_write = True
    return kernel.files.open(content, may_read=may_read, may_write=may_write)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {c.BPF_OBJ_PIN: pin, c.BPF_OBJ_GET: get}
