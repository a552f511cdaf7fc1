"""How long a reader waits, and how another thread wakes it: an eventfd among the descriptors that it waits for.

Whoever waits holds nothing here: the reader closes it when nobody is left inside. Only a thread that wakes may come
when that is done, and finds it closed.
"""

from __future__ import annotations

import os
from math import inf, isnan
from time import monotonic

from rawbpf.errors import Closed
from rawbpf.map.handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

# Seconds that the kernel can be told to wait at once, and some more: who asks for longer waits again.
LONGEST = 1_000_000.0


class Wake:
    """A descriptor that `wake()` makes readable."""

    def __init__(self, backend: Backend) -> None:
        self._handle = Handle(backend, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._process = os.getpid()

    @property
    def fd(self) -> int:
        """The descriptor."""
        return self._handle.fd

    def wake(self) -> None:
        """Make the descriptor readable. A forked child, whose descriptor is its parent's too, does not."""
        if os.getpid() != self._process:
            return
        try:
            with self._handle as fd:
                os.eventfd_write(fd, 1)
        except Closed:
            pass

    def clear(self) -> None:
        """Make the descriptor readable no longer."""
        try:
            os.eventfd_read(self._handle.fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        self._handle.close()


def deadline(timeout: float | None) -> float | None:
    """Return when `timeout` seconds from now have passed, by the monotonic clock; None: never."""
    if timeout is None or timeout == inf:
        return None
    try:
        until = monotonic() + timeout
    except TypeError:
        raise TypeError(f"timeout: expected seconds or None, got {timeout!r}") from None
    if isnan(until):
        raise ValueError("timeout: expected seconds or None, got nan")
    return until
