"""Standard output that cannot hold the command up: a reader that has stopped reading does not stop Ctrl-C.

Everything is written here, byte by byte to the descriptor, so that nothing stays in a buffer which
the interpreter would try to write once more at its end.
"""

from __future__ import annotations

import errno
import os
import select
import sys

from rawbpf.cli.failure import Failure, discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

    from rawbpf.cli.stop import Stop

# A pipe that can be written takes this much at once without blocking: POSIX's PIPE_BUF.
_PIECE = 4096
_GRACE_MS = 1000


class Output:
    """Standard output as a text file: `write`, `flush`, `isatty`, `fileno`; `encoding` is the terminal's."""

    def __init__(self, stop: Stop) -> None:
        if sys.stdout is None:
            raise Failure("standard output is closed")
        self._fd = sys.stdout.fileno()
        self._was_terminal = os.isatty(self._fd)
        self._stop = stop
        self._pending = bytearray()
        self.encoding: str = sys.stdout.encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether a terminal shows it."""
        return os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Take `text`, which `flush` writes."""
        self._pending += text.encode(self.encoding, "backslashreplace")
        return len(text)

    def flush(self) -> None:
        """Write what was taken.

        Raises: BrokenPipeError when nobody reads any more; Failure when the disk is full, and when the
        command shall end but its reader takes nothing for a second.
        """
        rest = memoryview(bytes(self._pending))
        self._pending.clear()
        while rest:
            self._wait_for_room(len(rest))
            try:
                rest = rest[os.write(self._fd, rest[:_PIECE]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise
            except OSError as error:
                if error.errno == errno.EIO and self._was_terminal:
                    raise BrokenPipeError from error  # its window was closed
                raise Failure(f"cannot write to standard output: {error.strerror}") from error

    def _wait_for_room(self, left: int) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(self._stop.fileno(), select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(_GRACE_MS if self._stop.asked else None)]
            if self._fd in ready:
                return
            if not ready:
                raise Failure(f"nobody reads standard output: its last {left} bytes are lost")
            self._stop.drain()


def flush_printed(stdout: TextIO | None) -> None:
    """Flush what was printed on `stdout`. Raises: as `Output.flush`."""
    try:
        if stdout is not None:
            stdout.flush()
    except OSError as error:
        failed_write(error)


def failed_write(error: OSError) -> NoReturn:
    """Raise what `error`, of writing to `sys.stdout`, means: BrokenPipeError or Failure."""
    discard(1)
    if isinstance(error, BrokenPipeError):
        raise error
    raise Failure(f"cannot write to standard output: {error.strerror}") from error
