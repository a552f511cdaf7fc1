"""A program's side of ring buffers, for whoever plays the program: what the helpers bpf_ringbuf_* do.

They return what the helpers return: a number that is negative for an errno.
Source: kernel/bpf/ringbuf.c (v6.18).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.guard import Guard
    from rawbpf.sim.map.ringbuf import SimRingBuf, SimUserRingBuf


class RingBuf:
    """A program's side of a ring buffer, from `Simulator.ringbuf`. It is for the map as it is until a restore."""

    def __init__(self, target: SimRingBuf, guard: Guard) -> None:
        self._target = target
        self._guard = guard

    def output(self, data: bytes, flags: int = 0) -> int:
        """Copy `data` into the ring: 0, -EAGAIN where it does not fit, -EINVAL for flags. As bpf_ringbuf_output."""
        with self._guard:
            return self._target.output(data, flags)

    def reserve(self, size: int) -> Record | None:
        """Return room for a record of `size` bytes; None where it does not fit. As bpf_ringbuf_reserve."""
        with self._guard:
            position = self._target.reserve(size)
        return None if position is None else Record(self._target, self._guard, position, size)

    def query(self, what: int) -> int:
        """Return what BPF_RB_AVAIL_DATA, RING_SIZE, CONS_POS or PROD_POS asks for. As bpf_ringbuf_query."""
        with self._guard:
            return self._target.query(what)


class Record:
    """Room for a record, which a program fills: `data` is its bytes in the ring.

    Until it is submitted or discarded, later records cannot be read.
    """

    def __init__(self, target: SimRingBuf, guard: Guard, position: int, size: int) -> None:
        self.data = target.record(position, size)
        self._target = target
        self._guard = guard
        self._position = position
        self._open = True

    def submit(self, flags: int = 0) -> None:
        """Hand the record to the reader. Raises: ValueError for the second time."""
        self._commit(flags, discard=False)

    def discard(self, flags: int = 0) -> None:
        """Let the reader pass over the record. Raises: ValueError for the second time."""
        self._commit(flags, discard=True)

    def _commit(self, flags: int, *, discard: bool) -> None:
        with self._guard:
            if not self._open:
                raise ValueError("the record was submitted or discarded before, which no verifier lets a program do")
            self._open = False
            self.data.release()
            self._target.commit(self._position, flags, discard=discard)


class UserRingBuf:
    """A program's side of a user ring buffer, from `Simulator.user_ringbuf`. It is for the map until a restore."""

    def __init__(self, target: SimUserRingBuf, guard: Guard) -> None:
        self._target = target
        self._guard = guard

    def drain(self, callback: Callable[[bytes], int], flags: int = 0) -> int:
        """Call `callback` with each record until it returns 1; return how many there were, or a negative errno.

        As bpf_user_ringbuf_drain.
        """
        with self._guard:
            return self._target.drain(callback, flags)
