"""One call at a time: other threads, signals and forks wait until the state is whole again.

A kernel delivers signals when a call returns, and so does this one: an exception of a handler, such as
KeyboardInterrupt, or a call that a handler makes must not meet a table that is half changed. With several
threads a signal that another one takes can still run its handler in the main thread at once.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what the module `signal` wraps in enums, at ten times the cost
import os
from _thread import RLock
from weakref import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# What the running code itself causes cannot wait.
_OWN = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
_OTHERS = frozenset(signal.valid_signals()) - _OWN


class Guard:
    """A `with` block that one thread is in at a time; `depth` is above 1 where a finaliser of this thread calls."""

    __slots__ = ("__weakref__", "_lock", "_masks", "depth")

    def __init__(self) -> None:
        self._lock = RLock()
        self._masks: list[set[int]] = []
        self.depth = 0
        _guards.add(self)

    def __enter__(self) -> Guard:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _OTHERS)
        except BaseException:
            # Of the handler of a signal that had come before: they are blocked by now.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        self._lock.acquire()
        self._masks.append(mask)
        self.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.depth -= 1
        mask = self._masks.pop()
        self._lock.release()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_guards: WeakSet[Guard] = WeakSet()
# One fork at a time; what each waits for, the innermost last (a signal handler may fork in the middle of a fork).
_forking = RLock()
_held: list[list[Guard]] = []


def _before_fork() -> None:
    # The child has a copy of all memory and no other thread: no call may be under way in one.
    _forking.acquire()
    _held.append(list(_guards))
    for guard in _held[-1]:
        guard._lock.acquire()


def _after_fork() -> None:
    for guard in _held.pop():
        guard._lock.release()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
