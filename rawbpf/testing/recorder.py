"""Records the traffic of a backend: every call of the protocol that maps, programs and BTF make.

What goes past it is found out before the next call: pins that were removed, mappings that are gone, and memory
of arrays that was written through one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from itertools import starmap
from operator import call as apply
from threading import RLock

from rawbpf.sim.error import Refused
from rawbpf.syscall.current import current, using
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.testing.capture import Capture, Side, described, opaque
from rawbpf.testing.naming import Objects
from rawbpf.testing.pointee import Shape, is_understood
from rawbpf.testing.recording import Event, Image, Recording
from rawbpf.testing.walk import BATCHES
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

RETURN_DESCRIPTORS = (
    c.BPF_MAP_CREATE,
    c.BPF_PROG_LOAD,
    c.BPF_BTF_LOAD,
    c.BPF_OBJ_GET,
    c.BPF_MAP_GET_FD_BY_ID,
    c.BPF_PROG_GET_FD_BY_ID,
    c.BPF_BTF_GET_FD_BY_ID,
    c.BPF_LINK_GET_FD_BY_ID,
    c.BPF_LINK_CREATE,
    c.BPF_RAW_TRACEPOINT_OPEN,
    c.BPF_ENABLE_STATS,
    c.BPF_ITER_CREATE,
    c.BPF_TOKEN_CREATE,
)
"""The commands whose result is a descriptor."""
# Where LINK_CREATE has what depends on the kind of link, pointers among it.
_LINK_OPTIONS_AT = 16


class Shadow:
    """A mapping of an array of its own, in which is seen what is written through others."""

    def __init__(self, name: str, fd: int, map_id: int, memory: mmap.mmap, writable: bool) -> None:
        self.name = name
        self.fd = fd
        self.map_id = map_id
        self.memory = memory
        self.writable = writable
        self._last = memory[:]

    def changes(self) -> tuple[int, bytes] | None:
        """Return offset and content of the range that was written since the last time; None for nothing."""
        now, last = self.memory[:], self._last
        if now == last:
            return None
        self._last = now
        first = next(at for at in range(len(now)) if now[at] != last[at])
        end = next(at for at in range(len(now), 0, -1) if now[at - 1] != last[at - 1])
        return first, now[first:end]


class Recorder(Wrapper):
    """Wraps the backend `inner` and writes down in `recording` what goes through.

    Calls are recorded one at a time, in the order in which they ended.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        host = inner.host
        self.recording = Recording(
            {
                "possible_cpus": host.possible_cpus,
                "page_size": host.page_size,
                "release": host.release,
                "byteorder": host.byteorder,
                "capabilities": sorted(host.capabilities()),
            }
        )
        self.side = Side(host, Objects(inner.fdinfo))
        self._lock = RLock()
        self._shadows: list[Shadow] = []
        self._pins: dict[str, tuple[bytes, int | None]] = {}
        self._mappings: dict[str, weakref.ref[mmap.mmap]] = {}

    def stop(self) -> None:
        """Look for the last time at what went past, and let go of what was needed for that."""
        with self._lock:
            self._look()
            for shadow in self._shadows:
                shadow.memory.close()
            self._shadows.clear()

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        """Make the call and record it."""
        with self._lock:
            self._look()
            address = ctypes.cast(attr, ctypes.c_void_p).value or 0
            capture = self._capture(cmd, address, size)
            # In one step, as in `invoke`.
            result, number = starmap(apply, ((call, cmd, attr, size), (ctypes.get_errno,)))
            number = number if result < 0 else 0
            event = opaque(cmd)
            if capture is not None:
                # A batch that came to the end of the map has read something all the same.
                has_read = result >= 0 or (cmd in BATCHES and number == ENOENT)
                event = Event(cmd_name(cmd), size, capture.before, capture.after(has_read))
            self._end(cmd, event, int(result), number, capture)
            ctypes.set_errno(number)
            return int(result)

    def _capture(self, cmd: int, address: int, size: int) -> Capture | None:
        if not is_understood(cmd):
            return None
        try:
            capture = Capture(self.side, cmd, address, size)
            if cmd == c.BPF_LINK_CREATE and any(self.side.memory.read(address, size)[_LINK_OPTIONS_AT:]):
                return None
        except Refused:
            return None
        return capture

    def _end(self, cmd: int, event: Event, result: int, number: int, capture: Capture | None) -> None:
        event.errno = number
        event.result = min(result, 0)
        if result >= 0 and cmd in RETURN_DESCRIPTORS:
            self._opened(event, result)
        elif result >= 0 and capture is not None:
            event.result = result
        if cmd == c.BPF_OBJ_PIN and result >= 0 and capture is not None:
            self._pinned(capture)
        self._append(event)
        for shadow in self._shadows:
            if change := shadow.changes():
                self._append(_memory_event("changed", shadow.name, *change))

    def _opened(self, event: Event, fd: int, shape: Shape | None = None) -> None:
        event.opened, shape = self.side.objects.open(fd, shape)
        event.described |= described(shape, self.side.objects)

    def _append(self, event: Event) -> None:
        self.recording.events.append(event)

    def _pinned(self, capture: Capture) -> None:
        text = capture.before.memory["pathname"]
        path = self.side.memory.string(capture.fields["pathname"], 4096)
        at = capture.fields["path_fd"] if capture.fields["file_flags"] & c.BPF_F_PATH_FD else None
        assert text is not None
        self._pins[text.rstrip(b"\0").decode("latin-1")] = (path, at)

    def _look(self) -> None:
        # What happened since the last call without one.
        for shadow in self._shadows:
            if change := shadow.changes():
                self._append(_memory_event("store", shadow.name, *change))
        for name, mapping in list(self._mappings.items()):
            memory = mapping()
            if memory is None or memory.closed:
                del self._mappings[name]
                self._append(Event.unchanging("unmap", Image({"mapping": name})))
        for name, (path, at) in list(self._pins.items()):
            try:
                os.lstat(path, dir_fd=at)
            except FileNotFoundError:
                del self._pins[name]
                image = Image(memory={"pathname": name.encode("latin-1") + b"\0"})
                self._append(Event.unchanging("unlink", image))
            except OSError:
                del self._pins[name]  # the directory's descriptor is closed: nobody can tell any more

    # What bpf(2) does not do -------------------------------------------------------

    def _other(self, name: str, call: Callable[[], object], **arguments: int | str) -> tuple[Event, object]:
        self._look()
        attr = {word: value for word, value in arguments.items() if value}
        event = Event.unchanging(name, Image(attr))
        self._append(event)
        try:
            return event, call()
        except OSError as error:
            event.result, event.errno = -1, error.errno or 0
            raise

    def close(self, fd: int) -> None:
        """Close `fd`. Raises OSError."""
        with self._lock:
            self._look()
            for shadow in [each for each in self._shadows if each.fd == fd]:
                shadow.memory.close()
                self._shadows.remove(shadow)
            self._other("close", lambda: self.inner.close(fd), fd=self.side.objects.fd_name(fd))
            self.side.objects.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new descriptor of the same object. Raises OSError."""
        with self._lock:
            arguments = {"fd": self.side.objects.fd_name(fd)}
            event, copy = self._other("dup", lambda: self.inner.dup(fd), **arguments)
            assert isinstance(copy, int)
            self._opened(event, copy, self.side.objects.shape(fd))
            return copy

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> mmap.mmap:
        """Map `length` bytes from `offset`, shared. Raises OSError."""
        with self._lock:
            arguments: dict[str, int | str] = {
                "fd": self.side.objects.fd_name(fd),
                "length": length,
                "offset": offset,
                "writable": int(writable),
            }
            event, mapped = self._other("mmap", lambda: self.inner.mmap(fd, length, offset, writable), **arguments)
            assert isinstance(mapped, mmap.mmap)
            event.opened = self.side.objects.new_name("mapping")
            self._mappings[event.opened] = weakref.ref(mapped)
            shape = self.side.objects.shape(fd)
            if shape.type == c.BPF_MAP_TYPE_ARRAY:
                event.after.memory["memory"] = mapped[:]
                self._watch(event.opened, fd, shape.id, length, writable)
            return mapped

    def _watch(self, name: str, fd: int, map_id: int, length: int, writable: bool) -> None:
        # One shadow for a map, of a mapping that can be written where there is one.
        for shadow in [each for each in self._shadows if each.map_id == map_id]:
            if shadow.writable or not writable:
                return
            shadow.memory.close()
            self._shadows.remove(shadow)
        own = self.inner.mmap(fd, length, 0, writable=False)
        self._shadows.append(Shadow(name, fd, map_id, own, writable))

    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
        """Map `length` bytes from 0, shared and writable, at `address` if not 0. Raises OSError."""
        with self._lock:
            arguments: dict[str, int | str] = {"fd": self.side.objects.fd_name(fd), "length": length}
            arguments["address"] = address
            event, mapped = self._other("mmap_at", lambda: self.inner.mmap_at(fd, length, address), **arguments)
            assert isinstance(mapped, ctypes.Array)
            event.opened = self.side.objects.new_name("mapping")
            return mapped

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError."""
        with self._lock:
            arguments: dict[str, int | str] = {"fd": self.side.objects.fd_name(fd), "count": size}
            event, content = self._other("read", lambda: self.inner.read(fd, size), **arguments)
            assert isinstance(content, bytes)
            event.after.memory["memory"] = content
            return content

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        """Return which of `fds` are readable, at the latest after `timeout` seconds."""
        ready = self.inner.poll(fds, timeout)
        with self._lock:
            names = {f"fd{at}": self.side.objects.fd_name(fd) for at, fd in enumerate(fds)}
            event, _ = self._other("poll", lambda: None, **names)
            event.after.attr = {f"fd{at}": 1 for at, fd in enumerate(fds) if fd in ready}
        return ready

    def fdinfo(self, fd: int) -> str:
        """The text of the fd's `fdinfo`. Raises OSError."""
        with self._lock:
            arguments = {"fd": self.side.objects.fd_name(fd)}
            event, text = self._other("fdinfo", lambda: self.inner.fdinfo(fd), **arguments)
            assert isinstance(text, str)
            event.after.memory["memory"] = text.encode("ascii", "replace")
            return text

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """perf_event_open(2). Raises OSError."""
        with self._lock:
            arguments: dict[str, int | str] = {"pid": pid, "cpu": cpu, "flags": flags}
            arguments["group_fd"] = self.side.objects.fd_name(group_fd) if group_fd >= 0 else -1
            event, fd = self._other(
                "perf_event_open", lambda: self.inner.perf_event_open(attr, pid, cpu, group_fd, flags), **arguments
            )
            assert isinstance(fd, int)
            event.before.memory["memory"] = event.after.memory["memory"] = attr
            self._opened(event, fd)
            return fd

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """ioctl(2) with an integer argument. Raises OSError."""
        with self._lock:
            known = self.side.objects.fd_name(arg) if request == IOC_SET_BPF else arg
            arguments: dict[str, int | str] = {"fd": self.side.objects.fd_name(fd), "request": request, "arg": known}
            event, result = self._other("ioctl", lambda: self.inner.ioctl(fd, request, arg), **arguments)
            assert isinstance(result, int)
            event.result = result
            return result


IOC_SET_BPF = 0x4004_2408
"""PERF_EVENT_IOC_SET_BPF, whose argument is a program's descriptor. Source: include/uapi/linux/perf_event.h (v6.12)"""


def _memory_event(call: str, mapping: str, offset: int, content: bytes) -> Event:
    attr: dict[str, int | str] = {"mapping": mapping, "offset": offset} if offset else {"mapping": mapping}
    return Event.unchanging(call, Image(attr, memory={"memory": content}))


@contextmanager
def record(*, backend: Backend | None = None) -> Iterator[Recording]:
    """Record the traffic of a `with` block, that of objects that are made within it, and yield the Recording.

    `backend`: what makes the calls, the current one by default. Objects that were made before keep the backend
    that they have. `recording.save(path)` writes it to a file. Memory of arrays that is mapped is recorded as
    it was at each call; of rings and arenas, only that they were mapped.
    """
    recorder = Recorder(current() if backend is None else backend)
    try:
        with using(recorder):
            yield recorder.recording
    finally:
        recorder.stop()
