"""Arrays of cgroups, which are real ones: directories of a cgroup2 file system.

Source: kernel/bpf/arraymap.c:cgroup_fd_array_get_ptr, kernel/cgroup/cgroup.c:cgroup_get_from_fd (v6.12).
"""

from __future__ import annotations

import ctypes
import os
import stat
from errno import EBADF

from rawbpf.sim.error import Refused
from rawbpf.sim.map.fd_array import SimFdArray

_CGROUP2_SUPER_MAGIC = 0x63677270
# More than any `struct statfs` has; its first word is the file system's type, an int on s390x.
# Source: arch/s390/include/uapi/asm/statfs.h, include/uapi/asm-generic/statfs.h (v6.12)
_STATFS = (ctypes.c_uint if os.uname().machine == "s390x" else ctypes.c_long) * 128


def cgroup_of(fd: int) -> tuple[int, int]:
    """Return what tells a cgroup from others. Raises: Refused (EBADF: closed, or no directory of a cgroup2)."""
    try:
        status = os.fstat(fd)
    except (OSError, OverflowError):
        raise Refused(EBADF) from None
    if not stat.S_ISDIR(status.st_mode) or file_system(fd) != _CGROUP2_SUPER_MAGIC:
        raise Refused(EBADF)
    return status.st_dev, status.st_ino


def file_system(fd: int) -> int:
    """Return the number of the file system's type, of an open descriptor."""
    found = _STATFS()
    ctypes.PyDLL(None).fstatfs(fd, ctypes.byref(found))
    return found[0]


class SimCgroupArray(SimFdArray[tuple[int, int]]):
    """BPF_MAP_TYPE_CGROUP_ARRAY."""

    def get(self, fd: int) -> tuple[int, int]:
        """Return a cgroup. Raises: Refused (EBADF)."""
        return cgroup_of(fd)
