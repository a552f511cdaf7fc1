"""Arrays of perf events: by CPU, those that programs write records to; or counters that programs read.

The kernel gives nothing back of what is stored. Kernel side: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr,
perf_event_fd_array_release (v6.12).
"""

from __future__ import annotations

from rawbpf.map.slot import SlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Unpack, overload

    from rawbpf.codec.descriptor import HasFileno  # noqa: F401  (in the string of the base)
    from rawbpf.event.decode import Types
    from rawbpf.event.perf_reader import PerfReader
    from rawbpf.event.perf_source import PerfSource
    from rawbpf.event.source import Buffers

_REFUSALS = {9: "it is no perf event"}  # EBADF
SIZE_PER_CPU = 256 << 10
"""Bytes of the buffer of a CPU, unless a reader is made with another number."""


class PerfEventArrayMap(SlotMap[int, "HasFileno"]):
    """An array of perf events, which programs read or write to: `m[cpu] = event`, `del m[cpu]`.

    `max_entries` is the number of possible CPUs unless given. An event stays in the array, also when
    its own descriptor is closed, until it is replaced or deleted, or until the descriptor of the map by
    which it was stored is closed; with BPF_F_PRESERVE_ELEMS in `flags` that last keeps it.
    """

    __slots__ = ()

    map_type = "perf_event_array"
    _index_keys = True
    _default_key = "u32"
    _entries_by_cpu = True
    _noun = "a perf event"
    _refusals = _REFUSALS

    if TYPE_CHECKING:

        @overload
        def reader(
            self,
            type: None = None,
            *,
            callback: Callable[[bytes], object] | None = None,
            on_lost: Callable[[int, int], object] | None = None,
            size_per_cpu: int = SIZE_PER_CPU,
            wakeup_events: int = 1,
            wakeup_watermark: int | None = None,
            overwrite: bool = False,
            cpus: Iterable[int] | None = None,
        ) -> PerfReader[bytes]: ...
        @overload
        def reader(
            self,
            type: Types,
            *,
            tag: str | None = None,
            callback: Callable[[Any], object] | None = None,
            on_lost: Callable[[int, int], object] | None = None,
            size_per_cpu: int = SIZE_PER_CPU,
            wakeup_events: int = 1,
            wakeup_watermark: int | None = None,
            overwrite: bool = False,
            cpus: Iterable[int] | None = None,
        ) -> PerfReader[Any]: ...

    def reader(
        self,
        type: Types | None = None,
        *,
        tag: str | None = None,
        callback: Callable[[Any], object] | None = None,
        on_lost: Callable[[int, int], object] | None = None,
        size_per_cpu: int = SIZE_PER_CPU,
        wakeup_events: int = 1,
        wakeup_watermark: int | None = None,
        overwrite: bool = False,
        cpus: Iterable[int] | None = None,
    ) -> PerfReader[Any]:
        """Put an event of its own into the slot of each CPU that is online, and return a reader of what programs write.

        `type`: bytes if None, else what `key=` of `Map.create` takes, or the name of a struct that the map's object
        knows; `tag`: the field that tells several types apart, as for `RingBufMap.reader`. The kernel pads records to
        4 bytes less than a multiple of 8, and says only how long they are with that: bytes have up to 7 more than the
        program wrote, what has a type is cut to its size. A program writes at most 65516 bytes at a time: more are
        lost without being counted, or make the buffer corrupt.
        `callback`: what `Reader.poll` calls with each event. `on_lost(cpu, count)`: called when records found no room.
        `size_per_cpu`: bytes of each buffer, rounded up to a power of two pages, at most 262144 of them. Who waits is
        woken by every `wakeup_events` records of a CPU, or instead by `wakeup_watermark` bytes, whether or not others
        are there already; a buffer that is full before it has more than those wakes nobody. `overwrite`: the newest
        records are kept and the oldest written over, unread and uncounted.
        `cpus`: those to read, also such that are offline, which raises. A CPU that comes online later has no event:
        programs there get ENOENT. The reader's close takes the events out of the array.
        Raises: Closed; BpfError (ENODEV, EINVAL: no such CPU; ENOMEM); PermissionDenied (EPERM, EACCES: not without
        CAP_PERFMON, or more memory than may be locked); IndexOutOfRange; SpecError, TypeError, ValueError and
        OverflowError for wrong arguments; RuntimeError where another reader has one of the slots. Since: Linux 4.4;
        `overwrite` since 4.7.
        Source: kernel/events/core.c:perf_mmap
        """
        from rawbpf.event.decode import decoder_for
        from rawbpf.event.perf_reader import PerfReader, open_sources

        decoder = decoder_for(self, type, tag)
        sources = open_sources(
            self,
            size_per_cpu=size_per_cpu,
            wakeup_events=wakeup_events,
            wakeup_watermark=wakeup_watermark,
            overwrite=overwrite,
            cpus=cpus,
        )
        return PerfReader(self, sources, decoder, callback=callback, on_lost=on_lost)

    def _sources(self, **buffers: Unpack[Buffers]) -> Sequence[PerfSource]:
        from rawbpf.event.perf_reader import open_sources

        return open_sources(self, **buffers)
