"""Device maps: real network devices by index, each with a program if values have room for one.

Source: kernel/bpf/devmap.c (v6.12).
"""

from __future__ import annotations

import os
import socket
from errno import E2BIG, EEXIST, EINVAL, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import POINTER, U32
from rawbpf.sim.map.buckets import Buckets
from rawbpf.sim.map.redirect import RedirectArray, RedirectWithPrograms, number_and_fd
from rawbpf.sim.map.shape import power_of_two
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.program import SimProgram

_ELEMENT = 64
_NAMESPACE = "/proc/thread-self/ns/net"


class _Device:
    # An interface and the program that is stored beside it, which its value reads back as an id.

    __slots__ = ("_namespace", "ifindex", "program")

    def __init__(self, ifindex: int, program: SimProgram | None) -> None:
        self.ifindex = ifindex
        self.program = program
        self._namespace = _namespace()

    @property
    def is_gone(self) -> bool:
        # Only where the caller is where the device is, or was: others cannot tell.
        return self._namespace == _namespace() and not _exists(self.ifindex)


def _namespace() -> int:
    return os.stat(_NAMESPACE).st_ino


def _exists(ifindex: int) -> bool:
    try:
        socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        return False
    return True


class _SimDevices(RedirectWithPrograms[_Device]):
    # What both types share.

    head_bytes = 344
    long_since = (5, 8)
    attach_type = c.BPF_XDP_DEVMAP
    bad_program = EINVAL

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        # Programs shall not write to what a lookup gives them.
        self.flags |= c.BPF_F_RDONLY_PROG

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return ifindex and program id. Raises: Refused (ENOENT)."""
        device = self._find(key)
        if device is None:
            raise Refused(ENOENT)
        return self.packed(device.ifindex, device.program)

    def remove(self, key: bytes) -> None:
        """Remove a device that is there."""
        del self.targets[key]

    def _find(self, key: bytes) -> _Device | None:
        # A device that is gone has left the map, which shows when it is asked for. Source: dev_map_notification.
        device = self.targets.get(key)
        if device is not None and device.is_gone:
            self.remove(key)
            return None
        return device

    def _made(self, value: bytes) -> _Device:
        # Source: __dev_map_alloc_node.
        ifindex, fd = number_and_fd(value)
        if not _exists(ifindex):
            raise Refused(EINVAL)
        return _Device(ifindex, self.program(fd))


class SimDevMap(_SimDevices, RedirectArray[_Device]):
    """BPF_MAP_TYPE_DEVMAP."""

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags."""
        super().check(kernel, shape)
        self.check_memory(kernel, shape.max_entries * POINTER)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a device; ifindex 0 empties the slot. Source: __dev_map_update_elem."""
        self.check_slot(key, flags)
        if flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        ifindex, fd = number_and_fd(value)
        if ifindex:
            self.targets[key] = self._made(value)
        elif fd > 0:
            raise Refused(EINVAL)
        else:
            self.targets.pop(key, None)


class SimDevMapHash(_SimDevices):
    """BPF_MAP_TYPE_DEVMAP_HASH: buckets by the lowest bits of the key, the newest element first."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._n_buckets = power_of_two(self.max_entries)
        self._buckets = Buckets()

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags."""
        super().check(kernel, shape)
        if shape.max_entries > 1 << 31:
            raise Refused(EINVAL)
        self.check_memory(kernel, power_of_two(shape.max_entries) * POINTER)

    @property
    def memory_usage(self) -> int:
        """Bytes of buckets and elements. Source: dev_map_mem_usage."""
        self._drop_gone()
        return self.head_bytes + self._n_buckets * POINTER + len(self.targets) * _ELEMENT

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a device; BPF_EXIST asks for nothing. Source: __dev_map_hash_update_elem."""
        if flags > c.BPF_EXIST or not number_and_fd(value)[0]:
            raise Refused(EINVAL)
        there = self._find(key) is not None
        if there and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        device = self._made(value)
        if not there and len(self.targets) >= self.max_entries:
            self._drop_gone()
            if len(self.targets) >= self.max_entries:
                raise Refused(E2BIG)
        self.targets[key] = device
        self._buckets.put(self._bucket(key), key)

    def delete(self, key: bytes) -> None:
        """Remove an element. Raises: Refused (ENOENT)."""
        if self._find(key) is None:
            raise Refused(ENOENT)
        self.remove(key)

    def remove(self, key: bytes) -> None:
        """Remove a device that is there."""
        super().remove(key)
        self._buckets.remove(self._bucket(key), key)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next key; after one that is not there, the first. Raises: Refused (ENOENT)."""
        there = key if key is not None and self._find(key) is not None else None
        while True:
            found = self._buckets.first() if there is None else self._buckets.after(self._bucket(there), there)
            if self._find(found) is not None:
                return found

    def _bucket(self, key: bytes) -> int:
        number: int = U32.unpack(key)[0]
        return number & (self._n_buckets - 1)

    def _drop_gone(self) -> None:
        for key in list(self.targets):
            self._find(key)
