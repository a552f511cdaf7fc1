"""The memory of ring buffers: two positions, and the data between them.

Such a map has no elements. Readers and writers are built on what is here, elsewhere. How records lie
in the memory is in docs/explanation/ring-memory.md.
Kernel side: kernel/bpf/ringbuf.c:ringbuf_map_alloc, ringbuf_map_mmap_kern, ringbuf_map_mmap_user (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import Closed
from rawbpf.map.base import Map
from rawbpf.map.mapping import map_memory
from rawbpf.map.memory import cast_view
from rawbpf.syscall.lifetime import mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import ClassVar, Self

    from rawbpf.map.handle import Handle
    from rawbpf.syscall.map import CreateFields
    from rawbpf.syscall.protocol import Backend

_EBADF = 9
_U32 = (1 << 32) - 1
# The kernel's positions are of type unsigned long.
_POSITION = "L"


class RingMemory:
    """The mapped pages of a ring: both positions, and the data between them. Also a context manager.

    Positions count bytes from the ring's beginning on and never go back: the record at position p
    lies at `data[p % size]`. `data` has the ring twice in a row, so that a record that reaches beyond
    its end reads on as if there were none.
    """

    __slots__ = ("_describe", "_mark", "_views", "size")

    def __init__(self, handle: Handle, size: int, consumer: memoryview, producer: memoryview, data: memoryview) -> None:
        self.size = size
        self._describe = handle.describe
        self._mark = mark(handle.backend)
        self._views: tuple[memoryview, memoryview, memoryview] | None = (consumer, producer, data)

    def _view(self, index: int) -> memoryview:
        if self._views is None:
            raise Closed(_EBADF, call="use", subject=f"memory of {self._describe}", hint="it was closed; map it again")
        return self._views[index]

    @property
    def consumer(self) -> memoryview:
        """The consumer's position as a view of one number: `consumer[0]`. Raises: Closed."""
        return self._view(0)

    @property
    def producer(self) -> memoryview:
        """The producer's position as a view of one number: `producer[0]`. Raises: Closed."""
        return self._view(1)

    @property
    def data(self) -> memoryview:
        """The bytes of the ring, twice `size`. Raises: Closed."""
        return self._view(2)

    @property
    def available(self) -> int:
        """How many bytes lie between the positions, headers and records still being written included.

        Raises: Closed.
        """
        # Unsigned numbers of the kernel, which may have started again from 0.
        consumer = self.consumer
        return int(self.producer[0] - consumer[0]) % (1 << 8 * consumer.itemsize)

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._views is None

    def close(self) -> None:
        """Let go of the memory, which stays mapped as long as views of it are in use elsewhere. Idempotent."""
        self._views = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"consumer at {self.consumer[0]}, producer at {self.producer[0]}"
        return f"<RingMemory of {self._describe}: {self.size} bytes, {state}{self._mark}>"


class RingMap(Map[bytes, bytes]):
    """A map of which there is nothing but memory: what both kinds of ring have in common."""

    __slots__ = ()

    _default_key = _default_value = 0
    _entries_mean = "how many bytes of records it can hold"
    _consumes: ClassVar[bool]
    """Whether user space moves the consumer's position, or else the producer's, and writes the data."""

    @classmethod
    def _completed(cls, backend: Backend, fields: CreateFields, word: str) -> CreateFields:
        fields = super()._completed(backend, fields, word)
        fields["max_entries"] = _rounded(fields["max_entries"], backend.host.page_size)
        return fields

    def memory(self) -> RingMemory:
        """Map the ring's pages and return them; each call maps them anew.

        They stay mapped after `close()` of the map, until the memory is closed and the last view is gone.
        Raises: Closed; PermissionDenied (EACCES: opened for reading or writing only; EPERM: frozen);
        BpfError (ENOMEM). Source: kernel/bpf/ringbuf.c:ringbuf_map_mmap_kern, ringbuf_map_mmap_user
        """
        return _mapped(self._handle, self._shape.max_entries, self._consumes)


def _rounded(size: int, page: int) -> int:
    # The least power of two pages that holds `size` bytes. 0 stays what it is, an error that the kernel finds,
    # as does what would fit no u32.
    pages = -(-size // page)
    rounded = page << max(pages - 1, 0).bit_length()
    return rounded if size > 0 and rounded <= _U32 else size


def _mapped(handle: Handle, size: int, consumes: bool) -> RingMemory:
    page = handle.backend.host.page_size
    consumer = map_memory(handle, page, 0, writable=consumes)
    rest = map_memory(handle, page + 2 * size, page, writable=not consumes)
    width = ctypes.sizeof(ctypes.c_ulong)
    return RingMemory(
        handle,
        size,
        cast_view(consumer[:width], _POSITION),
        cast_view(rest[:width], _POSITION),
        rest[page:],
    )
