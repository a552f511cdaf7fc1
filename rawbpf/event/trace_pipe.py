"""What programs print by bpf_trace_printk(), and whatever else the kernel traces: the lines of trace_pipe.

One buffer of the whole machine, of text. Reading takes the lines away from it, and nothing is switched on or off here.
Kernel side: kernel/trace/trace.c:tracing_read_pipe, kernel/trace/trace_output.c:trace_print_context (v6.12).
"""

from __future__ import annotations

import os
import re
from _thread import RLock
from collections import deque
from time import monotonic

from rawbpf.errors import Closed
from rawbpf.map.handle import Handle
from rawbpf.syscall.current import current
from rawbpf.syscall.lifetime import warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from rawbpf.syscall.protocol import Backend

_EBADF = 9
# More than the kernel gives at a time.
_SIZE = 1 << 16
# Names are at most 15 bytes, may have any characters, and stand at the right of 16. The thread group is there with the
# option record-tgid, the flags are without noirq-info, and the time depends on trace_clock.
_LINE = re.compile(
    rb"(?P<task>.{16})-(?P<pid>\d+) +(?:\( *(?P<tgid>\d+|-+)\) )?\[(?P<cpu>\d+)\] (?:(?P<flags>\S+) +)? *"
    rb"(?P<time>\d+(?:\.\d+)?): (?:(?P<function>[^\s:]+): )?(?P<message>.*)",
    re.DOTALL,
)
_LOST = re.compile(rb"CPU:(?P<cpu>\d+) \[LOST (?:(?P<count>\d+) )?EVENTS\]")


class TraceLine:
    """A line of trace_pipe: `task pid tgid cpu flags timestamp_ns function message lost raw`.

    `task` is the name of the thread `pid`, `<...>` where the kernel has forgotten it; `tgid` its process, if the kernel
    was told to keep that. `flags` are the kernel's, such as `d..31`. `timestamp_ns` is in whole microseconds, by the
    clock that tracefs has in trace_clock, usually since boot. `function` is what wrote the line: `bpf_trace_printk` or
    a tracepoint. What is not there is None. `lost`: so many lines had no room (1 where the kernel does not count).

    Of a line of another form, such as the rest of a text with newlines, there is the `message` alone. Processes choose
    their names and many texts, so that a line may not be what it looks like. `raw` has its bytes, `str()` its text.
    """

    __slots__ = ("cpu", "flags", "function", "lost", "message", "pid", "raw", "task", "tgid", "timestamp_ns")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.task: str | None = None
        self.pid: int | None = None
        self.tgid: int | None = None
        self.cpu: int | None = None
        self.flags: str | None = None
        self.timestamp_ns: int | None = None
        self.function: str | None = None
        self.lost = 0
        if (found := _LINE.fullmatch(raw)) is not None:
            self.task = _text(found["task"].lstrip(b" "))
            self.pid = int(found["pid"])
            self.tgid = int(found["tgid"]) if (found["tgid"] or b"-")[:1] != b"-" else None
            self.cpu = int(found["cpu"])
            self.flags = None if found["flags"] is None else _text(found["flags"])
            seconds, point, part = found["time"].partition(b".")
            # Without a point it is a clock that does not count in seconds.
            self.timestamp_ns = int(seconds) * 10**9 + int(part.ljust(9, b"0")[:9]) if point else None
            self.function = None if found["function"] is None else _text(found["function"])
            self.message = _text(found["message"])
            return
        self.message = _text(raw)
        if (lost := _LOST.fullmatch(raw)) is not None:
            self.cpu = int(lost["cpu"])
            self.lost = int(lost["count"] or 1)

    def __str__(self) -> str:
        return _text(self.raw)

    def __repr__(self) -> str:
        return f"<TraceLine {str(self)!r}>"


