"""What wraps a backend: the same protocol, every call handed to the backend within.

Subclasses change `intercept`, through which both kinds of bpf call go.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap as _mmap
    from collections.abc import Callable, Sequence
    from ctypes import Array, c_char
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend, Host


class Wrapper:
    """A backend around the backend `inner`."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """The name of the backend within."""
        return self.inner.name

    @property
    def host(self) -> Host:
        """The machine under the backend within."""
        return self.inner.host

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        """Make the call, or not; return its result, with -1 and the errno set where it failed."""
        return call(cmd, attr, size)

    def bpf(self, cmd: int, attr: ByRef, size: int, /) -> int:
        """One bpf(2) call that holds the GIL."""
        return self.intercept(self.inner.bpf, cmd, attr, size)

    def bpf_blocking(self, cmd: int, attr: ByRef, size: int, /) -> int:
        """One bpf(2) call that releases the GIL."""
        return self.intercept(self.inner.bpf_blocking, cmd, attr, size)

    def close(self, fd: int) -> None:
        """Close `fd`. Raises OSError."""
        self.inner.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new descriptor of the same object. Raises OSError."""
        return self.inner.dup(fd)

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> _mmap.mmap:
        """Map `length` bytes from `offset`, shared. Raises OSError."""
        return self.inner.mmap(fd, length, offset, writable)

    def mmap_at(self, fd: int, length: int, address: int = 0) -> Array[c_char]:
        """Map `length` bytes from 0, shared and writable, at `address` if not 0. Raises OSError."""
        return self.inner.mmap_at(fd, length, address)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError."""
        return self.inner.read(fd, size)

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        """Return which of `fds` are readable, at the latest after `timeout` seconds."""
        return self.inner.poll(fds, timeout)

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """perf_event_open(2). Raises OSError."""
        return self.inner.perf_event_open(attr, pid, cpu, group_fd, flags)

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """ioctl(2) with an integer argument. Raises OSError."""
        return self.inner.ioctl(fd, request, arg)

    def fdinfo(self, fd: int) -> str:
        """The text of the fd's `fdinfo`. Raises OSError."""
        return self.inner.fdinfo(fd)
