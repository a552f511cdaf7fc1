"""The Backend that is a simulated kernel: dispatches commands, and stands in for the system calls beside bpf(2)."""

from __future__ import annotations

import copy
import ctypes
import mmap as _mmap
import os
import sys
from contextlib import suppress
from errno import EBADF, EINVAL, EMFILE, ENOTTY
from itertools import starmap

from rawbpf.errors import Closed
from rawbpf.sim import command
from rawbpf.sim.attr import Attr
from rawbpf.sim.command.map import opened
from rawbpf.sim.error import Refused
from rawbpf.sim.fdinfo import describe
from rawbpf.sim.guard import Guard
from rawbpf.sim.host import SimulatedHost
from rawbpf.sim.kernel import Kernel
from rawbpf.sim.map.mapping import map_pages, map_pages_at
from rawbpf.sim.map.memory import SharedMemory
from rawbpf.sim.map.perf_event_array import SimPerfEventArray
from rawbpf.sim.map.ringbuf import SimRingBuf, SimUserRingBuf
from rawbpf.sim.map.stack_trace import SimStackTrace
from rawbpf.sim.perf_event import SimPerfEvent
from rawbpf.sim.perf_output import PerfEventArray
from rawbpf.sim.program import SimProgram
from rawbpf.sim.release import Release
from rawbpf.sim.ring import RingBuf, UserRingBuf
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ctypes import _CArgObject as ByRef
    from types import TracebackType
    from typing import TypeVar

    T = TypeVar("T")


