"""The backend that is the running kernel: system calls through ctypes and nothing else.

The two `syscall` objects have no argtypes on purpose: setting them costs 360 to 600 ns a call.
Arguments are therefore small ints and ctypes objects, never addresses as ints (an int without
argtypes is passed as 32 bits). What is known of the machine is in `host`.

Kernel side: kernel/bpf/syscall.c, `SYSCALL_DEFINE3(bpf, ...)` (v6.12).
"""

from __future__ import annotations

import ctypes
import os
import sys
from types import MethodType

from rawbpf.errors import NotSupported
from rawbpf.syscall.host import KernelHost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap as _mmap
    from collections.abc import Callable, Sequence
    from ctypes import _CArgObject as ByRef

# (bpf, perf_event_open) by `uname -m`; 32-bit x86 and arm have tables of their own in the kernel.
# Source: arch/*/entry/syscalls/syscall*.tbl, include/uapi/asm-generic/unistd.h (v6.12)
SYSCALL_NUMBERS = {
    "x86_64": (321, 298),
    "aarch64": (280, 241),
    "riscv64": (280, 241),
    "s390x": (351, 331),
    "ppc64le": (361, 319),
    "arm": (386, 364),
}
_EBADF, _ENOSYS = 9, 38


def syscall_numbers(machine: str) -> tuple[int, int]:
    """Return the numbers of bpf(2) and perf_event_open(2) for `machine`, as `uname -m` names it.

    Raises: NotSupported (ENOSYS) for a machine that is not in the table.
    """
    name = "arm" if machine.startswith("armv") else machine
    if name not in SYSCALL_NUMBERS:
        known = ", ".join(SYSCALL_NUMBERS)
        raise NotSupported(_ENOSYS, call="bpf", subject=f"on {machine}", hint=f"its number is known for {known} only")
    return SYSCALL_NUMBERS[name]


class KernelBackend:
    """The running Linux kernel.

    Raises: NotSupported (ENOSYS) on other systems than Linux and on unknown machines.
    """

    name = "kernel"
    bpf: Callable[[int, ByRef, int], int]
    bpf_blocking: Callable[[int, ByRef, int], int]

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise NotSupported(
                _ENOSYS,
                call="bpf",
                subject=f"on {sys.platform}",
                hint="the kernel backend needs Linux; parsing works anywhere",
            )
        bpf, self._perf_event_open = syscall_numbers(_machine())
        # PyDLL keeps the GIL: a call of a microsecond must not queue for it again behind a busy thread.
        self.bpf = MethodType(ctypes.PyDLL(None, use_errno=True).syscall, bpf)
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self.bpf_blocking = MethodType(self._syscall, bpf)
        self.host = KernelHost()

    def __repr__(self) -> str:
        return f"<KernelBackend Linux {self.host.release}>"

    def close(self, fd: int) -> None:
        """Close `fd`. Raises OSError."""
        os.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new close-on-exec descriptor of the same object. Raises OSError."""
        return os.dup(fd)

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> _mmap.mmap:
        """Map `length` bytes from `offset`, shared. Raises OSError."""
        import mmap

        if fd < 0:  # which Python takes for memory of no file
            raise OSError(_EBADF, os.strerror(_EBADF))
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=offset)

    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
        """Map `length` bytes from 0, shared and writable, at `address` if not 0. Raises OSError (EEXIST: taken)."""
        from rawbpf.syscall.pages import map_pages

        return map_pages(fd, length, address)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError."""
        return os.read(fd, size)

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        """Return which of `fds` are readable, at the latest after `timeout` seconds (None: no limit)."""
        import select

        poller = select.poll()
        for fd in fds:
            poller.register(fd, select.POLLIN)
        return [fd for fd, _ in poller.poll(None if timeout is None else max(0.0, timeout) * 1000)]

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """perf_event_open(2) with a `struct perf_event_attr` as bytes. Raises OSError."""
        buffer = ctypes.create_string_buffer(attr, len(attr))
        fd = self._syscall(
            self._perf_event_open,
            ctypes.byref(buffer),
            ctypes.c_long(pid),
            ctypes.c_long(cpu),
            ctypes.c_long(group_fd),
            ctypes.c_ulong(flags),
        )
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(fd)

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """ioctl(2) with an integer argument. Raises OSError."""
        import fcntl

        return fcntl.ioctl(fd, request, arg)

    def fdinfo(self, fd: int) -> str:
        """The text of the fd's `/proc/self/fdinfo` file. Raises OSError."""
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
            return file.read()


def _machine() -> str:
    machine = os.uname().machine
    # A 32-bit Python on a 64-bit kernel makes the calls of the 32-bit table.
    if sys.maxsize < 2**32:
        return {"aarch64": "arm"}.get(machine, "arm" if machine.startswith("arm") else f"32-bit {machine}")
    return machine
