"""Where the records of one CPU come from: the buffer of its perf event, read forwards, or for what is newest in it.

Knows positions, fences, and that a record may lie in two pieces; what headers mean is in `perf_walk`. Fences are where
kernel/events/ring_buffer.c:perf_output_put_handle (v6.12) wants them: between the kernel's position and the records
before it, and between records and the reader's position, which gives their room back. Whether who waits is woken does
not depend on that position, so that it needs no fence behind it.

A forked child has not this memory (kernel/events/core.c:perf_mmap, VM_DONTCOPY), and what it reads there would end it.
So whoever comes to it asks first which process this is: not all forks are Python's.
"""

from __future__ import annotations

import ctypes
import os
from itertools import pairwise
from os import getpid
from struct import calcsize
from weakref import WeakValueDictionary

from rawbpf.codec.base import NATIVE
from rawbpf.errors import BpfError, Closed, FormatError
from rawbpf.event.perf_walk import LEAD, edges, length_at, walk
from rawbpf.event.span import Span
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import map as command
from rawbpf.uapi.perf import PERF_EVENT_IOC_PAUSE_OUTPUT, ioctl_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.event.order import Order
    from rawbpf.event.perf_walk import Loss
    from rawbpf.map.handle import Handle

# Of struct perf_event_mmap_page, as words of 64 bits. Source: include/uapi/linux/perf_event.h (v6.12)
_HEAD, _TAIL = 1024 >> 3, 1032 >> 3
# The kernel counts in words of the machine.
_WRAP = 1 << 8 * calcsize("L")
_EBADF = 9
FORKED = "it belongs to the process that forked this one, and to that alone: close it there first"

# What stands for the memory of a source that was closed, which would hold the event open.
_GONE = memoryview(bytes(2048)).cast("Q")

# Who has a slot of an array in this process: by backend, which a source keeps alive, the map's id, and CPU.
slots: WeakValueDictionary[tuple[int, int, int], PerfSource] = WeakValueDictionary()


class PerfSource:
    """The perf event in slot `cpu` of an array, read by one reader. `memory`: its first page, and its buffer.

    `array` and `event` are handles, the second of which is closed with the source; `map_id` is the array's. `lost`: how
    many samples of those before the reader's position found no room.
    """

    busy = False

    def __init__(self, array: Handle, map_id: int, event: Handle, cpu: int, memory: memoryview, page_size: int) -> None:
        self.cpu = cpu
        self.high_water = self.lost = 0
        self.array = array
        self._event = event
        self._process = getpid()
        self._memory: object = memory.obj
        self._control = memory[:page_size].cast("Q")
        # The kernel maps it to be written, for the position, and then lets nobody write: SIGBUS.
        self._data = memory[page_size:].toreadonly()
        self._size = len(self._data)
        self._next = self._committed = 0
        # Those behind the reader's position, which were taken.
        self._losses: list[Loss] = []
        self._paused = False
        self._slot = id(array.backend), map_id, cpu
        slots[self._slot] = self

    @property
    def fds(self) -> list[int]:
        """What poll(2) is asked about."""
        return [self._event.fd]

    @property
    def available(self) -> int:
        """How many bytes lie between the positions; 0 in a forked child."""
        if getpid() != self._process:
            return 0
        return int(self._control[_HEAD] - self._control[_TAIL]) % _WRAP

    def take(self, most: int, order: Order) -> Span | None:
        """Return the records behind those taken before, at most so many; None where there are none.

        Those before the buffer's end are one span; the one that reaches beyond it is another, in memory of its own.
        Raises: Closed in a forked child; FormatError.
        """
        self._ours()
        position, head = self._next, self._control[_HEAD]
        order.loads()
        there = (head - position) % _WRAP
        if not there:
            return None
        if there > self._size or there % 8:
            raise self._corrupt(f"the kernel's position {head} is not behind it within {self._size} bytes", position)
        self.high_water = max(self.high_water, there)
        return self._walked(self._data, position % self._size, there, position, most)

    def _walked(self, memory: memoryview, start: int, available: int, position: int, most: int) -> Span:
        words = memory.cast("Q")
        try:
            runs, stop, losses = walk(words, start, available, most)
            if not runs and stop - start < available:
                # Before the end there is a loss at most. One record may reach beyond it, and the first sample is that,
                # or behind it.
                length = stop - start + (length_at(words, stop % len(memory)) & -8)
                beyond = (start + length) % len(memory)
                length += walk(words, beyond, available - length, 1)[1] - beyond
                memory, start = self._joined(start, length), 0
                runs, stop, losses = walk(memory.cast("Q"), 0, available, most)
        except FormatError as error:
            raise self._corrupt(str(error), position) from None
        if stop == start:
            raise self._corrupt("a record changed while it was read", position)
        self._losses += [((position + end - start) % _WRAP, count) for end, count in losses]
        self._next = (position + stop - start) % _WRAP
        return Span(memory, runs, LEAD, start, stop, position, more=stop - start < available)

    def _joined(self, start: int, length: int) -> memoryview:
        # A copy of so many bytes from an offset on, round the end.
        until_end = self._data[start : start + length]
        return memoryview(until_end.tobytes() + self._data[: length - len(until_end)].tobytes())

    def commit(self, position: int, order: Order) -> None:
        """Store the reader's position, which gives the room before it back, and count the losses before it.

        Not in a forked child: what is delivered is delivered in its parent.
        """
        if getpid() != self._process:
            return
        position %= _WRAP
        lost, left = self._passed(position) if self._losses else (self.lost, self._losses)
        order.loads()
        # No call from here on, at which an interrupt could divide what belongs together.
        self.lost, self._losses, self._committed = lost, left, position
        self._control[_TAIL] = position

    def _passed(self, position: int) -> tuple[int, list[Loss]]:
        # How many were lost before the position, and the losses behind it.
        passed = [count for end, count in self._losses if (position - end) % _WRAP < _WRAP >> 1]
        return self.lost + sum(passed), self._losses[len(passed) :]

    def rewind(self) -> None:
        """Take again what was taken and not committed."""
        self._losses = []
        self._next = self._committed

    def pause(self, paused: bool) -> None:
        """Keep records out of the buffer, where they count as lost, or let them in again. Raises: Closed; BpfError."""
        self._ours()
        with self._event as fd:
            self._pause(fd, paused)
            self._paused = paused

    def _pause(self, fd: int, paused: bool) -> None:
        backend = self._event.backend
        try:
            backend.ioctl(fd, ioctl_request(PERF_EVENT_IOC_PAUSE_OUTPUT, os.uname().machine), paused)
        except OSError as error:
            number = error.errno or 0
            raise BpfError(number, call="ioctl", subject=self._event.describe, backend=backend.name) from None

    def close(self) -> None:
        """Take the event out of the array and close it. The memory goes with the last view of it. Idempotent.

        A forked child only closes what it has: the array is its parent's, too. What lay in the memory can no longer be
        come by there, as far as it was not handed out.
        """
        if self._event.fd >= 0:
            if getpid() == self._process:
                try:
                    self.array.call(command.map_delete_elem, buffer_of(self.cpu.to_bytes(4, NATIVE)))
                except BpfError:  # the array was closed, which empties it, or somebody else emptied the slot
                    pass
            else:
                self._data.release()
                # Where the memory was something else may lie by now: it must never be unmapped.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._memory))
        self._event.close()
        if slots.get(self._slot) is self:
            del slots[self._slot]
        self._memory, self._control, self._data = None, _GONE, _GONE[:0]

    def _ours(self) -> None:
        if getpid() != self._process:
            describe, backend = self._event.describe, self._event.backend
            raise Closed(_EBADF, call="read", subject=describe, hint=FORKED, backend=backend.name)

    def _corrupt(self, what: str, position: int) -> FormatError:
        return FormatError(f"{self._event.describe}: the buffer is corrupt at position {position}: {what}", position)