class Snapshot:
    """The state of a simulator at one moment, made by `Simulator.snapshot`."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel


class Simulator:
    """A kernel in this process, for maps, BTF, pins and ids; programs are held and do not run.

    `release`: refuse what that release of Linux did not have ("5.10"); None: the newest that is known.
    `cpus`: possible CPUs. `seed`: of whatever a kernel leaves to chance. It needs no privileges, only Linux.
    Descriptors are real ones and lead nowhere without it. Close it, or leave its `with` block, to free them.
    """

    name = "sim"

    def __init__(self, release: str | None = None, cpus: int = 4, seed: int = 0) -> None:
        self._guard = Guard()
        self._missed_close = False
        if not isinstance(release, str | None):
            raise TypeError(f"release={release!r}: expected text, such as '5.10'")
        if type(seed) is not int:
            raise TypeError(f"seed={seed!r}: expected an integer")
        known = Release(release)
        self.host = SimulatedHost(known.text, cpus)
        self._running: Kernel | None = Kernel(known, self.host, seed)

    def __repr__(self) -> str:
        return f"<Simulator Linux {self.host.release}, {self.host.possible_cpus} CPUs>"

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Free everything. Descriptors that are still open lead nowhere, and all but closing them raises Closed."""
        with self._guard:
            if self._running is not None:
                self._running.files.close_all()
                self._running.pins.close()
                self._running = None

    @property
    def _kernel(self) -> Kernel:
        if self._running is None:
            hint = "the simulator was shut down: what is to outlive its `with` block needs one that does"
            raise Closed(EBADF, call="use", subject=repr(self), hint=hint, backend=self.name)
        return self._running

    @_kernel.setter
    def _kernel(self, kernel: Kernel) -> None:
        self._running = kernel

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # Also of one that could not be made. Where the interpreter ends, modules are empty and descriptors end by
        # themselves.
        if not ending() and hasattr(self, "_running"):
            self.shut_down()

    @property
    def bpffs(self) -> str:
        """The directory in which objects can be pinned; nothing else is a bpf file system here."""
        return self._kernel.pins.root

    def snapshot(self) -> Snapshot:
        """Return a copy of all state: maps and what they hold, programs, BTF, ids, pins, what chance comes next."""
        with self._guard:
            self._kernel.sweep()
            self._kernel.pins.locate()
            return Snapshot(copy.deepcopy(self._kernel))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this simulator; it can be used again.

        Descriptors and mappings that were open then lead to the restored objects. Those closed since stay
        closed, and those opened since lead nowhere (EINVAL). Pins get back the names and modes they had, in directories
        that are made again; other files stay. Raises: ValueError for another simulator's; OSError where another file
        has the name of a pin (FileExistsError), and nothing is changed then.
        """
        with self._guard:
            if snapshot.kernel.host is not self.host:
                raise ValueError("the snapshot is of another simulator")
            copies: dict[int, object] = {}
            kernel = copy.deepcopy(snapshot.kernel, copies)
            kernel.adopt(self._kernel)
            for copied in copies.values():
                if isinstance(copied, SharedMemory):
                    copied.wake()
            self._kernel = kernel

    def bpf(self, cmd: int, attr: ByRef, size: int, /) -> int:
        """One bpf(2) call."""
        number = 0
        try:
            with self._guard:
                return self._call(cmd, ctypes.cast(attr, ctypes.c_void_p).value or 0, size)
        except Refused as refused:
            number = refused.errno
        except Closed:
            raise
        except OSError as error:
            number = error.errno or EMFILE
        # The loop sets the errno and returns at once. After a plain call a signal handler could run here, whose
        # own calls would leave another errno.
        for _ in starmap(ctypes.set_errno, ((number,),)):
            break
        return -1

    # Nothing here waits for anything, so there is nothing to release the GIL for.
    bpf_blocking = bpf

    def _call(self, cmd: int, address: int, size: int) -> int:
        kernel = self._kernel
        if self._missed_close:
            self._missed_close = False
            kernel.sweep()
        attr = Attr(kernel.memory, address, size, kernel.release.attr_size)
        function = command.COMMANDS.get(cmd)
        if function is None or not kernel.release.has_command(cmd):
            raise Refused(EINVAL)
        return function(kernel, attr)

    def close(self, fd: int) -> None:
        """Close `fd`. Raises OSError."""
        with self._guard as guard:
            if self._running is None:
                os.close(fd)
            elif guard.depth > 1:
                # A finaliser, in the middle of another call: the file is forgotten at the beginning of the next.
                os.close(fd)
                self._missed_close = True
            else:
                self._kernel.files.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new close-on-exec descriptor of the same object. Raises OSError."""
        return os.dup(fd)

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> _mmap.mmap:
        """Map `length` bytes from `offset`, shared. Raises OSError."""
        with self._guard:
            try:
                event = self._event(fd)
                if event is not None:
                    return event.map_buffer(length, offset, writable)
                return map_pages(*opened(self._kernel, fd), length, offset, writable)
            except Refused as refused:
                raise _os_error(refused) from None

    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
        """Map `length` bytes from 0, shared and writable, at `address` if not 0. Raises OSError (EEXIST: taken)."""
        with self._guard:
            try:
                return map_pages_at(*opened(self._kernel, fd), length, address)
            except Refused as refused:
                raise _os_error(refused) from None

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError."""
        with self._guard:
            try:
                event = self._event(fd)
                if event is not None:
                    return event.read(size)
            except Refused as refused:
                raise _os_error(refused) from None
        return os.read(fd, size)

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        """Return which of `fds` are readable, at the latest after `timeout` seconds (None: no limit)."""
        import select

        poller = select.poll()
        for fd in fds:
            poller.register(fd, select.POLLIN)
        with self._guard:
            ready = {fd for fd in fds if self._kernel.files.is_ready(fd)}
        limit = 0 if ready else None if timeout is None else max(0.0, timeout) * 1000
        ready.update(fd for fd, _ in poller.poll(limit))
        with self._guard:
            for fd in ready:
                # Closed ones are reported, too.
                with suppress(Refused):
                    event = self._event(fd)
                    if event is not None:
                        event.polled(fd)
        return list(ready)

    def ringbuf(self, fd: int) -> RingBuf:
        """Return a program's side of the ring buffer `fd`: reserve, submit, discard, output, query.

        Raises: ValueError for what is no ring buffer of this simulator.
        """
        return RingBuf(self._target(fd, SimRingBuf, "ring buffer"), self._guard)

    def user_ringbuf(self, fd: int) -> UserRingBuf:
        """Return a program's side of the user ring buffer `fd`: drain.

        Raises: ValueError for what is no user ring buffer of this simulator.
        """
        return UserRingBuf(self._target(fd, SimUserRingBuf, "user ring buffer"), self._guard)

    def put_stack(self, fd: int, addresses: Sequence[int], flags: int = 0) -> int:
        """Store a stack, innermost first, in the stack trace map `fd`, and return its id or a negative errno.

        What bpf_get_stackid does with the stack that it finds; `flags`: BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID.
        Raises: ValueError for what is no stack trace map of this simulator.
        """
        target = self._target(fd, SimStackTrace, "stack trace map")
        with self._guard:
            return target.put(addresses, flags)

    def perf_event_array(self, fd: int) -> PerfEventArray:
        """Return a program's side of the perf event array `fd`: output.

        Raises: ValueError for what is no perf event array of this simulator.
        """
        return PerfEventArray(self._target(fd, SimPerfEventArray, "perf event array"), self._guard)

    def print(self, fd: int, text: bytes, stream: int = c.BPF_STDOUT) -> int:
        """Write `text` to a stream of program `fd`, as it does itself by bpf_stream_vprintk: 0, or a negative errno.

        `stream`: BPF_STDOUT or, for what the kernel writes about the program, BPF_STDERR.
        Raises: ValueError for what is no program of this simulator.
        """
        target = self._target(fd, SimProgram, "program")
        with self._guard:
            return target.streams.write(stream, text)

    def _target(self, fd: int, kind: type[T], word: str) -> T:
        with self._guard:
            try:
                content = self._kernel.files.get(fd, kind).content
            except Refused:
                raise ValueError(f"descriptor {fd} is no {word} of this simulator") from None
        assert isinstance(content, kind)
        return content

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """perf_event_open(2) for software events. Raises OSError."""
        with self._guard:
            try:
                return SimPerfEvent(self._kernel, attr, pid, cpu, group_fd, flags).open()
            except Refused as refused:
                raise _os_error(refused) from None

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """ioctl(2) with an integer argument, which perf events alone know. Raises OSError."""
        with self._guard:
            try:
                event = self._event(fd)
                if event is None:
                    raise Refused(ENOTTY)
                return event.ioctl(request, arg)
            except Refused as refused:
                raise _os_error(refused) from None

    def fdinfo(self, fd: int) -> str:
        """What the kernel would tell of the fd in `/proc/self/fdinfo`. Raises OSError."""
        with self._guard:
            file = None
            with suppress(Refused):
                file = self._kernel.files.find(fd)
            if file is not None:
                return describe(file, self._kernel.release, self.host.page_size)
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as text:
            return text.read()

    def _event(self, fd: int) -> SimPerfEvent | None:
        # The perf event behind `fd`, if it leads to one. Raises: Refused (EBADF).
        file = self._kernel.files.find(fd)
        return file.content if file is not None and isinstance(file.content, SimPerfEvent) else None


def _os_error(refused: Refused) -> OSError:
    return OSError(refused.errno, os.strerror(refused.errno))
