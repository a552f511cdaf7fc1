"""The Backend that is a simulated kernel: dispatches commands, and stands in for the system calls beside bpf(2)."""

from __future__ import annotations

import ctypes
import mmap as _mmap
import os
from _thread import RLock
from errno import EINVAL, EMFILE

from rawbpf.sim import command
from rawbpf.sim.attr import Attr
from rawbpf.sim.error import Refused
from rawbpf.sim.fdinfo import describe
from rawbpf.sim.host import SimulatedHost
from rawbpf.sim.kernel import Kernel
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.release import Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ctypes import _CArgObject as ByRef
    from types import TracebackType


class Simulator:
    """A kernel in this process, for maps, BTF, pins and ids; programs are held and do not run.

    `release`: refuse what that release of Linux did not have ("5.10"); None: the newest that is known.
    `cpus`: possible CPUs. `seed`: of whatever a kernel leaves to chance. It needs no privileges, only Linux.
    Descriptors are real ones and lead nowhere without it. Close it, or leave its `with` block, to free them.
    """

    name = "sim"

    def __init__(self, release: str | None = None, cpus: int = 4, seed: int = 0) -> None:
        # A finaliser or a signal handler may call in the middle of another call.
        self._lock = RLock()
        known = Release(release)
        self.host = SimulatedHost(known.text, cpus)
        self._kernel = Kernel(known, self.host, seed)

    def __repr__(self) -> str:
        return f"<Simulator Linux {self.host.release}, {self.host.possible_cpus} CPUs>"

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Free everything; descriptors that are still open lead nowhere."""
        with self._lock:
            self._kernel.files.close_all()
            self._kernel.pins.close()

    @property
    def bpffs(self) -> str:
        """The directory in which objects can be pinned; nothing else is a bpf file system here."""
        return self._kernel.pins.root

    def bpf(self, cmd: int, attr: ByRef, size: int, /) -> int:
        """One bpf(2) call."""
        number = 0
        try:
            with self._lock:
                return self._call(cmd, ctypes.cast(attr, ctypes.c_void_p).value or 0, size)
        except Refused as refused:
            number = refused.errno
        except OSError as error:
            number = error.errno or EMFILE
        ctypes.set_errno(number)
        return -1

    bpf_blocking = bpf

    def _call(self, cmd: int, address: int, size: int) -> int:
        kernel = self._kernel
        attr = Attr(kernel.memory, address, size, kernel.release.attr_size)
        function = command.COMMANDS.get(cmd)
        if function is None or not kernel.release.has_command(cmd):
            raise Refused(EINVAL)
        return function(kernel, attr)

    def close(self, fd: int) -> None:
        """Close `fd`. Raises OSError."""
        with self._lock:
            self._kernel.files.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new close-on-exec descriptor of the same object. Raises OSError."""
        return os.dup(fd)

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> _mmap.mmap:
        """Map `length` bytes from `offset`, shared. Raises OSError."""
        with self._lock:
            try:
                file = self._kernel.files.get(fd, SimMap)
                assert isinstance(file.content, SimMap)
                memory = file.content.map_memory(length, offset, writable)
            except Refused as refused:
                raise OSError(refused.errno, os.strerror(refused.errno)) from None
            protection = _mmap.PROT_READ | (_mmap.PROT_WRITE if writable else 0)
            return _mmap.mmap(memory, length, _mmap.MAP_SHARED, protection, offset=offset)

    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
        """Map `length` bytes at a fixed address. Raises OSError."""
        raise OSError(EINVAL, os.strerror(EINVAL))

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError."""
        return os.read(fd, size)

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        """Return which of `fds` are readable, at the latest after `timeout` seconds."""
        import select

        poller = select.poll()
        for fd in fds:
            poller.register(fd, select.POLLIN)
        return [fd for fd, _ in poller.poll(None if timeout is None else max(0.0, timeout) * 1000)]

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """perf_event_open(2). Raises OSError."""
        raise OSError(EINVAL, os.strerror(EINVAL))

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """ioctl(2) with an integer argument. Raises OSError."""
        raise OSError(EINVAL, os.strerror(EINVAL))

    def fdinfo(self, fd: int) -> str:
        """What the kernel would tell of the fd in `/proc/self/fdinfo`. Raises OSError."""
        with self._lock:
            try:
                file = self._kernel.files.find(fd)
            except Refused as refused:
                raise OSError(refused.errno, os.strerror(refused.errno)) from None
            if file is not None:
                return describe(file)
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as text:
            return text.read()
