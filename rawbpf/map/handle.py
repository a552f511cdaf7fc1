"""The file descriptor of an open map, and how it is closed under the feet of other threads.

Point operations read the descriptor from the attribute buffers that they lease (`operation`), calls
that release the GIL read it here. After `close()` neither can reach the number, because the kernel
may give it to another file at once: buffers are overwritten with -1, operations are swapped for ones
that raise Closed, memory is unmapped, and the last call still under way closes the descriptor.

No lock is held, so that a signal handler may use the map that it interrupted: every step is one list
operation, which the interpreter does not divide.
"""

from __future__ import annotations

from rawbpf.errors import Closed
from rawbpf.syscall.lifetime import opened_at, own, owns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from typing import Any, Protocol, TypeVar
    from weakref import ReferenceType

    from rawbpf.map.base import Map
    from rawbpf.map.many import Many
    from rawbpf.syscall.protocol import Backend

    R = TypeVar("R")

    class Droppable(Protocol):
        """The memory of a map, mapped for reading and for writing by what uses it."""

        def stop_writing(self) -> None:
            """Let go of the memory for writing."""

        def drop(self) -> None:
            """Let go of all memory."""


_EBADF = 9


class Handle:
    """One descriptor, shared by a map and the views of it. `with handle as fd:` lends the number.

    `describe` is what messages call the map, `map_type` what the table of errors knows it by.
    """

    __slots__ = (
        "_lent",
        "_live",
        "_mark",
        "_open",
        "backend",
        "describe",
        "fd_words",
        "many",
        "many_asked",
        "map_type",
        "mapped",
        "opened_at",
        "poisoned",
        "views",
    )

    def __init__(self, backend: Backend, fd: int) -> None:
        self.backend = backend
        self.describe = f"fd {fd}"
        self.map_type: int | None = None
        # The descriptor word of every attribute buffer, with what notices that its last user is gone, and every class
        # with operations over them.
        self.fd_words: dict[object, tuple[memoryview, ReferenceType[memoryview]]] = {}
        self.poisoned: list[type[Map[Any, Any]]] = []
        # What runs programs over many keys, once one is worth it, and whether several keys were asked for before.
        self.many: Many | None = None
        self.many_asked = False
        # What maps the memory of arrays, and the memory that users were given views of, as weak references.
        self.mapped: list[Droppable] = []
        self.views: list[ReferenceType[mmap]] = []
        self._live = fd
        self._mark = own(fd)
        self._open = [fd]
        self._lent: list[None] = []
        self.opened_at = opened_at()

    @property
    def fd(self) -> int:
        """The descriptor; -1 once closed."""
        return self._live

    @property
    def holds(self) -> bool:
        """Whether there is still a descriptor to close: also while calls that borrowed it are under way."""
        return bool(self._open)

    def __enter__(self) -> int:
        try:
            self._lent.append(None)
            if self._live < 0:
                raise closed(self.describe)
            return self._live
        except BaseException:  # of a signal handler, too: what stayed lent would never be closed
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._lent.pop()
        if self._live < 0 and not self._lent:
            self._close_once()

    def call(self, command: Callable[..., R], *arguments: object) -> R:
        """Run a function of `syscall.map` on the map, with `arguments` behind the descriptor, and return its result.

        Raises: Closed; what the command raises.
        """
        with self as fd:
            return command(self.backend, fd, *arguments, subject=self.describe, map_type=self.map_type)

    def close(self) -> None:
        """Make every operation raise Closed, and close the descriptor when the last call has returned.

        If others have closed it, its number is not touched, which may be another file's by now.
        """
        self._live = -1
        for owner in self.poisoned:
            for name in owner._operations:
                setattr(owner, name, self._refuse)
        for word, _ in list(self.fd_words.values()):
            word[0] = -1
        for mapped in self.mapped[:]:
            mapped.drop()
        if self.many is not None:
            self.many.drop()
        if not self._lent:
            self._close_once()

    def release(self) -> int:
        """Give the descriptor up without closing it and return it; operations then raise Closed.

        Raises: Closed.
        """
        with self as fd:
            self._open.clear()
            self.close()
        return fd

    def _close_once(self) -> None:
        # Asked first: between taking the number and closing it an interrupt would leave it open.
        is_own = any(owns(fd, self._mark) for fd in self._open[:])
        try:
            fd = self._open.pop()
        except IndexError:
            return
        if is_own:
            self.backend.close(fd)

    def _refuse(self, *_: object, **__: object) -> None:
        raise closed(self.describe)


def closed(subject: str) -> Closed:
    """The error of an operation on what was closed."""
    return Closed(_EBADF, call="use", subject=subject, hint="it was closed; open it again by pin, id or name")
