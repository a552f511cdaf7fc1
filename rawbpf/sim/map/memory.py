"""Memory that the simulated kernel shares with its callers: what a mapping of a map shows.

Source: memfd_create(2), mmap(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char

_MAP_FIXED, _MAP_FIXED_NOREPLACE, _MADV_DONTFORK = (
    0x10,
    0x100000,
    10,
)  # Source: include/uapi/asm-generic/mman-common.h (v6.12)
_FAILED = ctypes.c_void_p(-1).value


class SharedMemory:
    """`size` bytes, zeros at first, in a memfd; `view` is all of it.

    `twice`: the last so many bytes are those before them once more, as the data of a ring is.
    A copy is of the bytes: it has the same memfd, which `wake` fills again.
    """

    def __init__(self, size: int, twice: int = 0) -> None:
        self.size = size
        self._pages = _Pages(size, twice)
        self._saved: bytes | None = None

    @property
    def view(self) -> mmap.mmap:
        """The memory."""
        return self._pages.view

    @property
    def writers(self) -> int:
        """How many mappings may be written through."""
        return self._pages.writers

    def map(self, length: int, offset: int, writable: bool) -> Mapping:
        """Map `length` bytes from `offset`. Raises: OSError (ENOMEM)."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._pages.grow(offset + length)
        made = Mapping(self._pages.fd, length, mmap.MAP_SHARED, protection, offset=offset)
        self._pages.repeat(made, offset, protection)
        if writable:
            made.write_through(self._pages)
        return made

    def map_at(self, length: int, address: int, protection: int = mmap.PROT_READ | mmap.PROT_WRITE) -> Array[c_char]:
        """Map `length` bytes from 0, at `address` if not 0; unmapped with the last view of them.

        Raises: OSError (EEXIST: something lies there already; ENOMEM).
        """
        pages = self._pages
        pages.grow(length)
        found = _map(address, length, protection, _MAP_FIXED_NOREPLACE if address else 0, pages.fd, 0)
        # A forked child maps an arena anew. Source: kernel/bpf/arena.c:arena_map_mmap (v6.18), VM_DONTCOPY
        ctypes.CDLL(None).madvise(ctypes.c_void_p(found), ctypes.c_size_t(length), _MADV_DONTFORK)
        array = (ctypes.c_char * length).from_address(found)
        pages.writers += 1
        # Not at exit: views may be read until the very end.
        weakref.finalize(array, _unmap, pages, found, length, os.getpid()).atexit = False
        return array

    def __deepcopy__(self, memo: dict[int, object]) -> SharedMemory:
        copied = SharedMemory.__new__(SharedMemory)
        copied.size = self.size
        copied._pages = self._pages
        copied._saved = os.pread(self._pages.fd, self.size, 0) if self._saved is None else self._saved
        memo[id(self)] = copied
        return copied

    def wake(self) -> None:
        """Put the bytes back that a copy was made of."""
        if self._saved is not None:
            os.pwrite(self._pages.fd, self._saved, 0)
            self._saved = None


class Mapping(mmap.mmap):
    """A mapping that is counted, if it may be written through, as long as it is there."""

    _pages: _Pages | None = None

    def write_through(self, pages: _Pages) -> None:
        """Be counted."""
        pages.writers += 1
        self._pages = pages

    def close(self) -> None:
        """Unmap. Raises: BufferError while there are views."""
        super().close()
        self._release()

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None:
            pages.writers -= 1


class _Pages:
    # The memfd, for as long as anything refers to it, and the simulator's own mapping, once it is needed.
    def __init__(self, size: int, twice: int) -> None:
        self.writers = 0
        # Where the bytes begin that are others once more.
        self._again = size - twice if twice else None
        self._twice = twice
        self._size = size
        self._view: mmap.mmap | None = None
        self.fd = os.memfd_create("bpf-map", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    @property
    def view(self) -> mmap.mmap:
        if self._view is None:
            self._view = mmap.mmap(self.fd, self._size)
            self.repeat(self._view, 0, mmap.PROT_READ | mmap.PROT_WRITE)
        return self._view

    def grow(self, size: int) -> None:
        # Only arenas are mapped beyond what they hold.
        if size > self._size and self._again is None:
            os.ftruncate(self.fd, size)
            self._size = size

    def repeat(self, made: mmap.mmap, offset: int, protection: int) -> None:
        # The memfd has the bytes only once: show them again where `made`, which begins at `offset`, should.
        if self._again is None or offset + len(made) <= self._again:
            return
        start = max(offset, self._again)
        length = offset + len(made) - start
        _map(address_of(made) + start - offset, length, protection, _MAP_FIXED, self.fd, start - self._twice)


def _map(address: int, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    found: int = libc.mmap(address, length, protection, mmap.MAP_SHARED | flags, fd, offset)
    if found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _unmap(pages: _Pages, address: int, length: int, pid: int) -> None:
    pages.writers -= 1
    # In a forked child something else may lie there.
    if os.getpid() == pid:
        ctypes.CDLL(None).munmap(ctypes.c_void_p(address), ctypes.c_size_t(length))


class _Buffer(ctypes.Structure):
    # Source: CPython's Include/pybuffer.h:Py_buffer
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(made: mmap.mmap | Array[c_char]) -> int:
    """Return where a mapping lies; ctypes itself tells it only of what may be written."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(made), ctypes.byref(buffer), 0)
    address: int = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address
