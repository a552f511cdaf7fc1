"""Ring buffers: records from programs to user space.

Kernel side: kernel/bpf/ringbuf.c:ringbuf_map_alloc, ringbuf_map_mmap_kern (v6.12).
"""

from __future__ import annotations

from rawbpf.event.ring_memory import RingMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, overload

    from rawbpf.codec import Description
    from rawbpf.event.reader import Reader
    from rawbpf.event.ring_source import RingSource


class RingBufMap(RingMap):
    """Records from programs to user space; `max_entries` is the size in bytes, rounded up to a power of two pages.

    User space reads the records and moves the consumer's position, which alone of the memory can be
    written. Since: Linux 5.8.
    """

    __slots__ = ()

    map_type = "ringbuf"
    _consumes = True

    if TYPE_CHECKING:

        @overload
        def reader(
            self,
            type: None = None,
            *,
            callback: Callable[[bytes], object] | None = None,
            on_lost: Callable[[int], object] | None = None,
        ) -> Reader[bytes]: ...
        @overload
        def reader(
            self,
            type: Description,
            *,
            callback: Callable[[Any], object] | None = None,
            on_lost: Callable[[int], object] | None = None,
        ) -> Reader[Any]: ...

    def reader(
        self,
        type: Description | None = None,
        *,
        callback: Callable[[Any], object] | None = None,
        on_lost: Callable[[int], object] | None = None,
    ) -> Reader[Any]:
        """Return a reader of the records, as events of `type`: bytes if None, else what `key=` of `Map.create` takes.

        `type` may also be the name of a struct that the map's object knows. A record may be longer than its type.
        `callback`: what `Reader.poll` calls with each event. `on_lost`: never called, as a ring buffer does not tell
        what found no room: its program sees that, and may count. A ring has one consumer's position, so one reader at a
        time is what makes sense.
        Raises: Closed; PermissionDenied (EACCES: the map was opened for reading only); BpfError (ENOMEM);
        SpecError, TypeError and ValueError for what is no type. Source: kernel/bpf/ringbuf.c:ringbuf_map_mmap_kern
        """
        from rawbpf.event.decode import decoder_for
        from rawbpf.event.reader import Reader

        decoder = decoder_for(self, type)
        return Reader(self, self._sources(), decoder, callback=callback, on_lost=on_lost)

    def _sources(self) -> Sequence[RingSource]:
        from rawbpf.event.ring_source import RingSource

        with self.memory() as memory:
            return [RingSource(self._handle, memory)]
