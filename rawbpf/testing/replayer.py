"""Makes the calls of a recording again, on a real or simulated kernel, and tells what differed.

What it opens, maps and pins is gone afterwards. Buffers are as large as this side's objects need, whatever
the recording says.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from rawbpf.syscall.descriptor import descriptor_number
from rawbpf.testing.capture import Built
from rawbpf.testing.difference import Alias, Difference, Differences, compare, compare_text
from rawbpf.testing.naming import descriptor_fields, is_walk, taken
from rawbpf.testing.pointee import Shape, is_understood, subject_field
from rawbpf.testing.recorder import Recorder
from rawbpf.testing.recording import CLOSED, NAME, Event, Image, Recording, require_recording
from rawbpf.testing.walk import BATCHES, WALKS, Walks, elements, is_last, is_seeded, wants_room
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import cmd_name, cmd_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

_EEXIST = 17
_MOST_ELEMENTS = 1 << 20
_NO_DESCRIPTOR = 1 << 30
"""More than any limit of open files: a descriptor that is closed, and yet looks like one."""
_ORDER = "order of a hash without BPF_F_ZERO_SEED"


def replay(
    recording: Recording,
    backend: Backend,
    *,
    fds: Mapping[str, int | HasFileno] | None = None,
    pin_dir: str | os.PathLike[str] | None = None,
) -> Differences:
    """Make the calls of `recording` again on `backend` and return what differed: an empty list for nothing.

    `fds`: descriptors that the recorded program had from elsewhere, sockets or cgroups, by their names in the
    recording. `pin_dir`: a directory in which objects can be pinned, by default a simulator's own.
    Raises: ValueError where per-CPU values or byte orders cannot be compared: the numbers of possible CPUs, or
    the byte orders, are not the same; for names of descriptors that the recording does not have. TypeError for
    what is no Recording, no backend or no descriptor.
    """
    require_recording(recording)
    _check(recording, backend)
    given = _given(recording, {} if fds is None else fds)
    where = getattr(backend, "bpffs", None) if pin_dir is None else pin_dir
    replayer = _Replayer(backend, given, None if where is None else os.fspath(where))
    try:
        for number, event in enumerate(recording.events, 1):
            replayer.step(number, event)
    finally:
        replayer.end()
    return replayer.found


def _check(recording: Recording, backend: Backend) -> None:
    if not hasattr(backend, "bpf") or not hasattr(backend, "host"):
        raise TypeError(f"expected a backend, as Simulator() or KernelBackend(), got {backend!r}")
    for name, hint in (("byteorder", ""), ("possible_cpus", "; use Simulator(cpus=...) with as many")):
        then, now = recording.host.get(name), getattr(backend.host, name)
        if then != now:
            raise ValueError(f"recorded where {name} is {then}, and here it is {now}{hint}")


def _given(recording: Recording, fds: Mapping[str, int | HasFileno]) -> dict[str, int]:
    if not isinstance(fds, Mapping):
        raise TypeError(f"fds: expected descriptors by their names in the recording, as {{'fd3': 5}}, got {fds!r}")
    named = set[object]()
    opened = set[object]()
    for event in recording:
        named.update(event.before.attr.values(), event.before.references.values())
        opened.add(event.opened)
    for name in fds:
        if name not in named:
            outside = sorted(
                str(each) for each in named - opened if NAME.fullmatch(str(each)) and str(each).startswith("fd")
            )
            has = ", ".join(outside) or "none"
            raise ValueError(f"fds: the recording has no {name!r}; descriptors that it has from outside: {has}")
    return {name: descriptor_number(value, f"fds[{name!r}]") for name, value in fds.items()}


class _Unbound(Exception):
    # A name of the recording that stands for nothing here.

    def __init__(self, name: str) -> None:
        self.name = name


class _Replayer:
    def __init__(self, backend: Backend, fds: dict[str, int], pin_dir: str | None) -> None:
        self.found = Differences()
        self._backend = Recorder(backend)
        self._side = self._backend.side
        self._alias = Alias()
        self._given = fds
        self._unusable: set[str] = set()
        self._mappings: dict[str, mmap.mmap] = {}
        self._kept: list[object] = []
        self._walks = Walks()
        self._pin_dir = pin_dir
        self._pins: list[str] = []
        self._directories: list[str] = []
        self._root = -1
        self._number = 0
        self._event = Event("")

    def step(self, number: int, event: Event) -> None:
        self._number, self._event = number, event
        try:
            self._make(event)
        except _Unbound as unbound:
            self._cannot(event, unbound.name)
        finally:
            self._backend.recording.events.clear()

    def end(self) -> None:
        self._backend.stop()
        self._kept.clear()
        for mapping in self._mappings.values():
            mapping.close()
        for fd in self._side.objects.all_open():
            self._backend.inner.close(fd)
        for path in self._pins:
            if os.path.lexists(path):
                os.unlink(path)
        for path in reversed(self._directories):
            os.rmdir(path)
        if self._root >= 0:
            os.close(self._root)

    def _differs(self, what: str) -> None:
        self.found.append(Difference(self._number, str(self._event), what))

    def _cannot(self, event: Event, name: str) -> None:
        # What depends on this call cannot be made again either, and that is told once.
        if event.opened:
            self._unusable.add(event.opened)
        if name in self._unusable:
            self.found.skipped.append(f"{event}: depends on {name}")
        elif name.startswith("fd"):
            self._differs(f"{name} comes from outside of the recording: hand it over as fds={{{name!r}: ...}}")
            self._unusable.add(name)
        elif NAME.fullmatch(name):
            self.found.skipped.append(f"{event}: {name} is an object of others")
        else:
            self._differs(f"it cannot be made: {name} is unknown here")

    def _fd(self, name: str) -> int:
        if name == CLOSED:
            return _NO_DESCRIPTOR
        if name in self._given:
            return self._given[name]
        now = self._alias.now(name)
        number = None if now is None else self._side.objects.number(now)
        if number is None:
            if now is not None:
                return _NO_DESCRIPTOR  # it was closed since
            raise _Unbound(name)
        return number

    def _make(self, event: Event) -> None:
        other: Callable[[Event], None] | None = getattr(self, f"_make_{event.call}", None)
        if other is not None:
            other(event)
            return
        try:
            cmd = cmd_number(event.call)
        except ValueError:
            self._differs("there is no such call")
            return
        if event.described.get("opaque") or not is_understood(cmd):
            if event.opened:
                self._unusable.add(event.opened)
            self._differs("it cannot be made again: what its pointers led to is not in the recording")
        elif is_walk(cmd):
            self.found.masked["walk over the ids of all objects"] += 1
        else:
            self._command(cmd, event)

    # bpf(2) --------------------------------------------------------------------------

    def _command(self, cmd: int, event: Event) -> None:
        if "pathname" in event.before.memory:
            event = self._placed(event)
        subject = event.before.attr.get(subject_field(cmd), "")
        shape = self._side.objects.shape(self._fd(subject)) if isinstance(subject, str) and subject else Shape()
        numbers = {name: value for name, value in event.before.attr.items() if isinstance(value, int)}
        if bare := [name for name in descriptor_fields(cmd, numbers) if taken(numbers[name])]:
            raise _Unbound(f"descriptor {numbers[bare[0]]}")
        self._walks.disturb(shape.id, cmd)
        if cmd in WALKS and is_seeded(shape) and (event.result >= 0 or is_last(event) or wants_room(event)):
            self.found.masked[_ORDER] += 1
            (self._batch if cmd in BATCHES else self._next_key)(cmd, event, shape)
            return
        now = self._call(cmd, event)
        for what in compare(event, now, shape, self._alias, self.found.masked):
            self._differs(what)
        if event.opened and not now.opened:
            self._unusable.add(event.opened)
        if now.opened and not event.opened:
            self._backend.close(self._side.objects.number(now.opened) or 0)

    def _call(self, cmd: int, event: Event) -> Event:
        events = self._backend.recording.events
        try:
            built = Built(self._side, cmd, event, self._fd)
        except (OverflowError, TypeError) as error:
            self._differs(f"no such attr: {error}")
            return event
        start = len(events)
        self._backend.bpf(cmd, ctypes.byref(built.attr), event.size)
        return next(each for each in events[start:] if each.call == cmd_name(cmd))

    def _next_key(self, cmd: int, event: Event, shape: Shape) -> None:
        walk = self._walks.get(shape.id, cmd, is_first="key" not in event.before.memory)
        now = self._call(cmd, event)
        if now.result < 0 and not is_last(now):
            self._differs(next(compare(event, now, shape, self._alias, self.found.masked)))
            return
        walk.then[None if is_last(event) else event.after.memory["next_key"],] += 1
        walk.now[None if is_last(now) else now.after.memory["next_key"],] += 1
        if is_last(event) and (what := walk.difference()):
            self._differs(what)

    def _batch(self, cmd: int, event: Event, shape: Shape) -> None:
        walk = self._walks.get(shape.id, cmd, is_first="in_batch" not in event.before.memory)
        if wants_room(event):
            return
        walk.then.update(elements(event, shape, self._side.cpus, str))
        count = event.before.attr.get("count", 0)
        while not walk.is_over and isinstance(count, int) and 0 < count <= _MOST_ELEMENTS:
            now = self._call(cmd, _chunk(event, walk.cursor, count))
            if wants_room(now):
                count *= 2
                continue
            if now.result < 0 and not is_last(now):
                self._differs(f"recorded {event.result}, now {now.errno}")
                return
            walk.now.update(elements(now, shape, self._side.cpus, self._alias.then))
            walk.cursor, walk.is_over = now.after.memory["out_batch"], is_last(now)
            if not is_last(event):
                return
        if is_last(event) and (what := walk.difference()):
            self._differs(what)

    # Pins ----------------------------------------------------------------------------

    def _placed(self, event: Event) -> Event:
        # The same call with the path that the pin has here.
        path = self._path(event.before, made=event.result >= 0 or event.errno == _EEXIST)
        before = event.before
        if "path_fd" in before.attr and before.attr["path_fd"] != CLOSED:
            if self._root < 0:
                self._root = os.open(os.path.dirname(os.path.dirname(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._given[str(before.attr["path_fd"])] = self._root
            path = os.path.join(*path.rsplit("/", 2)[1:])
        elif cmd_number(event.call) == c.BPF_OBJ_PIN and event.result >= 0:
            self._pins.append(path)
        if "path_fd" in before.attr and event.call == cmd_name(c.BPF_OBJ_PIN) and event.result >= 0:
            self._pins.append(self._path(event.before, made=True))
        memory: dict[str, bytes | None] = {**before.memory, "pathname": os.fsencode(path) + b"\0"}
        return replace(event, before=replace(before, memory=memory))

    def _path(self, image: Image, made: bool) -> str:
        text = (image.memory.get("pathname") or b"").rstrip(b"\0").decode("latin-1")
        directory, _, name = text.partition("/")
        if self._pin_dir is None:
            raise _Unbound("a directory for pins, pin_dir=")
        if not directory.isalnum() or "/" in name or "\0" in name:
            raise _Unbound(f"the path {text!r}")
        full = os.path.join(self._pin_dir, directory)
        if made and full not in self._directories:
            os.mkdir(full)
            self._directories.append(full)
        return os.path.join(full, name)

    def _make_unlink(self, event: Event) -> None:
        path = self._path(event.before, made=False)
        if path in self._pins and os.path.lexists(path):
            os.unlink(path)

    # What bpf(2) does not do -----------------------------------------------------------

    def _word(self, name: str) -> int:
        value = self._event.before.attr.get(name, 0)
        return self._fd(value) if isinstance(value, str) else value

    def _descriptor(self) -> int:
        # Never a bare number of the file's, which may be anything in this process.
        name = self._event.before.attr.get("fd")
        if not isinstance(name, str):
            raise _Unbound(f"descriptor {name}")
        return self._fd(name)

    def _other(self, event: Event, call: Callable[[], object]) -> tuple[Event, object]:
        # The call made now, and what it returned.
        events = self._backend.recording.events
        start = len(events)
        try:
            result = call()
        except OSError:
            result = None
        except (OverflowError, ValueError) as error:
            self._differs(f"it cannot be made: {error}")
            return event, None
        now = next(each for each in events[start:] if each.call == event.call)
        if (event.result < 0, event.errno) != (now.result < 0, now.errno):
            for what in compare(event, now, Shape(), self._alias, self.found.masked):
                self._differs(what)
        elif event.opened and now.opened:
            self._alias.bind(event.opened, now.opened)
        return now, result

    def _make_close(self, event: Event) -> None:
        if event.before.attr.get("fd") not in self._given:
            self._other(event, lambda: self._backend.close(self._descriptor()))

    def _make_dup(self, event: Event) -> None:
        self._other(event, lambda: self._backend.dup(self._descriptor()))

    def _make_fdinfo(self, event: Event) -> None:
        now, _ = self._other(event, lambda: self._backend.fdinfo(self._descriptor()))
        for what in compare_text(event, now, self.found.masked):
            self._differs(what)

    def _make_read(self, event: Event) -> None:
        size = min(self._word("count"), _MOST_ELEMENTS)
        now, _ = self._other(event, lambda: self._backend.read(self._descriptor(), size))
        if now.after.memory != event.after.memory:
            self._differs("read something else")

    def _make_poll(self, _: Event) -> None:
        self.found.masked["what was ready when"] += 1

    def _make_ioctl(self, event: Event) -> None:
        self._other(event, lambda: self._backend.ioctl(self._descriptor(), self._word("request"), self._word("arg")))

    def _make_perf_event_open(self, event: Event) -> None:
        attr = event.before.memory.get("memory") or b""
        words = [self._word(name) for name in ("pid", "cpu", "group_fd", "flags")]
        self._other(event, lambda: self._backend.perf_event_open(attr, words[0], words[1], words[2], words[3]))

    def _make_mmap(self, event: Event) -> None:
        fd, length, offset = self._descriptor(), self._word("length"), self._word("offset")
        now, memory = self._other(event, lambda: self._backend.mmap(fd, length, offset, bool(self._word("writable"))))
        if isinstance(memory, mmap.mmap):
            self._mappings[event.opened] = memory
            if now.after.memory != event.after.memory:
                self._differs("something else is mapped")

    def _make_mmap_at(self, event: Event) -> None:
        fd, length, address = self._descriptor(), self._word("length"), self._word("address")
        _, memory = self._other(event, lambda: self._backend.mmap_at(fd, length, address))
        self._kept.append(memory)

    def _make_unmap(self, event: Event) -> None:
        mapping = self._mappings.pop(str(event.before.attr.get("mapping", "")), None)
        if mapping is not None:
            mapping.close()

    def _range(self, event: Event) -> tuple[mmap.mmap, slice, bytes]:
        name, content = str(event.before.attr.get("mapping", "")), event.before.memory.get("memory") or b""
        memory, offset = self._mappings.get(name), self._word("offset")
        if memory is None or not 0 <= offset <= len(memory) - len(content):
            raise _Unbound(f"bytes from {offset} on of {name}")
        return memory, slice(offset, offset + len(content)), content

    def _make_store(self, event: Event) -> None:
        memory, where, content = self._range(event)
        try:
            memory[where] = content
        except TypeError:  # mapped for reading only: a program of the kernel wrote it
            self.found.masked["what programs write"] += 1

    def _make_changed(self, event: Event) -> None:
        memory, where, content = self._range(event)
        if memory[where] != content:
            self._differs(f"mapped memory: recorded {content[:16].hex()}, now {memory[where][:16].hex()}")


def _chunk(event: Event, cursor: bytes | None, count: int) -> Event:
    # The call that reads the next elements of a walk.
    memory: dict[str, bytes | None] = dict.fromkeys(event.before.memory, b"")
    if cursor is not None:
        memory["in_batch"] = cursor
    return replace(event, before=replace(event.before, attr={**event.before.attr, "count": count}, memory=memory))
