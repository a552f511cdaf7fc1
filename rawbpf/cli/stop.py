"""How the command ends: Ctrl-C, SIGTERM, SIGHUP, a deadline, or a reader that went away; each at once.

A signal is noted and wakes whoever waits, so that there is a last refresh and everything is closed in
order. Only while an object is read or loaded it raises Stopped, so that even a long verification is
left; but never inside an import, which would make something else of it (before Python 3.12 an error in
`__set_name__` comes out as RuntimeError) or half a module.

Little is imported here: until these handlers stand, Python's own deal with the signals.
"""

from __future__ import annotations

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType, TracebackType
    from typing import Self

    Handler = Callable[[int, FrameType | None], object] | int | None

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_MS = 3_600_000
_RETRY_SECONDS = 0.02
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end before it had started."""


class Stop:
    """Takes the signals that end the command, for a `with` block. `asked`: one came, `number` is the last one's.

    `resized`: the terminal's size changed since this was set to False.
    `for_good`: the process ends soon after the block, and no signal shall interrupt it any more.
    """

    def __init__(self, *, for_good: bool = False) -> None:
        self.asked = False
        self.number: int = signal.SIGINT
        self._for_good = for_good
        self._raises = False
        self.resized = False
        self._previous: list[tuple[int, Handler]] = []

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _ENDING:
            # nohup means what it says; shells ignore SIGINT for whatever they start in the background.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handle(number, self._ask)
        self._handle(signal.SIGALRM, self._ask_again)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in reversed(self._previous):
            signal.signal(number, signal.SIG_IGN if self._for_good and number in _ENDING else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return a descriptor that is readable once a signal came."""
        return self._reader

    def raising(self) -> Raising:
        """Return a block that is left by Stopped when a signal comes, at its beginning if one came before."""
        return Raising(self)

    def watch_size(self) -> None:
        """Let `wait` return when the terminal's size has changed."""
        self._handle(signal.SIGWINCH, self._resize)

    def wait(self, until: float, fd: int, others: Iterable[int] = ()) -> bool:
        """Return when the monotonic clock shows `until`, a signal came, or the terminal's size changed.

        Or when one of the descriptors `others` is readable: whether that is so is returned.
        Raises: BrokenPipeError when nobody reads `fd`, the output, any more.
        """
        poll = select.poll()
        for other in others:
            poll.register(other, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        poll.register(fd, 0)
        readable = False
        while not self.asked and not self.resized and not readable:
            rest = until - time.monotonic()
            if rest <= 0:
                break
            for ready, events in poll.poll(min(rest * 1000, _LONGEST_MS)):
                if ready == self._reader:
                    self.drain()
                elif ready != fd:
                    readable = True
                elif events & _GONE:
                    raise BrokenPipeError
        return readable

    def drain(self) -> None:
        """Read what woke the waiting, so that the next wait is one."""
        try:
            while os.read(self._reader, 512):
                pass
        except BlockingIOError:
            pass

    def _handle(self, number: int, handler: Handler) -> None:
        self._previous.append((number, signal.signal(number, handler)))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number != signal.SIGALRM:
            self.number = number
        if not self._raises:
            return
        if _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
            return
        self._raises = False
        raise Stopped

    def _ask_again(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._ask(number, frame)

    def _resize(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.resized = True


class Raising:
    """A block in which the signals of `stop` raise."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        self._stop._raises = True
        if self._stop.asked:
            self._stop._raises = False
            raise Stopped

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop._raises = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if error is not None and not isinstance(error, KeyboardInterrupt) and is_interruption(error):
            raise Stopped from error


def is_interruption(error: BaseException) -> bool:
    """Return whether `error` is what a signal came to be on its way: a KeyboardInterrupt, or made of one."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, KeyboardInterrupt):
            return True
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return False


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
