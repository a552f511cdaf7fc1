"""An object that owns one descriptor: what programs and links have in common.

Closed once and for good, handed over by `release()`, and warned about when it is dropped open. Must
not know what the descriptor is of. Maps, whose calls race with `close()`, have a handle of their own.
"""

from __future__ import annotations

from rawbpf.errors import BpfError, Closed
from rawbpf.syscall.lifetime import opened_at, own, owns, warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn, Self

    from rawbpf.syscall.protocol import Backend

_EBADF, _EINVAL = 9, 22

# The line that only this kind of object has in its fdinfo; a link's has its program's id as well.
_KINDS = {"map": "map_type:", "program": "prog_type:", "link": "link_type:"}


class Descriptor:
    """Owns `fd` of `backend`. A context manager; identity decides equality."""

    __slots__ = ("__weakref__", "_backend", "_fd", "_mark", "_opened_at")

    def __init__(self, backend: Backend, fd: int) -> None:
        self._backend = backend
        self._fd = fd
        self._mark = own(fd)
        self._opened_at = opened_at()

    @property
    def backend(self) -> Backend:
        """The kernel that it was made with."""
        return self._backend

    @property
    def closed(self) -> bool:
        """Whether it was closed or released."""
        return self._fd < 0

    def fileno(self) -> int:
        """Return the descriptor, which stays this object's. Raises: Closed."""
        if self._fd < 0:
            raise Closed(_EBADF, call="use", subject=repr(self), hint="it was closed", backend=self._backend.name)
        return self._fd

    def release(self) -> int:
        """Hand the descriptor over to the caller, who closes it from now on; return it. Raises: Closed."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        """Close the descriptor, unless others did. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._close_own(fd)

    def _close_own(self, fd: int) -> None:
        if owns(fd, self._mark):
            self._backend.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Half-made objects have no descriptor yet.
        if getattr(self, "_fd", -1) >= 0:
            try:
                warn_unclosed(self, self._opened_at)
            finally:  # where warnings are errors, too
                self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: pin it and use from_pin(), or from_id()")


def descriptor_number(value: object, where: str) -> int:
    """Return `value`, a descriptor's number or an object with `fileno()`; messages open with `where`.

    Raises: TypeError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    fileno = getattr(value, "fileno", None)
    number = fileno() if fileno is not None else None
    if not isinstance(number, int):
        raise TypeError(f"{where}: expected a descriptor, as a number or an object with fileno(), got {value!r}")
    return number


def require_kind(backend: Backend, fd: int, kind: str, what: str = "") -> None:
    """Return if `fd` is of a `program`, `link` or `map`; the info structs themselves do not say what they are of.

    `what` is what messages call it.
    Raises: BpfError (EINVAL) if it is not; Closed (EBADF).
    """
    try:
        lines = backend.fdinfo(fd).splitlines()
    except OSError as error:
        raise Closed(
            _EBADF, call="open", subject=f"fd {fd}", hint="no such descriptor", backend=backend.name
        ) from error
    found = next((name for name, key in _KINDS.items() if any(line.startswith(key) for line in lines)), "no bpf object")
    if found != kind:
        hint = f"it is {'' if found == 'no bpf object' else 'a '}{found}, not a {kind}"
        raise BpfError(_EINVAL, call="open", subject=what or f"fd {fd}", hint=hint, backend=backend.name)
