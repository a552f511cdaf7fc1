"""Device maps: real network devices by index, each with a program if values have room for one.

Source: kernel/bpf/devmap.c (v6.12).
"""

from __future__ import annotations

import os
import socket
from errno import E2BIG, EEXIST, EINVAL, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import POINTER, U32, SimMap
from rawbpf.sim.map.fd_array import USER_ACCESS
from rawbpf.sim.map.owner import Owner
from rawbpf.sim.map.shape import power_of_two
from rawbpf.sim.program import SimProgram, program_of
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

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


class _SimDevices(SimMap):
    # What both types share.

    takes_btf = False
    takes_no_key_type = True
    head_bytes = 344

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        # Programs shall not write to what a lookup gives them.
        self.flags |= c.BPF_F_RDONLY_PROG
        self.owner = Owner(kernel, same_attach_type=False)

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: dev_map_init_map."""
        sizes = (4, 8) if kernel.release.version >= (5, 8) else (4,)
        if not shape.max_entries or shape.key_size != U32.size or shape.value_size not in sizes:
            raise Refused(EINVAL)
        if shape.map_flags & ~(USER_ACCESS | c.BPF_F_NUMA_NODE):
            raise Refused(EINVAL)

    def _device(self, value: bytes) -> _Device:
        # Source: __dev_map_alloc_node: whatever is wrong is EINVAL.
        ifindex, fd = _fields(value)
        if not _exists(ifindex):
            raise Refused(EINVAL)
        if fd <= 0:
            return _Device(ifindex, None)
        try:
            program = program_of(self.kernel, fd)
        except Refused:
            raise Refused(EINVAL) from None
        suits = program.type == c.BPF_PROG_TYPE_XDP and program.expected_attach_type == c.BPF_XDP_DEVMAP
        if not suits or program.is_dev_bound or not self.owner.admits(program):
            raise Refused(EINVAL)
        return _Device(ifindex, program)

    def _value(self, device: _Device) -> bytes:
        number = device.program.id if device.program else 0
        return (U32.pack(device.ifindex) + U32.pack(number))[: self.value_size]


def _fields(value: bytes) -> tuple[int, int]:
    # The interface and the descriptor, as a signed number.
    fd = U32.unpack(value[4:])[0] if len(value) > U32.size else 0
    return U32.unpack(value[:4])[0], fd - (fd >> 31 << 32)


class SimDevMap(_SimDevices):
    """BPF_MAP_TYPE_DEVMAP."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._slots: dict[int, _Device] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags."""
        super().check(kernel, shape)
        self.check_memory(kernel, shape.max_entries * POINTER)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return ifindex and program id. Raises: Refused (ENOENT)."""
        index = U32.unpack(key)[0]
        device = self._slots.get(index)
        if device is not None and device.is_gone:
            device = self._slots.pop(index, None) and None
        if device is None:
            raise Refused(ENOENT)
        return self._value(device)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a device; ifindex 0 empties the slot. Source: __dev_map_update_elem."""
        index = U32.unpack(key)[0]
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        if index >= self.max_entries:
            raise Refused(E2BIG)
        if flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        ifindex, fd = _fields(value)
        if ifindex:
            self._slots[index] = self._device(value)
        elif fd > 0:
            raise Refused(EINVAL)
        else:
            self._slots.pop(index, None)

    def delete(self, key: bytes) -> None:
        """Empty a slot, which may be empty already. Raises: Refused (EINVAL: no such index)."""
        index = U32.unpack(key)[0]
        if index >= self.max_entries:
            raise Refused(EINVAL)
        self._slots.pop(index, None)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)


class SimDevMapHash(_SimDevices):
    """BPF_MAP_TYPE_DEVMAP_HASH: buckets by the lowest bits of the key, the newest element first."""

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._n_buckets = power_of_two(self.max_entries)
        self._devices: dict[int, _Device] = {}
        self._buckets: dict[int, list[int]] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags."""
        super().check(kernel, shape)
        if shape.max_entries > 1 << 31:
            raise Refused(EINVAL)
        self.check_memory(kernel, power_of_two(shape.max_entries) * POINTER)

    @property
    def memory_usage(self) -> int:
        """Bytes of buckets and elements. Source: dev_map_mem_usage."""
        return self.head_bytes + self._n_buckets * POINTER + len(self._devices) * _ELEMENT

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return ifindex and program id. Raises: Refused (ENOENT)."""
        self._drop_gone()
        device = self._devices.get(U32.unpack(key)[0])
        if device is None:
            raise Refused(ENOENT)
        return self._value(device)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a device; BPF_EXIST asks for nothing. Source: __dev_map_hash_update_elem."""
        self._drop_gone()
        number = U32.unpack(key)[0]
        if flags > c.BPF_EXIST or not _fields(value)[0]:
            raise Refused(EINVAL)
        there = number in self._devices
        if there and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        device = self._device(value)
        if there:
            self._remove(number)
        elif len(self._devices) >= self.max_entries:
            raise Refused(E2BIG)
        self._devices[number] = device
        self._buckets.setdefault(number % self._n_buckets, []).insert(0, number)

    def delete(self, key: bytes) -> None:
        """Remove an element. Raises: Refused (ENOENT)."""
        self._drop_gone()
        number = U32.unpack(key)[0]
        if number not in self._devices:
            raise Refused(ENOENT)
        self._remove(number)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next key; after one that is not there, the first. Raises: Refused (ENOENT)."""
        self._drop_gone()
        first = 0
        if key is not None and (number := U32.unpack(key)[0]) in self._devices:
            bucket = self._buckets[number % self._n_buckets]
            rest = bucket[bucket.index(number) + 1 :]
            if rest:
                return U32.pack(rest[0])
            first = number % self._n_buckets + 1
        number = min((each for each in self._buckets if each >= first), default=-1)
        if number < 0:
            raise Refused(ENOENT)
        return U32.pack(self._buckets[number][0])

    def _remove(self, number: int) -> None:
        del self._devices[number]
        bucket = self._buckets[number % self._n_buckets]
        bucket.remove(number)
        if not bucket:
            del self._buckets[number % self._n_buckets]

    def _drop_gone(self) -> None:
        # Source: dev_map_notification.
        for number in [number for number, device in self._devices.items() if device.is_gone]:
            self._remove(number)
