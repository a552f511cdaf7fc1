"""Ring buffers: records from programs to user space.

Kernel side: kernel/bpf/ringbuf.c:ringbuf_map_alloc, ringbuf_map_mmap_kern (v6.12).
"""

from __future__ import annotations

from rawbpf.event.ring_memory import RingMap


class RingBufMap(RingMap):
    """Records from programs to user space; `max_entries` is the size in bytes, rounded up to a power of two pages.

    User space reads the records and moves the consumer's position, which alone of the memory can be
    written. Since: Linux 5.8.
    """

    __slots__ = ()

    map_type = "ringbuf"
    _consumes = True
