"""Ctrl-C waits until what was opened has an owner.

Between the system call that attaches or makes something and the object that closes it there are a few bytecodes, at
each of which Python may run a signal handler that raises: the program would then stay attached, or the map open, for
as long as the process lives. Signals are held back for that long and delivered right after; no handler
is touched. In a process with other threads the kernel may choose one of those to receive the
signal, which defers nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeVar

    from rawbpf.syscall.descriptor import Descriptor

    D = TypeVar("D", bound=Descriptor)


class DeferredSignals:
    """Hold back the signals of this thread for a `with` block."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        import signal

        # Blocking the signals of faults would turn a crash into silence.
        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
        # pthread_sigmask() also runs the handlers of signals that came before, and those may raise.
        self._before: set[signal.Signals | int] = set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import signal

        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def owned(make: Callable[[], D]) -> D:
    """Return what `make` returns; where a signal that came meanwhile raises, close that first."""
    made: D | None = None
    try:
        with DeferredSignals():
            made = make()
    except BaseException:
        if made is not None:
            made.close()
        raise
    return made
