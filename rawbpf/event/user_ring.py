"""User ring buffers: records from user space to programs.

Kernel side: kernel/bpf/ringbuf.c:ringbuf_map_mmap_user, bpf_user_ringbuf_drain (v6.12).
"""

from __future__ import annotations

from rawbpf.event.ring_memory import RingMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec import Description
    from rawbpf.event.producer import UserRingProducer


class UserRingBufMap(RingMap):
    """Records from user space to programs; `max_entries` is the size in bytes, rounded up to a power of two pages.

    User space writes the records and moves the producer's position; the consumer's is the kernel's.
    Since: Linux 6.1.
    """

    __slots__ = ()

    map_type = "user_ringbuf"
    _consumes = False

    def producer(self, type: Description | None = None) -> UserRingProducer:  # noqa: A002  (as elsewhere)
        """Return what writes records: bytes or, with a `type`, its values.

        `type`: what `key=` of `Map.create` takes, or the name of a struct, as for `RingBufMap.reader`. The producer is
        to be closed.
        Raises: as `memory`; TypeError, ValueError and SpecError for what is no type, ValueError for one without bytes.
        """
        from rawbpf.event.producer import UserRingProducer

        return UserRingProducer(self, type)
