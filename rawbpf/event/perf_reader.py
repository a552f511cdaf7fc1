"""The reader of a perf event array: a buffer for each CPU, and how many records found no room there.

Opens the events, maps their buffers and puts them into the array. How events are read, and when, is the business of
`reader`, as for any buffer. Kernel side: kernel/events/core.c:perf_mmap (v6.12).
"""

from __future__ import annotations

import os
from operator import index

from rawbpf.codec.base import NATIVE
from rawbpf.errors import BpfError
from rawbpf.event.ending import readers_of
from rawbpf.event.perf_event import PerfEvent
from rawbpf.event.perf_event_array import SIZE_PER_CPU
from rawbpf.event.perf_source import FORKED, NewestSource, PerfSource, slots
from rawbpf.event.reader import Reader
from rawbpf.map.handle import Handle
from rawbpf.map.mapping import refused
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import map as command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.map.base import Map

    T = TypeVar("T", default=Any)

_EPERM, _ENOMEM, _ENODEV, _EINVAL = 1, 12, 19, 22
# Pointers to the pages of a buffer lie in one piece, of which the page allocator gives no larger one than 4 MiB.
# Source: kernel/events/ring_buffer.c:rb_alloc (v6.12)
_MOST_PAGES = 1 << 18
_LARGEST_CPU = (1 << 31) - 1
_HINTS = {
    _EPERM: "kernel.perf_event_mlock_kb and RLIMIT_MEMLOCK allow no more memory: take a smaller size_per_cpu",
    _ENOMEM: "there is no memory for that much: take a smaller size_per_cpu",
}


class PerfReader(Reader["T"]):
    """Events from the buffers of a perf event array, one for each CPU: `PerfEventArrayMap.reader` makes one.

    The events of a CPU come in their order; those of several CPUs take turns, many of one at a time.
    """

    __slots__ = ()

    def _buffers(self) -> list[PerfSource]:
        return [source for source, _ in self._sources if isinstance(source, PerfSource)]

    @property
    def cpus(self) -> list[int]:
        """The CPUs whose records are read: those that were online when the reader was made."""
        return sorted({source.cpu for source in self._buffers()})

    @property
    def lost(self) -> dict[int, int]:
        """By CPU, how many records found no room behind those that were delivered, as far as the kernel has said so."""
        found = dict.fromkeys(self.cpus, 0)
        for source in self._buffers():
            found[source.cpu] += source.lost
        return found

    def pause(self) -> None:
        """Keep new records out of all buffers until `resume()`: programs get ENOSPC, and the kernel counts a loss.

        Raises: Closed. Since: Linux 4.7. Source: kernel/events/core.c:_perf_ioctl
        """
        self._pause(True)

    def resume(self) -> None:
        """Let records in again. Raises: Closed."""
        self._pause(False)

    def _pause(self, paused: bool) -> None:
        self._check()
        for source in self._buffers():
            source.pause(paused)


def open_sources(
    m: Map[Any, Any],
    *,
    size_per_cpu: int = SIZE_PER_CPU,
    wakeup_events: int = 1,
    wakeup_watermark: int | None = None,
    overwrite: bool = False,
    cpus: Iterable[int] | None = None,
) -> list[PerfSource]:
    """Put an event with a buffer into the slot of each CPU, as `PerfEventArrayMap.reader` describes it.

    Raises: what that raises; then nothing is left open.
    """
    page = m._handle.backend.host.page_size
    _at_least_one(size_per_cpu=size_per_cpu, wakeup_events=wakeup_events)
    if wakeup_watermark is not None:
        _at_least_one(wakeup_watermark=wakeup_watermark)
        if wakeup_events != 1:
            raise ValueError("wakeup_events counts records, wakeup_watermark bytes: one of them says when to wake")
    pages = 1 << (-(-size_per_cpu // page) - 1).bit_length()
    if pages > _MOST_PAGES:
        raise ValueError(
            f"size_per_cpu={size_per_cpu}: a buffer of {pages * page >> 20} MiB for each CPU; the kernel makes none of "
            f"more than {_MOST_PAGES * page >> 20} MiB ({_MOST_PAGES} pages)"
        )
    if wakeup_watermark is not None and wakeup_watermark >= pages * page:
        raise ValueError(
            f"wakeup_watermark={wakeup_watermark}: a buffer of {pages * page} bytes never has more, and nobody "
            "would be woken"
        )
    wanted = list(range(m.max_entries)) if cpus is None else _numbers(cpus)
    map_id, backend = m.id, id(m._handle.backend)
    taken = [cpu for cpu in wanted if (backend, map_id, cpu) in slots]
    if taken:
        which = ", ".join(map(str, taken))
        raise RuntimeError(f"another reader of {m._handle.describe} has the slots of CPUs {which}: close it first")
    sources: list[PerfSource] = []
    try:
        for cpu in wanted:
            try:
                event = PerfEvent.bpf_output(
                    cpu,
                    wakeup_events=wakeup_events,
                    wakeup_watermark=wakeup_watermark,
                    write_backward=overwrite,
                    backend=m._handle.backend,
                )
            except BpfError as error:
                if cpus is None and error.errno == _ENODEV:
                    continue  # it is offline
                if cpus is None and error.errno == _EINVAL and sources:
                    break  # there are no more
                raise
            handle = Handle(event.backend, event.release())
            handle.describe = f"events of CPU {cpu} in {m._handle.describe}"
            sources.append(_placed(m._handle, map_id, handle, cpu, (1 + pages) * page, page, overwrite))
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def _placed(
    array: Handle, map_id: int, event: Handle, cpu: int, length: int, page_size: int, overwrite: bool
) -> PerfSource:
    try:
        with event as fd:
            try:
                memory = memoryview(event.backend.mmap(fd, length, 0, not overwrite))
            except OSError as error:
                raise refused(event, error, _HINTS.get(error.errno or 0, "")) from None
            key, value = (number.to_bytes(4, NATIVE) for number in (cpu, fd))
            array.call(command.map_update_elem, buffer_of(key), buffer_of(value), 0)
    except BaseException:
        event.close()
        raise
    return (NewestSource if overwrite else PerfSource)(array, map_id, event, cpu, memory, page_size)


def _numbers(cpus: Iterable[int]) -> list[int]:
    try:
        found = sorted({index(cpu) for cpu in cpus})
    except TypeError:
        raise TypeError(f"cpus: expected the numbers of CPUs, such as [0, 1], got {cpus!r}") from None
    if not found:
        raise ValueError("cpus: expected at least one")
    if found[-1] > _LARGEST_CPU:
        raise OverflowError(f"cpus: {found[-1]} is no number of a CPU")
    return found


def _at_least_one(**arguments: int) -> None:
    for name, value in arguments.items():
        if type(value) is not int:
            raise TypeError(f"{name}={value!r}: expected a number")
        if value < 1:
            raise ValueError(f"{name}={value}: expected at least 1")


# A forked child has no buffer: its readers are closed.
def _forsake() -> None:
    for source in list(slots.values()):
        for reader in readers_of(source.array):
            reader._forsake(FORKED)


os.register_at_fork(after_in_child=_forsake)
