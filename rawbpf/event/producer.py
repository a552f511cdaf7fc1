"""User space's side of user ring buffers: threads that take turns, waiting for room, values as records.

How records are written is in `ring_writer`.
Kernel side: kernel/bpf/ringbuf.c:bpf_user_ringbuf_drain, ringbuf_map_poll_user (v6.12).
"""

from __future__ import annotations

import os
from _thread import RLock
from time import monotonic
from weakref import WeakValueDictionary

from rawbpf.errors import MapFull
from rawbpf.event.decode import decoder_for
from rawbpf.event.order import Order
from rawbpf.event.ring_writer import RingWriter, room_for
from rawbpf.event.wake import LONGEST, deadline
from rawbpf.syscall.descriptor import Descriptor
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi.constants import BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import TypeVar

    from rawbpf.codec import Codec, Description
    from rawbpf.event.ring_writer import Reserved
    from rawbpf.event.user_ring import UserRingBufMap

    R = TypeVar("R")
    Batch = tuple[int, Callable[[int], int], Callable[[RingWriter, int], int]]

_ENOSPC = 28
# What a program's callback is handed is a dynptr. Source: kernel/bpf/helpers.c:bpf_dynptr_check_size (v6.12)
_LARGEST = (1 << 24) - 1


class UserRingProducer(Descriptor):
    """Writes records into a user ring buffer, which programs take by bpf_user_ringbuf_drain(): from `m.producer()`.

    What does not fit is refused with MapFull: at once or, with a `timeout`, when so many seconds brought no room
    (None: there is no limit). Threads may write to one ring at the same time, by one producer or by several.
    Nothing keeps other processes from writing to it, which destroys what is in it. A signal handler that interrupted
    a writer cannot write to the same ring.

    It has a descriptor of its own, so that it may be used when the map is closed. That is writable (poll, epoll,
    asyncio's `add_writer`) unless the ring is full to the last byte. Also a context manager.
    """

    __slots__ = ("_codec", "_describe", "_largest", "_reserved", "_turn", "_wakers", "_writer")

    def __init__(self, m: UserRingBufMap, type: Description | None = None) -> None:  # noqa: A002  (as elsewhere)
        codec = decoder_for(m, type).codec
        if codec is not None and not codec.size:
            raise ValueError(f"{codec.name} has no bytes to tell records by: leave type= out")
        handle = m._handle
        turn = _turn_of(m)
        with m.memory() as memory:
            writer = RingWriter(memory, turn.order, handle.describe)
        with handle as fd:
            super().__init__(handle.backend, handle.backend.dup(fd))
        self._codec = codec
        self._largest = min(writer.size - BPF_RINGBUF_HDR_SZ, _LARGEST)
        self._describe = handle.describe
        self._turn = turn
        self._writer: RingWriter | None = writer
        # What is being written.
        self._reserved: Reserved = {}
        self._wakers: list[int] = []

    @property
    def free(self) -> int:
        """How many bytes are free; a record takes 8 more than it has, rounded up to a multiple of 8.

        Raises: Closed; FormatError where the positions in the ring are impossible.
        """
        return self._open().free()

    def post(self, record: object, *, timeout: float | None = 0.0) -> None:
        """Write one record: bytes, or a value of the producer's type.

        Raises: MapFull (ENOSPC) where it does not fit; ValueError for one that never would; what the type's codec
        raises; Closed; FormatError where the positions in the ring are impossible.
        """
        raw = _octets(record) if self._codec is None else self._codec.pack(record)
        size = len(raw)
        if size > self._largest:
            self._check(size)
        while not self._turn.alone((self._writer or self._open()).put, raw):
            self._await_room(size, timeout, "post")

    def post_many(self, records: Iterable[object], *, timeout: float | None = 0.0) -> None:
        """Write records in their order, as many at a time as there is room for.

        `records`: bytes, or values of the producer's type; with a type, also memory in which values lie side by side:
        bytes, an array, a numpy array. All sizes are checked before the first record is written. `timeout`
        begins anew whenever some records were written.
        Raises: MapFull (ENOSPC), whose `applied` says how many were written; else as `post`.
        """
        count, size_of, put = self._split(records) if self._codec is None else self._pack(records, self._codec)
        done = 0
        while done < count:
            written = self._turn.alone(put, self._open(), done)
            if not written:
                self._await_room(size_of(done), timeout, "post_many", done)
            done += written

    def reserve(self, size: int | None = None, *, timeout: float | None = 0.0) -> memoryview:
        """Return the memory of a new record, to be written to until `submit()` or `discard()` takes it back.

        `size`: its bytes; those of the producer's type unless given. It holds what was there before. Meanwhile
        programs see neither this record nor any later one.
        A Ctrl-C may come before the caller has it: `close()` then gives it back.
        Raises: as `post`.
        """
        return self._reserve(size, timeout)

    def _reserve(self, size: int | None, timeout: float | None, context: RecordContext | None = None) -> memoryview:
        if size is None:
            if self._codec is None:
                raise TypeError("reserve() takes a size, where the producer has no type")
            size = self._codec.size
        self._check(size)
        while (view := self._turn.alone(self._take, size, context)) is None:
            self._await_room(size, timeout, "reserve")
        return view

    def submit(self, view: memoryview) -> None:
        """Hand a record from `reserve()` to programs; its memory is released.

        Views that numpy or others have of it go on to exist, and must not be written to.
        Raises: ValueError for what `reserve()` did not return, and for the second time; Closed.
        """
        self._turn.alone(self._commit, view, 0)

    def discard(self, view: memoryview) -> None:
        """Let programs pass over a record from `reserve()`. Raises: as `submit`."""
        self._turn.alone(self._commit, view, BPF_RINGBUF_DISCARD_BIT)

    def record(self, size: int | None = None, *, timeout: float | None = 0.0) -> RecordContext:
        """Return a context manager that reserves a record: `with producer.record(16) as view:`.

        At the end of the block it submits the record, or discards it where an exception ends the block; what the block
        submitted or discarded itself, it leaves alone.
        Raises: as `reserve`, at the beginning of the block.
        """
        return RecordContext(self, size, timeout)

    def wait(self, timeout: float | None = None, *, size: int = 0) -> bool:
        """Wait until a record of `size` bytes fits, for at most `timeout` seconds; return whether it does.

        Programs give room back record by record, and wake who waits when bpf_user_ringbuf_drain() returns, unless
        they call it with BPF_RB_NO_WAKEUP.
        Raises: ValueError for a size that never fits; Closed, also where another thread closes the producer meanwhile.
        """
        self._check(size)
        return self._wait(room_for(size), timeout)

    def close(self) -> None:
        """Discard what was reserved and not submitted, and let go of the ring; what was posted stays. Idempotent."""
        turn: Turn | None = getattr(self, "_turn", None)
        if turn is None:  # half made
            return
        with turn.lock:
            for view, _, _ in list(self._reserved.values()):
                self._commit(view, BPF_RINGBUF_DISCARD_BIT)
            super().close()
            self._writer = None
            for waker in self._wakers:
                os.eventfd_write(waker, 1)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self._fd}"
        return f"<UserRingProducer of {self._describe}: {state}{mark(self._backend)}>"

    def _open(self) -> RingWriter:
        writer = self._writer
        if writer is None:
            self.fileno()  # which raises Closed
            raise AssertionError("what has no memory has no descriptor either")
        return writer

    def _check(self, size: int, what: str = "the record") -> None:
        if not hasattr(size, "__index__"):
            raise TypeError(f"size: expected a number of bytes, got {size!r}")
        if not 0 <= size <= self._largest:
            raise ValueError(f"{what} has {size} bytes: {self._describe} takes records of 0 to {self._largest}")

    # What post_many() writes: how many records, the size of each, and what writes some from one of them on.
    def _split(self, records: Iterable[object]) -> Batch:
        if _memory_of(records) is not None:
            raise TypeError("expected records one by one: to tell those side by side apart, give the producer a type=")
        pieces = [_octets(each) for each in _one_by_one(records)]
        sizes = set(map(len, pieces))
        if sizes and max(sizes) > self._largest:
            for index, piece in enumerate(pieces):
                self._check(len(piece), f"record {index}")
        put = RingWriter.put_alike if len(sizes) == 1 else RingWriter.put_mixed
        return len(pieces), lambda index: len(pieces[index]), lambda writer, first: put(writer, pieces, first)

    def _pack(self, records: Iterable[object], codec: Codec[object]) -> Batch:
        size = codec.size
        self._check(size)
        block = _memory_of(records)
        if block is None:
            block = memoryview(codec.pack_many(_one_by_one(records)))
        count, rest = divmod(len(block), size)
        if rest:
            raise ValueError(f"expected values of {size} bytes side by side ({codec.name}), got {len(block)} bytes")
        return count, lambda _: size, lambda writer, first: writer.put_block(block, size, first)

    def _await_room(self, size: int, timeout: float | None, call: str, applied: int | None = None) -> None:
        room = room_for(size)
        if self._wait(room, timeout):
            return
        hint = f"the next record takes {room} bytes and {self.free} are free, until a program drains the ring"
        error = MapFull(_ENOSPC, call=call, subject=self._describe, hint=hint, backend=self._backend.name)
        error.applied = applied
        raise error

    def _wait(self, room: int, timeout: float | None) -> bool:
        if self._open().free() >= room:
            return True
        until = deadline(timeout)
        if until is not None and until <= monotonic():
            return False
        from select import EPOLLET, EPOLLIN, EPOLLOUT, epoll

        waker = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            with epoll() as poller:
                with self._turn.lock:
                    # A ring with any room at all is writable: what counts is that somebody woke us (EPOLLET).
                    poller.register(self.fileno(), EPOLLIN | EPOLLOUT | EPOLLET)
                    poller.register(waker, EPOLLIN)
                    self._wakers.append(waker)
                while self._open().free() < room:
                    left = None if until is None else until - monotonic()
                    if left is not None and left <= 0:
                        return False
                    poller.poll(left if left is None else min(left, LONGEST))
                return True
        finally:
            with self._turn.lock:
                if waker in self._wakers:
                    self._wakers.remove(waker)
                os.close(waker)

    def _take(self, size: int, context: RecordContext | None) -> memoryview | None:
        writer = self._open()
        taken = writer.reserve(size)
        if taken is None:
            return None
        view, at = taken
        if context is not None:
            context._view = view
        # Known to close(), and to the context, before programs can come to it.
        writer.publish(view, at, self._reserved)
        return view

    def _commit(self, view: memoryview, bits: int) -> None:
        writer, key = self._open(), id(view)
        if key not in self._reserved:
            raise ValueError("expected what reserve() of this producer returned, neither submitted nor discarded yet")
        try:
            view.release()
        except BufferError:
            pass  # others look at it, who were told
        writer.commit(key, bits, self._reserved)