class TracePipe:
    """The lines of trace_pipe as they come: what `rawbpf.trace_pipe()` returns.

    A context manager and an iterable, also for `async for` with asyncio. Several threads may read: each line is given
    to one of them.
    """

    __slots__ = ("__weakref__", "_backend", "_handle", "_lines", "_lock", "_rest", "_waker")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._handle = Handle(backend, backend.host.trace_pipe())
        self._handle.describe = "trace_pipe"
        try:
            self._waker = Handle(backend, os.eventfd(0, os.EFD_CLOEXEC))
        except OSError:
            self._handle.close()
            raise
        self._lock = RLock()
        self._lines: deque[TraceLine] = deque()
        # A line whose end was not there yet.
        self._rest = b""

    def read(self, timeout: float | None = None) -> TraceLine | None:
        """Return the next line; None if none has come after `timeout` seconds (0: do not wait; None: for ever).

        Raises: Closed, also where another thread closes it meanwhile.
        """
        until = None if timeout is None else monotonic() + timeout
        while (line := self._next()) is None:
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return None
            try:
                with self._handle as fd, self._waker as waker:
                    self._backend.poll([fd, waker], left)
            except Closed:
                continue  # the next turn says so
        return line

    def drain(self, max: int | None = None) -> list[TraceLine]:  # noqa: A002  (as readers have it)
        """Return the lines that are there now, at most `max`, without waiting. Raises: Closed."""
        lines: list[TraceLine] = []
        while (max is None or len(lines) < max) and (line := self._next()) is not None:
            lines.append(line)
        return lines

    def __iter__(self) -> Iterator[TraceLine]:
        """Yield the lines as they come, and wait for them; end when it is closed. Raises: Closed, if it was before."""
        self.fileno()
        return self._iterated()

    def _iterated(self) -> Iterator[TraceLine]:
        try:
            while (line := self.read()) is not None:
                yield line
        except Closed:
            return

    def __aiter__(self) -> AsyncLines:
        """Yield the lines as they come, and let other tasks of asyncio run meanwhile; else as `__iter__`."""
        self.fileno()
        return AsyncLines(self)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are lines, for selectors, trio and others.

        Drain it before waiting: lines that were taken together do not make it readable again. Raises: Closed.
        """
        if self.closed:
            hint = "it was closed; rawbpf.trace_pipe() opens it again"
            raise Closed(_EBADF, call="read", subject="trace_pipe", hint=hint, backend=self._backend.name)
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._handle.fd < 0

    def close(self) -> None:
        """Close it, from any thread: one that waits in it is woken. Idempotent."""
        try:
            with self._waker as waker:
                self._handle.close()
                os.eventfd_write(waker, 1)
        except Closed:
            return
        self._waker.close()

    def _next(self) -> TraceLine | None:
        # The next line, of those that were taken already also when it is closed; None where there is none now.
        while True:
            try:
                return self._lines.popleft()
            except IndexError:
                self.fileno()
            with self._lock:
                try:
                    with self._handle as fd:
                        text = self._backend.read(fd, _SIZE)
                except BlockingIOError:
                    return None
                except Closed:
                    continue  # the next turn says so
                if not text:  # others were faster
                    return None
                *lines, self._rest = (self._rest + text).split(b"\n")
                if len(self._rest) > _SIZE:  # as no line is
                    lines, self._rest = [*lines, self._rest], b""
                self._lines.extend(map(TraceLine, lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_rest") and not self.closed:
            try:
                warn_unclosed(self, self._handle.opened_at)
            finally:
                self.close()

    def __repr__(self) -> str:
        return f"<TracePipe, {'closed' if self.closed else f'fd {self._handle.fd}'}>"


class AsyncLines:
    """What `async for` goes through: whatever is there is taken at once, and the event loop waits."""

    __slots__ = ("_pipe",)

    def __init__(self, pipe: TracePipe) -> None:
        self._pipe = pipe

    def __aiter__(self) -> AsyncLines:
        return self

    async def __anext__(self) -> TraceLine:
        from asyncio import sleep

        await sleep(0)  # other tasks have their turn, also where lines come faster than they are taken
        try:
            while (line := self._pipe._next()) is None:
                with self._pipe._handle as fd, self._pipe._waker as waker:
                    await _readable(fd, waker)
        except Closed:
            raise StopAsyncIteration from None
        return line


async def _readable(*fds: int) -> None:
    from asyncio import Event, get_running_loop
    from select import EPOLLIN, epoll

    loop, ready = get_running_loop(), Event()
    # One of its own, since a loop has one reader for a descriptor.
    with epoll() as poller:
        for fd in fds:
            poller.register(fd, EPOLLIN)
        loop.add_reader(poller.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(poller.fileno())


def trace_pipe(*, backend: Backend | None = None) -> TracePipe:
    """Open trace_pipe, where the texts of bpf_trace_printk() come out, with those of all other tracing of the machine.

    tracefs need not be mounted. There is one such pipe, and what is read is gone: close whatever else reads it. Before
    Linux 6.6 two readers share the lines between them.
    Raises: PermissionDenied (EPERM, EACCES: it is for root); BpfError (EBUSY: somebody reads it; EMFILE, ENFILE);
    NotSupported where nothing is traced.
    Source: kernel/trace/trace.c:tracing_open_pipe
    """
    return TracePipe(current() if backend is None else backend)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
