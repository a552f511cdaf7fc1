"""Local storage: a value for each owner, which is a real socket, file, process or cgroup of this machine.

The key is a descriptor of the owner. A value goes when the owner does; here it stays and cannot be reached.
A file is known by its inode number, which a file system may use again. Source: kernel/bpf/bpf_local_storage.c,
net/core/bpf_sk_storage.c, kernel/bpf/bpf_inode_storage.c, bpf_task_storage.c, bpf_cgrp_storage.c (v6.12).
"""

from __future__ import annotations

import os
import stat
from errno import E2BIG, EBADF, EEXIST, EINVAL, ENOENT, ENOTSOCK, EOPNOTSUPP
from struct import unpack, unpack_from

from rawbpf.sim.error import Refused
from rawbpf.sim.file import usable
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.map.cgroup_array import file_system
from rawbpf.sim.map.shape import power_of_two
from rawbpf.sim.types.check import check_index_type
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

    Owner = tuple[int, int]

STORAGE_LIMIT = 65407
"""Bytes of a value. Source: include/linux/bpf_local_storage.h:BPF_LOCAL_STORAGE_MAX_VALUE_SIZE (v6.12)."""
_REQUIRED = c.BPF_F_NO_PREALLOC
_CGROUP_SUPER_MAGIC = 0x27E0EB
_CGROUP2_SUPER_MAGIC = 0x63677270
_BUCKET = 16


class SimLocalStorage(SimMap):
    """What the four types have in common."""

    takes_no_key_type = True
    head_bytes = 448

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._values: dict[Owner, bytes] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: bpf_local_storage_map_alloc_check."""
        if shape.map_flags & ~(_REQUIRED | c.BPF_F_CLONE) or not shape.has(_REQUIRED):
            raise Refused(EINVAL)
        if shape.max_entries or shape.key_size != 4 or not shape.value_size:
            raise Refused(EINVAL)
        if not shape.key_type_id or not shape.value_type_id:
            raise Refused(EINVAL)
        if shape.value_size > STORAGE_LIMIT:
            raise Refused(E2BIG)

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check that the key is an int. Source: bpf_local_storage_map_check_btf."""
        check_index_type(key)

    @property
    def memory_usage(self) -> int:
        """Bytes of the map without its values, which are their owners'. Source: bpf_local_storage_map_mem_usage."""
        return self.head_bytes + _BUCKET * max(power_of_two(self.kernel.host.possible_cpus), 2)

    def owner(self, fd: int) -> Owner:
        """Return what tells the owner from others. Raises: Refused."""
        raise NotImplementedError

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return an owner's value. Raises: Refused (ENOENT: it has none; as `owner`)."""
        found = self._values.get(self._owner(key))
        if found is None:
            raise Refused(ENOENT)
        return self.cleaned(found)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store an owner's value. Raises: Refused (EINVAL: flags; EEXIST; ENOENT; as `owner`).

        Source: bpf_local_storage_update.
        """
        owner = self._owner(key)
        self.check_update_flags(flags)
        old = self._values.get(owner)
        if old is not None and flags & ~c.BPF_F_LOCK == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if old is None and flags & ~c.BPF_F_LOCK == c.BPF_EXIST:
            raise Refused(ENOENT)
        kept = old is not None and flags & c.BPF_F_LOCK
        self._values[owner] = self.merged(old, value) if old is not None and kept else self.cleaned(value)

    def delete(self, key: bytes) -> None:
        """Remove an owner's value. Raises: Refused (ENOENT; as `owner`)."""
        if self._values.pop(self._owner(key), None) is None:
            raise Refused(ENOENT)

    def _owner(self, key: bytes) -> Owner:
        return self.owner(unpack("=i", key)[0])


class SimSkStorage(SimLocalStorage):
    """BPF_MAP_TYPE_SK_STORAGE."""

    def owner(self, fd: int) -> Owner:
        """Return a socket. Raises: Refused (EBADF; ENOTSOCK). Source: sockfd_lookup."""
        status = usable(fd)
        if not stat.S_ISSOCK(status.st_mode):
            raise Refused(ENOTSOCK)
        return status.st_dev, status.st_ino


class SimInodeStorage(SimLocalStorage):
    """BPF_MAP_TYPE_INODE_STORAGE."""

    def owner(self, fd: int) -> Owner:
        """Return a file of any kind; the simulated kernel's own are one, as they are in the kernel.

        Raises: Refused (EBADF). Source: bpf_fd_inode_storage_lookup_elem.
        """
        status = _status(fd)
        identity = status.st_dev, status.st_ino
        return (0, 0) if identity in self.kernel.files else identity


class SimTaskStorage(SimLocalStorage):
    """BPF_MAP_TYPE_TASK_STORAGE."""

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a task's value, whose pointers to the caller's memory must be good.

        Raises: Refused (EFAULT; EOPNOTSUPP: across pages, or with a lock). Source: bpf_obj_pin_uptrs.
        """
        pointers = self.fields.user_pointers if self.fields is not None else ()
        for offset, size in pointers:
            (address,) = unpack_from("=Q", value, offset)
            if address:
                if address % self.kernel.host.page_size + size > self.kernel.host.page_size:
                    raise Refused(EOPNOTSUPP)
                # It must be writable, too.
                self.kernel.memory.write(address, self.kernel.memory.read(address, size))
        if pointers and flags & c.BPF_F_LOCK:
            raise Refused(EOPNOTSUPP)
        super().update(key, value, flags)

    def owner(self, fd: int) -> Owner:
        """Return a task by its number and when it started. Raises: Refused (EBADF: no pidfd; ENOENT: it is gone).

        Source: bpf_pid_task_storage_lookup_elem.
        """
        _status(fd)
        try:
            with open(f"/proc/self/fdinfo/{fd}", "rb") as text:
                found = [line[4:] for line in text if line.startswith(b"Pid:")]
        except OSError:
            found = []
        if not found:
            raise Refused(EBADF)
        number = int(found[0])
        try:
            with open(f"/proc/{number}/stat", "rb") as text:
                # The second field is a name in parentheses, which may hold anything; the 22nd is the start.
                return number, int(text.read().rpartition(b")")[2].split()[19])
        except OSError:
            raise Refused(ENOENT) from None


class SimCgrpStorage(SimLocalStorage):
    """BPF_MAP_TYPE_CGRP_STORAGE."""

    def owner(self, fd: int) -> Owner:
        """Return a cgroup. Raises: Refused (EBADF: no cgroup's directory; ENOENT: it was removed).

        Source: kernel/cgroup/cgroup.c:css_tryget_online_from_dir.
        """
        status = _status(fd)
        if not stat.S_ISDIR(status.st_mode) or file_system(fd) not in (_CGROUP_SUPER_MAGIC, _CGROUP2_SUPER_MAGIC):
            raise Refused(EBADF)
        if os.readlink(f"/proc/self/fd/{fd}").endswith(" (deleted)"):
            raise Refused(ENOENT)
        return status.st_dev, status.st_ino


def _status(fd: int) -> os.stat_result:
    try:
        return os.fstat(fd)
    except (OSError, OverflowError):
        raise Refused(EBADF) from None