class RecordContext:
    """A record of `UserRingProducer.record`, which is reserved for a `with` block."""

    __slots__ = ("_producer", "_size", "_timeout", "_view")

    def __init__(self, producer: UserRingProducer, size: int | None, timeout: float | None) -> None:
        self._producer = producer
        self._size = size
        self._timeout = timeout
        self._view: memoryview | None = None

    def __enter__(self) -> memoryview:
        try:
            return self._producer._reserve(self._size, self._timeout, self)
        except BaseException:  # an interrupt may come when it is reserved already
            self._end(self._producer.discard)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(self._producer.submit if kind is None else self._producer.discard)
        except BaseException:
            self._end(self._producer.discard)
            raise

    def _end(self, how: Callable[[memoryview], None]) -> None:
        view = self._view
        if view is not None and id(view) in self._producer._reserved:
            how(view)


class Turn:
    """Whose turn it is to write to a ring, among the threads of this process."""

    __slots__ = ("__weakref__", "_taken", "lock", "order")

    def __init__(self) -> None:
        self.lock = RLock()
        self.order = Order()
        self._taken = False

    def alone(self, write: Callable[..., R], *arguments: object) -> R:
        """Call `write` while nobody else writes. Raises: RuntimeError in a signal handler that interrupted a writer."""
        with self.lock:
            if self._taken:
                raise RuntimeError("a signal handler cannot write to a ring while it interrupts somebody who does")
            try:
                self._taken = True
                return write(*arguments)
            finally:
                self._taken = False


# By backend and the map's id. Whoever has a turn keeps the backend alive.
_turns: WeakValueDictionary[tuple[int, int], Turn] = WeakValueDictionary()
_turns_lock = RLock()


def _turn_of(m: UserRingBufMap) -> Turn:
    with _turns_lock:
        return _turns.setdefault((id(m._handle.backend), m.id), Turn())


def _octets(record: object) -> bytes | memoryview:
    if type(record) is bytes:
        return record
    octets = _memory_of(record)
    if octets is None:
        what = type(record).__name__
        raise TypeError(f"expected bytes, got {what}: for values, give the producer a type=")
    return octets


def _one_by_one(records: Iterable[object]) -> Iterable[object]:
    try:
        iter(records)
    except TypeError:
        what = type(records).__name__
        raise TypeError(f"records: expected several, such as a list of them, got {what}: post() writes one") from None
    return records


def _memory_of(value: object) -> memoryview | None:
    # The bytes of what has the buffer protocol, None for all else.
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # what is none is what is asked
    except TypeError:
        return None
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        # Gaps, or numpy's structs.
        return memoryview(view.tobytes())
