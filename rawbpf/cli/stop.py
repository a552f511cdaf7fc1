"""How the command ends: Ctrl-C, SIGTERM, SIGHUP, a deadline, or a reader that went away; each at once.

While it starts, a signal raises Stopped, so that even a long verification is left. Later a signal is
only noted and wakes whoever waits, so that there is a last refresh and everything is closed in order.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    Handler = Callable[[int, FrameType | None], object] | int | None

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_MS = 3_600_000
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end before it had started."""


class Stop:
    """Takes the signals that end the command, for a `with` block. `asked`: one came."""

    def __init__(self) -> None:
        self.asked = False
        self._raises = False
        self._resized = False
        self._previous: list[tuple[int, Handler]] = []

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _ENDING:
            # nohup means what it says; shells ignore SIGINT for whatever they start in the background.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handle(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in reversed(self._previous):
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return a descriptor that is readable once a signal came."""
        return self._reader

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Stopped where the block is when a signal comes, or at its beginning if one came before."""
        self._raises = True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._raises = False

    def watch_size(self) -> None:
        """Let `wait` return when the terminal's size has changed."""
        self._handle(signal.SIGWINCH, self._resize)

    def wait(self, until: float, fd: int) -> None:
        """Return when the monotonic clock shows `until`, a signal came, or the terminal's size changed.

        Raises: BrokenPipeError when nobody reads `fd`, the output, any more.
        """
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.register(fd, 0)
        while not self.asked and not self._resized:
            rest = until - time.monotonic()
            if rest <= 0:
                return
            for ready, events in poll.poll(min(rest * 1000, _LONGEST_MS)):
                if ready == self._reader:
                    self.drain()
                elif events & _GONE:
                    raise BrokenPipeError
        self._resized = False

    def drain(self) -> None:
        """Read what woke the waiting, so that the next wait is one."""
        try:
            while os.read(self._reader, 512):
                pass
        except BlockingIOError:
            pass

    def _handle(self, number: int, handler: Handler) -> None:
        self._previous.append((number, signal.signal(number, handler)))

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True
        if self._raises:
            self._raises = False
            raise Stopped

    def _resize(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._resized = True
