"""Ring buffers: records from programs to user space.

Kernel side: kernel/bpf/ringbuf.c:ringbuf_map_alloc, ringbuf_map_mmap_kern (v6.12).
"""

from __future__ import annotations

from rawbpf.event.ring_memory import RingMap
from rawbpf.uapi.constants import BPF_F_RB_OVERWRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, overload

    from rawbpf.event.decode import Types
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
            on_lost: Callable[[int, int], object] | None = None,
        ) -> Reader[bytes]: ...
        @overload
        def reader(
            self,
            type: Types,
            *,
            tag: str | None = None,
            callback: Callable[[Any], object] | None = None,
            on_lost: Callable[[int, int], object] | None = None,
        ) -> Reader[Any]: ...

    def reader(
        self,
        type: Types | None = None,
        *,
        tag: str | None = None,
        callback: Callable[[Any], object] | None = None,
        on_lost: Callable[[int, int], object] | None = None,
    ) -> Reader[Any]:
        """Return a reader of the records, as events of `type`: bytes if None, else what `key=` of `Map.create` takes.

        `type` may also be the name of a struct that the map's object knows. A record may be longer than its type.
        `tag`: the field that tells several types apart, which all have at the same place; it may be a path, such as
        `header.kind`. `type` is then a dict from its values (ints, enumerators, or their names) to types. Records with
        another value, and those that end before the field, are bytes.
        `callback`: what `Reader.poll` calls with each event. `on_lost(cpu, count)`: called for perf event arrays that
        are added; a ring buffer does not tell what found no room: its program sees that, and may count. A ring has one
        consumer's position: of several readers each record goes to one, mostly.
        Raises: Closed; PermissionDenied (EACCES: the map was opened for reading only); BpfError (ENOMEM);
        SpecError, TypeError, ValueError and OverflowError for what is no type, and types that `tag` cannot tell apart;
        ValueError for a map with BPF_F_RB_OVERWRITE, whose oldest records change while they are read.
        Source: kernel/bpf/ringbuf.c:ringbuf_map_mmap_kern
        """
        from rawbpf.event.decode import decoder_for
        from rawbpf.event.reader import Reader

        decoder = decoder_for(self, type, tag)
        return Reader(self, self._sources(), decoder, callback=callback, on_lost=on_lost)

    def _sources(self) -> Sequence[RingSource]:
        from rawbpf.event.ring_source import RingSource

        if self._shape.map_flags & BPF_F_RB_OVERWRITE:
            raise ValueError(
                f"{self._handle.describe} has BPF_F_RB_OVERWRITE: programs write over its oldest records, "
                "also while they are read; create it without that flag"
            )
        with self.memory() as memory:
            return [RingSource(self._handle, memory)]
