"""Which backend new objects are made with: the running kernel, unless `using()` says another.

The choice is process-wide on purpose: a context variable would give a new thread the real kernel,
as root. How the first one is chosen is not known here: the layer `default` fills `chooser`.
"""

from __future__ import annotations

from _thread import RLock, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rawbpf.syscall.protocol import Backend

chooser: Callable[[], Backend] | None = None

# A signal handler may ask for the backend while the code that it interrupted chooses it.
_lock = RLock()
_stack: list[Backend] = []
_owner = 0


def current() -> Backend:
    """Return the backend that new objects are made with.

    Raises: NotSupported on other systems than Linux; ValueError for an unknown RAWBPF_BACKEND.
    """
    if _stack:
        return _stack[-1]
    with _lock:
        if not _stack:
            if chooser is None:
                raise RuntimeError("no backend was chosen: import rawbpf first")
            chosen = chooser()
            if not _stack:
                _stack.append(chosen)
        return _stack[-1]


class using:  # noqa: N801  (reads as a statement: with using(...))
    """Make `backend` the one that new objects are made with, for a `with` block; nests.

    Objects keep the backend that they were made with. Raises: RuntimeError when a second thread
    enters while another is inside: the choice is process-wide.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # What to restore, once for each time that this object was entered.
        self._saved: list[tuple[list[Backend], int]] = []

    def __enter__(self) -> Backend:
        global _owner
        with _lock:
            if _owner not in (0, get_ident()):
                raise RuntimeError(
                    "another thread is inside rawbpf.using(): the backend is process-wide; pass backend= instead"
                )
            self._saved.append((_stack[:], _owner))
            _owner = get_ident()
            _stack.append(self._backend)
        return self._backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _owner
        with _lock:
            _stack[:], _owner = self._saved.pop()
