"""mmap(2) of a map's descriptor: what is asked before the type, and what about the map changes.

The order of the questions is the kernel's: which of two mistakes a call is blamed for is part of its behaviour.
Source: kernel/bpf/syscall.c:bpf_map_mmap, mm/mmap.c:do_mmap (v6.12).
"""

from __future__ import annotations

from errno import EACCES, EINVAL, EPERM

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char
    from mmap import mmap

    from rawbpf.sim.file import File
    from rawbpf.sim.map.base import SimMap
    from rawbpf.sim.map.memory import SharedMemory


def map_pages(file: File, target: SimMap, length: int, offset: int, writable: bool) -> mmap:
    """Map `length` bytes of the map, which `file` leads to, from `offset`. Raises: Refused; OSError (ENOMEM)."""
    _check_length(target, length, offset)
    target.place(length, offset, 0)
    made = _memory(file, target, length, offset, writable).map(length, offset, writable)
    target.placed(length, made)
    return made


def map_pages_at(file: File, target: SimMap, length: int, address: int) -> Array[c_char]:
    """Map `length` bytes of the map from its beginning, for writing, at `address` if not 0.

    Raises: Refused; OSError (EEXIST: something lies there; ENOMEM).
    """
    _check_length(target, length, 0)
    address = target.place(length, 0, address)
    made = _memory(file, target, length, 0, True).map_at(length, address, target.protection)
    target.placed(length, made)
    return made


def _check_length(target: SimMap, length: int, offset: int) -> None:
    if length <= 0 or offset % target.kernel.host.page_size:
        raise Refused(EINVAL)


def _memory(file: File, target: SimMap, length: int, offset: int, writable: bool) -> SharedMemory:
    if not file.may_read or (writable and not file.may_write):
        raise Refused(EACCES)
    if not target.can_be_mapped or target.fields is not None:
        raise Refused(ENOTSUPP)
    # A descriptor that may not write loses VM_SHARED.
    if not file.may_write:
        raise Refused(EINVAL)
    if writable and target.frozen:
        raise Refused(EPERM)
    if writable and target.flags & c.BPF_F_RDONLY_PROG:
        raise Refused(EACCES)
    return target.map_memory(length, offset, writable)
