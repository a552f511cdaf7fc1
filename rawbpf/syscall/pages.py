"""Memory mapped at an address of one's choice, which Python's own mmap does not offer.

Kernel side: mm/mmap.c:do_mmap (v6.12).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED, _MAP_FIXED_NOREPLACE = 0x1, 0x100000  # Source: include/uapi/asm-generic/mman-common.h (v6.12)
_FAILED = ctypes.c_void_p(-1).value


def map_pages(fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
    """Map `length` bytes of `fd` from its beginning, shared, for reading and writing, at `address` if not 0.

    What is returned unmaps itself when its last view is gone.
    Raises: OSError (EEXIST: something lies there already).
    """
    import weakref

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    flags = _MAP_SHARED | (_MAP_FIXED_NOREPLACE if address else 0)
    found = libc.mmap(address, length, _PROT_READ | _PROT_WRITE, flags, fd, 0)
    if found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    pages = (ctypes.c_char * length).from_address(found)
    # Not at exit: views may be read until the very end.
    weakref.finalize(pages, _unmap, libc.munmap, found, length, os.getpid()).atexit = False
    return pages


def _unmap(munmap: Callable[[int, int], int], address: int, length: int, pid: int) -> None:
    # In a forked child something else may lie there.
    if os.getpid() == pid:
        munmap(address, length)
