"""Failures on demand, for a `with` block: which calls of which commands fail, and how.

The failing itself is `syscall.fault`; here is how its users say what they want.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rawbpf.syscall.current import current, using
from rawbpf.syscall.fault import FaultBackend
from rawbpf.testing.command import command_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_MAX_ERRNO = 4095


@contextmanager
def faults(
    due: Mapping[int | str, int | Iterable[tuple[int, int]]], *, backend: Backend | None = None
) -> Iterator[FaultBackend]:
    """Let bpf(2) calls fail for a `with` block, and yield the backend that fails them.

    `due`: by command (`Cmd.MAP_UPDATE_ELEM` or "map_update_elem"), pairs of (which call of it, from 1; errno),
    or one errno for all its calls. `backend`: what makes the other calls, the current one by default.
    New objects are made with it, as by `rawbpf.using()`; older ones keep the backend that they have.
    The kernel never sees a call that fails. `calls` of what is yielded counts those of each command.
    Raises: ValueError for an unknown command, a call below 1, or what is no errno.
    """
    failing = FaultBackend(current() if backend is None else backend, {})
    for cmd, which in due.items():
        number = command_number(cmd)
        if isinstance(which, int):
            failing.fail_always(number, _errno(which))
        else:
            failing.fail(number, [(_nth(nth), _errno(errno)) for nth, errno in which])
    with using(failing):
        yield failing


def _nth(nth: int) -> int:
    if nth < 1:
        raise ValueError(f"calls are counted from 1: there is no call {nth}")
    return nth


def _errno(number: int) -> int:
    if not 0 < number <= _MAX_ERRNO:
        raise ValueError(f"expected an errno, such as errno.ENOMEM, got {number}")
    return number
