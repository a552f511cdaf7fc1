"""Perf events of the simulated kernel: software ones, of which the kind that programs write records to has a buffer.

Nothing happens that could be counted: counters stay 0. Source: kernel/events/core.c (v6.12).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from errno import E2BIG, EBADF, EINVAL, ENODEV, ENOENT, ENOSPC, ENOTTY, EOPNOTSUPP, ESRCH
from struct import pack
from weakref import ref

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.file import Content
from rawbpf.sim.perf_ring import PerfRing
from rawbpf.sim.program import program_of
from rawbpf.uapi import constants as c
from rawbpf.uapi import perf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap

    from rawbpf.sim.file import File
    from rawbpf.sim.kernel import Kernel

_ATTR = perf.PERF_EVENT_ATTR
_VERSION_0 = 64
_SOFTWARE_EVENTS = 12
_OPEN_FLAGS = 15
_SAMPLE_IDENTIFIER = 1 << 16
_SAMPLE_END = 1 << 25
_MISC_KERNEL = 1
_RESET, _ID = 0x2403, 0x80082407


_DISABLED = perf.flag_word(disabled=1)
_INHERIT = perf.flag_word(inherit=1)
_BY_WATERMARK = perf.flag_word(watermark=1)
_ALL_WITH_ID = perf.flag_word(sample_id_all=1)
_BACKWARD = perf.flag_word(write_backward=1)


# The fields of a sample before its raw bytes, in order; others would need what no program here has.
_BEFORE_RAW = (
    _SAMPLE_IDENTIFIER,
    perf.PERF_SAMPLE_IP,
    perf.PERF_SAMPLE_TID,
    perf.PERF_SAMPLE_TIME,
    perf.PERF_SAMPLE_ADDR,
    perf.PERF_SAMPLE_ID,
    perf.PERF_SAMPLE_STREAM_ID,
    perf.PERF_SAMPLE_CPU,
    perf.PERF_SAMPLE_PERIOD,
)
_WITH_SAMPLE_ID = (
    perf.PERF_SAMPLE_TID,
    perf.PERF_SAMPLE_TIME,
    perf.PERF_SAMPLE_ID,
    perf.PERF_SAMPLE_STREAM_ID,
    perf.PERF_SAMPLE_CPU,
    _SAMPLE_IDENTIFIER,
)


class SimPerfEvent(Content):
    """One perf event, of one CPU or one thread.

    Raises: Refused (E2BIG, EINVAL, ENOENT, ENODEV, ESRCH, EBADF; EOPNOTSUPP: samples that are not simulated).
    Source: perf_event_open, perf_copy_attr.
    """

    def __init__(self, kernel: Kernel, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> None:
        if flags & ~_OPEN_FLAGS:
            raise Refused(EINVAL)
        attr = _checked(attr)
        word = _ATTR.integer(attr, "flags")
        sample_type = _ATTR.integer(attr, "sample_type")
        if sample_type >= _SAMPLE_END or (pid == -1 and cpu == -1):
            raise Refused(EINVAL)
        if group_fd != -1:
            event_of(kernel, group_fd)
        if pid > 0 and not os.path.exists(f"/proc/{pid}"):
            raise Refused(ESRCH)
        if cpu >= kernel.host.possible_cpus:
            raise Refused(EINVAL)
        config = _ATTR.integer(attr, "config")
        if _ATTR.integer(attr, "type") != perf.PERF_TYPE_SOFTWARE or config >= _SOFTWARE_EVENTS:
            raise Refused(ENOENT)
        if cpu < -1:
            raise Refused(ENODEV)
        if sample_type & ~(sum(_BEFORE_RAW) | perf.PERF_SAMPLE_RAW):
            raise Refused(EOPNOTSUPP)
        self._kernel = kernel
        self._sample_type = sample_type
        self._sample_id_all = bool(word & _ALL_WITH_ID)
        self._backward = bool(word & _BACKWARD)
        self._watermark = 0
        self._wakeup_events = 0
        if word & _BY_WATERMARK:
            self._watermark = _ATTR.integer(attr, "wakeup_watermark")
        else:
            self._wakeup_events = _ATTR.integer(attr, "wakeup_events")
        self._events = 0
        self._ring: PerfRing | None = None
        self._mappings: list[ref[mmap]] = []
        self._file: File | None = None
        self.cpu = cpu
        kernel.last_event_id += 1
        self.id = kernel.last_event_id
        self.is_output = config == perf.PERF_COUNT_SW_BPF_OUTPUT
        self.enabled = not word & _DISABLED
        self.inherit = bool(word & _INHERIT)

    def open(self) -> int:
        """Return a descriptor of the event. Raises: OSError (EMFILE)."""
        fd = self._kernel.files.open(self)
        self._file = self._kernel.files.get(fd, SimPerfEvent)
        return fd

    def read(self, size: int) -> bytes:
        """Return the counter. Raises: Refused (ENOSPC: `size` is too small). Source: perf_read."""
        if size < 8:
            raise Refused(ENOSPC)
        return bytes(8)

    def polled(self, fd: int) -> None:
        """Note that poll(2) reported the event, which it does once a wakeup. Source: perf_poll."""
        if self._file is not None and self._file.signalled:
            self._file.signalled = False
            with suppress(BlockingIOError):
                os.read(fd, 1)

    def map_buffer(self, length: int, offset: int, writable: bool) -> mmap:
        """Map the buffer, which is made by the first mapping and gone with the last.

        Raises: Refused (EINVAL: not one page and a power of two of pages, or another size than it has).
        Source: perf_mmap.
        """
        page = self._kernel.host.page_size
        pages = -(-length // page) - 1
        if offset or pages < 0 or pages & (pages - 1) or (self.inherit and self.cpu == -1):
            raise Refused(EINVAL)
        self._mappings = [each for each in self._mappings if (found := each()) is not None and not found.closed]
        if self._ring is None or not self._mappings:
            self._ring = PerfRing(pages, page, writable, self._backward, self._watermark)
        if self._ring.size != pages * page:
            raise Refused(EINVAL)
        mapping = self._ring.memory.map(length, 0, writable)
        self._mappings.append(ref(mapping))
        return mapping

    def ioctl(self, request: int, arg: int) -> int:
        """ioctl(2) on the event. Raises: Refused (ENOTTY: an unknown request; ...). Source: _perf_ioctl."""
        request = _GENERIC.get(request, request)
        if request in (perf.PERF_EVENT_IOC_ENABLE, perf.PERF_EVENT_IOC_DISABLE):
            self.enabled = request == perf.PERF_EVENT_IOC_ENABLE
        elif request == perf.PERF_EVENT_IOC_PAUSE_OUTPUT:
            if self._ring is None or not self._ring.size:
                raise Refused(EINVAL)
            self._ring.paused = bool(arg)
        elif request == _ID:
            self._kernel.memory.write(arg, pack("=Q", self.id))
        elif request == perf.PERF_EVENT_IOC_SET_BPF:
            # Source: perf_event_set_bpf_handler; what would be attached is refused.
            if program_of(self._kernel, arg).type != c.BPF_PROG_TYPE_PERF_EVENT:
                raise Refused(EINVAL)
            raise Refused(ENOTSUPP)
        elif request != _RESET:
            raise Refused(ENOTTY)
        return 0

    def output(self, data: bytes, cpu: int) -> None:
        """Write one sample with `data` as its raw bytes, and wake who polls when it is time.

        Raises: Refused (ENOSPC: there is no room, or no buffer; the next record will say how many were lost).
        Source: perf_event_output, __perf_output_begin.
        """
        ring = self._ring
        if ring is None:
            raise Refused(ENOSPC)
        record = self._sample(data, cpu)
        if ring.lost:
            tail = self._fields(_WITH_SAMPLE_ID, cpu) if self._sample_id_all else b""
            body = pack("=QQ", self.id, ring.lost) + tail
            record = _record(perf.PERF_RECORD_LOST, 0, body) + record
        if not ring.has_room(len(record)):
            ring.lost += bool(ring.size)
            raise Refused(ENOSPC)
        ring.lost = 0
        wake = ring.write(record)
        if self._wakeup_events:
            self._events += 1
            if self._events >= self._wakeup_events:
                self._events -= self._wakeup_events
                ring.woken_at += 1
                wake = True
        if wake and self._file is not None:
            self._file.signal()

    def _sample(self, data: bytes, cpu: int) -> bytes:
        body = self._fields(_BEFORE_RAW, cpu)
        if self._sample_type & perf.PERF_SAMPLE_RAW:
            # The size counts the padding behind the bytes.
            size = (len(data) + 4 + 7 & ~7) - 4
            body += pack("=I", size) + data.ljust(size, b"\0")
        return _record(perf.PERF_RECORD_SAMPLE, _MISC_KERNEL, body)

    def _fields(self, order: tuple[int, ...], cpu: int) -> bytes:
        number = pack("=Q", self.id)
        values = {
            perf.PERF_SAMPLE_TID: pack("=II", os.getpid(), threading.get_native_id()),
            perf.PERF_SAMPLE_TIME: pack("=Q", time.monotonic_ns()),
            perf.PERF_SAMPLE_CPU: pack("=II", cpu, 0),
            perf.PERF_SAMPLE_ID: number,
            perf.PERF_SAMPLE_STREAM_ID: number,
            _SAMPLE_IDENTIFIER: number,
        }
        return b"".join(values.get(field, bytes(8)) for field in order if self._sample_type & field)


_GENERIC = {other: request for request, other in perf.PERF_EVENT_IOC_POWERPC.items()}


def _record(kind: int, misc: int, body: bytes) -> bytes:
    return pack("=IHH", kind, misc, 8 + len(body)) + body


def _checked(attr: bytes) -> bytes:
    # Source: perf_copy_attr.
    size = _ATTR.integer(attr.ljust(_VERSION_0, b"\0"), "size") or _VERSION_0
    if not _VERSION_0 <= size <= 4096:
        raise Refused(E2BIG)
    attr = attr[:size].ljust(size, b"\0")
    if attr[_ATTR.size :].strip(b"\0"):
        raise Refused(E2BIG)
    return attr


def event_of(kernel: Kernel, fd: int) -> SimPerfEvent:
    """Return the event behind `fd`. Raises: Refused (EBADF: closed, or no perf event). Source: perf_event_get."""
    file = kernel.files.find(fd)
    if file is None or not isinstance(file.content, SimPerfEvent):
        raise Refused(EBADF)
    return file.content
