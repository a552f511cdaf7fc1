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

from rawbpf.sim.error import Refused

# Local address, local length, remote address, remote length: two `struct iovec` on a 64-bit machine.
_Vectors = ctypes.c_size_t * 4
_SECOND = ctypes.sizeof(ctypes.c_size_t) * 2
_MASK = (1 << 8 * ctypes.sizeof(ctypes.c_size_t)) - 1
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
        probe = ctypes.create_string_buffer(1)
        self._direct = self._vectors(self._readv, bytearray(1), ctypes.addressof(probe))

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes from `address`."""
        buffer = bytearray(size)
        if size and not (self._vectors(self._readv, buffer, address) if self._direct else self._out(buffer, address)):
            raise Refused(EFAULT)
        return bytes(buffer)

    def write(self, address: int, content: bytes) -> None:
        """Store `content` at `address`."""
        if content and not (
            self._vectors(self._writev, bytearray(content), address) if self._direct else self._in(content, address)
        ):
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

    def _vectors(self, call: ctypes._FuncPointer, buffer: bytearray, address: int) -> bool:
        size = len(buffer)
        local = (ctypes.c_char * size).from_buffer(buffer)
        vectors = _Vectors(ctypes.addressof(local), size, address & _MASK, size)
        done: int = call(os.getpid(), ctypes.byref(vectors), 1, ctypes.byref(vectors, _SECOND), 1, 0)
        return done == size

    def _out(self, buffer: bytearray, address: int) -> bool:
        file = os.memfd_create("caller", os.MFD_CLOEXEC)
        try:
            done: int = self._write(file, ctypes.c_void_p(address), ctypes.c_size_t(len(buffer)))
            buffer[:] = os.pread(file, len(buffer), 0).ljust(len(buffer), b"\0")
        finally:
            os.close(file)
        return done == len(buffer)

    def _in(self, content: bytes, address: int) -> bool:
        file = os.memfd_create("caller", os.MFD_CLOEXEC)
        try:
            os.pwrite(file, content, 0)
            done: int = self._read(file, ctypes.c_void_p(address), ctypes.c_size_t(len(content)))
        finally:
            os.close(file)
        return done == len(content)
