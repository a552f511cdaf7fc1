"""A backend that answers out of a recording, without any kernel: a program's calls have to be those recorded.

Its descriptors are real ones and lead nowhere, so that a program may close or duplicate them as it likes: each is
the read end of a pipe, whose inode, never the number, says that it is one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from contextlib import ExitStack
from threading import RLock
from typing import Never

from rawbpf.sim.error import Refused
from rawbpf.syscall.current import using
from rawbpf.testing.capture import Capture, Side
from rawbpf.testing.difference import Alias, compare_inputs
from rawbpf.testing.naming import Objects
from rawbpf.testing.pointee import BOTH, IN, Shape, is_understood
from rawbpf.testing.recorded_host import RecordedHost
from rawbpf.testing.recording import CLOSED, NAME, Event, Image, Recording, require_recording
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import LAYOUTS
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ctypes import _CArgObject as ByRef
    from types import TracebackType


class ReplayMismatch(AssertionError):
    """The program made another call than the recorded one."""


class ReplayBackend:
    """Answers every call as `recording` says; a `with` block makes it the current backend.

    Raises: ReplayMismatch for a call that is not the next one recorded, with its number in the recording, from 1,
    and what was expected. At the end of the block it is raised again where the program went on after the first,
    whatever it did then, and where calls are missing. Objects may outlive the block: closing them does nothing.
    TypeError for what is no Recording; ValueError for one of another byte order.
    """

    name = "replay"

    def __init__(self, recording: Recording) -> None:
        require_recording(recording)
        self.host = RecordedHost(recording.host)
        if self.host.byteorder != sys.byteorder:
            raise ValueError(f"recorded on a {self.host.byteorder}-endian machine, and this one is not")
        self._events = recording.events
        self._next = 0
        self._failure: ReplayMismatch | None = None
        self._is_over = False
        self._side = Side(self.host, Objects(_no_fdinfo))
        self._alias = Alias()
        self._lock = RLock()
        self._stack = ExitStack()
        # By the name of a map: a file that stands for its memory.
        self._files: dict[str, int] = {}
        self._mapped: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<ReplayBackend, {self._next} of {len(self._events)} calls made>"

    @property
    def remaining(self) -> list[Event]:
        """The calls that the program has not made yet."""
        return [event for event in self._events[self._next :] if event.call not in _NO_CALLS]

    def __enter__(self) -> ReplayBackend:
        self._stack.enter_context(using(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.end()
        if self._failure is not None:
            if kind is None:  # the program went on after it, by `except Exception`
                raise self._failure
            if error is not None and error is not self._failure:
                error.add_note(f"before that, ReplayMismatch: {self._failure}")
        elif kind is None and (rest := self.remaining):
            number = next(number for number, event in enumerate(self._events, 1) if event is rest[0])
            raise ReplayMismatch(f"{len(rest)} recorded calls were not made; the next is call {number}, {rest[0]}")

    def end(self) -> None:
        """Close what stands for the memory of maps, and the descriptors that are still open.

        Objects that live on answer no more calls; closing them does nothing.
        """
        with self._lock:
            self._is_over = True
            for fd in self._side.objects.all_open():
                os.close(fd)
                self._side.objects.close(fd)
            for file in self._files.values():
                os.close(file)
            self._files.clear()
            self._mapped.clear()

    # bpf(2) --------------------------------------------------------------------------

    def bpf(self, cmd: int, attr: ByRef, size: int, /) -> int:
        """Answer one bpf(2) call. Raises: ReplayMismatch."""
        with self._lock:
            address = ctypes.cast(attr, ctypes.c_void_p).value or 0
            event = self._expect(cmd_name(cmd).replace(" ", "_"))
            if event.described.get("opaque") or not is_understood(cmd):
                self._differs(event, ["the recording does not have what its pointers led to"])
            if event.size != size:
                self._differs(event, [f"the attr has {size} bytes, recorded {event.size}"])
            try:
                capture = Capture(self._side, cmd, address, size)
            except Refused:
                self._differs(event, ["the attr cannot be read"])
            self._compare(event, capture)
            self._answer(event, capture)
            result = event.result
            if event.opened:
                result = self._open(event)
            self._done()
            ctypes.set_errno(event.errno)
            return result

    bpf_blocking = bpf

    def _compare(self, event: Event, capture: Capture) -> None:
        read = {each.name for each, _ in capture.pointees.values() if each.direction == IN}
        read |= {each.name for each, _ in capture.pointees.values() if each.direction == BOTH and each.name == "info"}
        if capture.shape.type == c.BPF_MAP_TYPE_BLOOM_FILTER:
            read.add("value")
        found = list(compare_inputs(event.before, capture.before, read, self._alias))
        if found:
            self._differs(event, found)

    def _answer(self, event: Event, capture: Capture) -> None:
        memory, layout = self._side.memory, LAYOUTS[capture.cmd]
        attr = bytearray(memory.read(capture.address, capture.size))
        for name, value in event.after.attr.items():
            if event.before.attr.get(name) != value:
                is_name = isinstance(value, str) and NAME.fullmatch(value)
                layout.set(attr, name, self._number(str(value)) if is_name else value if isinstance(value, int) else 0)
        for name in event.before.attr.keys() - event.after.attr.keys():
            layout.set(attr, name, 0)
        memory.write(capture.address, bytes(attr))
        for each, address in capture.pointees.values():
            content = event.after.memory.get(each.name)
            if content is None or not address or not _was_written(event, each.name):
                continue
            image = bytearray(content)
            for at, name in event.after.references.items():
                where, _, offset = at.partition("@")
                if where == each.name:
                    self._side.word.pack_into(image, int(offset), self._number(name) & 0xFFFF_FFFF)
            for inner, pointer in capture.pointees.values():
                if inner.within == each.name and inner.offset + 8 <= len(image):
                    image[inner.offset : inner.offset + 8] = pointer.to_bytes(8, self.host.byteorder)
            memory.write(address, bytes(image))

    def _number(self, then: str) -> int:
        # The descriptor or id here of a name in the recording.
        if then == CLOSED:
            return -1
        now = self._alias.now(then)
        if now is None:
            number, now = self._side.objects.new_id(then.rstrip("0123456789"))
            self._alias.bind(then, now)
            return number
        number_now = self._side.objects.number(now)
        return -1 if number_now is None else number_now

    def _open(self, event: Event, shape: Shape | None = None) -> int:
        told = event.described
        if shape is None:
            numbers = [told.get(name, 0) for name in ("type", "key_size", "value_size", "flags")]
            known = self._number(str(told["id"])) if "id" in told else 0
            shape = Shape(str(told.get("kind", "")), known, *(n for n in numbers if isinstance(n, int)))
        fd, end = os.pipe()
        os.close(end)
        name, _ = self._side.objects.open(fd, shape)
        self._alias.bind(event.opened, name)
        return fd

    # The order of calls -----------------------------------------------------------------

    def _expect(self, call: str) -> Event:
        # After the first mismatch there is no telling what should follow.
        if self._failure is not None:
            raise self._failure
        if self._is_over:
            raise ReplayMismatch(f"the program calls {call} after the replay has ended")
        while self._next < len(self._events) and self._events[self._next].call in _NO_CALLS:
            self._check_store(self._events[self._next])
            self._next += 1
        if self._next == len(self._events):
            self._fail(f"the program calls {call}, and the recording has no call left")
        event = self._events[self._next]
        if event.call != call:
            self._fail(f"call {self._next + 1}: expected {event}, got {call}")
        return event

    def _differs(self, event: Event, found: list[str]) -> Never:
        self._fail(f"call {self._next + 1}: expected {event}: " + "; ".join(found))

    def _fail(self, message: str) -> Never:
        self._failure = ReplayMismatch(message)
        raise self._failure

    def _done(self) -> None:
        self._next += 1
        while self._next < len(self._events) and self._events[self._next].call == "changed":
            event = self._events[self._next]
            file, offset, content = self._range(event.before)
            os.pwrite(file, content, offset)
            self._next += 1

    def _check_store(self, event: Event) -> None:
        if event.call != "store":
            return
        file, offset, content = self._range(event.before)
        now = os.pread(file, len(content), offset)
        if now != content:
            self._differs(event, [f"the program has stored {now[:16].hex()}"])

    def _range(self, image: Image) -> tuple[int, int, bytes]:
        mapping, offset = str(image.attr.get("mapping", "")), image.attr.get("offset", 0)
        content = image.memory.get("memory") or b""
        file = self._mapped.get(mapping)
        if file is None or not isinstance(offset, int) or not 0 <= offset <= os.fstat(file).st_size - len(content):
            self._fail(f"the recording writes where nothing is mapped: {mapping} from byte {offset} on")
        return file, offset, content

    # What bpf(2) does not do -------------------------------------------------------------

    def _other(self, call: str, **arguments: int | str) -> Event:
        event = self._expect(call)
        attr = {name: value for name, value in arguments.items() if value}
        if found := list(compare_inputs(Image(event.before.attr), Image(attr), (), self._alias)):
            self._differs(event, found)
        self._done()
        if event.result < 0:
            raise OSError(event.errno, os.strerror(event.errno))
        return event

    def _name(self, fd: int) -> str:
        return self._side.objects.fd_name(fd)

    def close(self, fd: int) -> None:
        """Close `fd`; after the end, do nothing: all was closed then. Raises OSError; ReplayMismatch."""
        with self._lock:
            if self._is_over:
                return
            # What a mismatch interrupts closes what it has open.
            if self._failure is None:
                self._other("close", fd=self._name(fd))
            objects = self._side.objects
            is_stale = objects.knows(fd) and not objects.holds(fd)
            objects.close(fd)
            if not is_stale:
                os.close(fd)

    def dup(self, fd: int) -> int:
        """Return a new descriptor of the same object. Raises OSError; ReplayMismatch."""
        with self._lock:
            return self._open(self._other("dup", fd=self._name(fd)), self._side.objects.shape(fd))

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> mmap.mmap:
        """Map the memory of an array as recorded; that of other maps is empty. Raises OSError; ReplayMismatch."""
        with self._lock:
            arguments = {"length": length, "offset": offset, "writable": int(writable)}
            event = self._other("mmap", fd=self._name(fd), **arguments)
            shape = self._side.objects.shape(fd)
            key = f"{shape.kind}{shape.id}" if shape.type == c.BPF_MAP_TYPE_ARRAY else event.opened
            content = event.after.memory.get("memory") or b""
            if key not in self._files:
                self._files[key] = os.memfd_create("rawbpf-replay", os.MFD_CLOEXEC)
                os.pwrite(self._files[key], content, 0)
            file = self._mapped[event.opened] = self._files[key]
            os.ftruncate(file, max(os.fstat(file).st_size, offset + length))
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            return mmap.mmap(file, length, mmap.MAP_SHARED, protection, offset=offset)

    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:  # noqa: ARG002
        """Refuse: what is in an arena is not recorded. Raises ReplayMismatch."""
        self._fail("the memory of an arena is not in a recording")

    def read(self, fd: int, size: int) -> bytes:
        """Return what was read. Raises OSError; ReplayMismatch."""
        with self._lock:
            return self._other("read", fd=self._name(fd), count=size).after.memory.get("memory") or b""

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:  # noqa: ARG002
        """Return which of `fds` were readable, at once. Raises ReplayMismatch."""
        with self._lock:
            event = self._other("poll", **{f"fd{at}": self._name(fd) for at, fd in enumerate(fds)})
            return [fd for at, fd in enumerate(fds) if event.after.attr.get(f"fd{at}")]

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        """Return a descriptor that stands for the event. Raises OSError; ReplayMismatch."""
        with self._lock:
            group: int | str = self._name(group_fd) if group_fd >= 0 else -1
            event = self._expect("perf_event_open")
            if event.before.memory.get("memory") != attr:
                self._differs(event, ["another attr"])
            return self._open(self._other("perf_event_open", pid=pid, cpu=cpu, flags=flags, group_fd=group))

    def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
        """Return what was returned. Raises OSError; ReplayMismatch."""
        from rawbpf.testing.recorder import IOC_SET_BPF

        with self._lock:
            known = self._name(arg) if request == IOC_SET_BPF else arg
            return self._other("ioctl", fd=self._name(fd), request=request, arg=known).result

    def fdinfo(self, fd: int) -> str:
        """Return the text that was recorded, with the id that the object has here. Raises OSError; ReplayMismatch."""
        with self._lock:
            text = self._other("fdinfo", fd=self._name(fd)).after.memory.get("memory") or b""
            shape = self._side.objects.shape(fd)
            lines = text.decode("ascii", "replace").splitlines()
            return "".join(
                f"{line.partition(':')[0]}:\t{shape.id}\n" if line.startswith(f"{shape.kind}_id:") else f"{line}\n"
                for line in lines
            )


# Events that are no calls of the program.
_NO_CALLS = ("store", "changed", "unmap", "unlink")


def _was_written(event: Event, name: str) -> bool:
    if event.before.memory.get(name) != event.after.memory.get(name):
        return True
    return _places(event.before, name) != _places(event.after, name)


def _places(image: Image, name: str) -> list[tuple[str, str]]:
    return sorted(each for each in image.references.items() if each[0].partition("@")[0] == name)


def _no_fdinfo(fd: int) -> str:
    raise OSError(f"what descriptor {fd} is of is not in the recording")