class NewestSource(PerfSource):
    """The event of one CPU whose buffer keeps what is newest: the kernel writes from its end on down, over the oldest.

    What has come is copied while nothing is written, the oldest first, and then read from there. Positions count what
    was copied; the kernel knows of none.
    """

    def __init__(self, array: Handle, map_id: int, event: Handle, cpu: int, memory: memoryview, page_size: int) -> None:
        super().__init__(array, map_id, event, cpu, memory, page_size)
        self._seen = self._base = 0
        self._held = memoryview(b"")

    @property
    def available(self) -> int:
        """How many bytes were copied and not read, and how many more there are to be copied; 0 in a forked child."""
        if getpid() != self._process:
            return 0
        return self._base + len(self._held) - self._committed + min(self._come(), self._size)

    def _come(self) -> int:
        # How many bytes were written since the last copy.
        return (self._seen - self._control[_HEAD]) % _WRAP

    def take(self, most: int, order: Order) -> Span | None:
        """Return the records behind those taken before, at most so many; None where there are none.

        Raises: Closed in a forked child; FormatError.
        """
        self._ours()
        copied = self._next == self._base + len(self._held) and self._come() > 0
        if copied:
            self._copy(order)
        held, start = self._held, self._next - self._base
        if start == len(held):
            return None
        span = self._walked(held, start, len(held) - start, self._next, most)
        # Of what comes while this is read there is no end.
        span.more = span.more or (not copied and self._come() > 0)
        return span

    def commit(self, position: int, order: Order) -> None:  # noqa: ARG002  # what was copied needs none
        """Forget what is before the reader's position, and count the losses before it."""
        lost, left = self._passed(position) if self._losses else (self.lost, self._losses)
        self.lost, self._losses, self._committed = lost, left, position

    def _copy(self, order: Order) -> None:
        # Put what has come behind what was taken and not committed.
        with self._event as fd:
            stopped = True
            try:
                try:
                    self._pause(fd, True)
                    head = self._control[_HEAD]
                    order.loads()
                    come = (self._seen - head) % _WRAP
                    copied = self._joined(head % self._size, min(come, self._size))
                    order.loads()
                finally:
                    self._pause(fd, self._paused)
                    stopped = False
            finally:
                # An interrupt came before that was done. After another one here the next look copies, and does it.
                if stopped:
                    self._pause(fd, self._paused)
        self.high_water = max(self.high_water, len(copied))
        try:
            found = edges(copied.cast("Q"), cut=come > self._size)
        except FormatError as error:
            raise self._corrupt(str(error), self._base + len(self._held)) from None
        records = [copied[begin:end] for begin, end in pairwise(found)]
        held = memoryview(b"".join([self._held[self._committed - self._base :], *reversed(records)]))
        self._held, self._base, self._seen = held, self._committed, head
