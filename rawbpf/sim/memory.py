"""The caller's memory, as the kernel sees it: every address is checked, a bad one is EFAULT.

The simulator lives in the process whose memory it reads and writes, and yet must not touch an address
by itself: a wrong one would end the process. So the real kernel copies, by process_vm_readv(2) on
ourselves, or where that is refused (some sandboxes) through a memfd: write(2) from a bad address and
read(2) into one fail with EFAULT.
"""

from __future__ import annotations

import ctypes
import os
from errno import EFAULT
from os import getpid

from rawbpf.sim.error import Refused

# Local address, local length, remote address, remote length: two `struct iovec`.
_Vectors = ctypes.c_size_t * 4
_SECOND = ctypes.sizeof(ctypes.c_size_t) * 2
_MASK = (1 << 8 * ctypes.sizeof(ctypes.c_size_t)) - 1
_ROOM = 4096
_PAGE = 4096


class Memory:
    """Copies from and to addresses of this process.

    Raises: Refused (EFAULT) for an address range that may not be read or written.
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)
        self._readv = libc.process_vm_readv
        self._writev = libc.process_vm_writev
        self._write = libc.write
        self._read = libc.read
        # Taken and given back, so that a signal handler's copy does not use the one that it interrupts.
        self._free: list[_Copier] = []
        probe = ctypes.create_string_buffer(1)
        self._direct = _Copier(1).copy(self._readv, ctypes.addressof(probe), 1)

    def __deepcopy__(self, memo: dict[int, object]) -> Memory:
        return self  # the caller's memory is not the kernel's to copy

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes from `address`."""
        if not size:
            return b""
        if not self._direct:
            return self._read_by_file(address, size)
        copier = self._take(size)
        done = copier.copy(self._readv, address, size)
        content = copier.view[:size].tobytes()
        self._give(copier)
        if not done:
            raise Refused(EFAULT)
        return content

    def write(self, address: int, content: bytes) -> None:
        """Store `content` at `address`."""
        size = len(content)
        if not size:
            return
        if not self._direct:
            self._write_by_file(address, content)
            return
        copier = self._take(size)
        copier.view[:size] = content
        done = copier.copy(self._writev, address, size)
        self._give(copier)
        if not done:
            raise Refused(EFAULT)

    def string(self, address: int, limit: int) -> bytes:
        """Return the bytes at `address` before the first NUL, or `limit` bytes where there is none."""
        found = b""
        while len(found) < limit:
            # Never across a page: the next one may be missing.
            part = self.read(address, min(limit - len(found), _PAGE - address % _PAGE))
            text, end, _ = part.partition(b"\0")
            found += text
            if end:
                break
            address += len(part)
        return found

    def _take(self, size: int) -> _Copier:
        if size > _ROOM:
            return _Copier(size)
        try:
            return self._free.pop()
        except IndexError:
            return _Copier(_ROOM)

    def _give(self, copier: _Copier) -> None:
        if len(copier.view) == _ROOM:
            self._free.append(copier)

    def _read_by_file(self, address: int, size: int) -> bytes:
        file = os.memfd_create("caller", os.MFD_CLOEXEC)
        try:
            done: int = self._write(file, ctypes.c_void_p(address), ctypes.c_size_t(size))
            content = os.pread(file, size, 0)
        finally:
            os.close(file)
        if done != size:
            raise Refused(EFAULT)
        return content

    def _write_by_file(self, address: int, content: bytes) -> None:
        file = os.memfd_create("caller", os.MFD_CLOEXEC)
        try:
            os.pwrite(file, content, 0)
            done: int = self._read(file, ctypes.c_void_p(address), ctypes.c_size_t(len(content)))
        finally:
            os.close(file)
        if done != len(content):
            raise Refused(EFAULT)


class _Copier:
    # A buffer of our own and the two vectors that process_vm_readv and process_vm_writev take.
    def __init__(self, room: int) -> None:
        buffer = ctypes.create_string_buffer(room)
        self.view = memoryview(buffer).cast("B")
        self._vectors = _Vectors(ctypes.addressof(buffer), 0, 0, 0)
        self._local = ctypes.byref(self._vectors)
        self._remote = ctypes.byref(self._vectors, _SECOND)

    def copy(self, call: ctypes._FuncPointer, address: int, size: int) -> bool:
        vectors = self._vectors
        vectors[1] = vectors[3] = size
        vectors[2] = address & _MASK
        done: int = call(getpid(), self._local, 1, self._remote, 1, 0)
        return done == size
