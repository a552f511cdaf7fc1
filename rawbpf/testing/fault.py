"""Failures on demand, for a `with` block: which calls of which commands fail, and how.

The failing itself is `syscall.fault`; here is how its users say what they want.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rawbpf.errors import errno_name
from rawbpf.syscall.current import current, using
from rawbpf.syscall.fault import FaultBackend
from rawbpf.testing.command import command_number
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_MAX_ERRNO = 4095


@contextmanager
def faults(
    due: Mapping[int | str, int | Iterable[tuple[int, int]]],
    *,
    backend: Backend | None = None,
    all_must_come: bool = False,
) -> Iterator[FaultBackend]:
    """Let bpf(2) calls fail for a `with` block, and yield the backend that fails them.

    `due`: by command (`Cmd.MAP_UPDATE_ELEM` or "map_update_elem"), pairs of (which call of it, from 1; errno),
    or one errno for all its calls. `backend`: what makes the other calls, the current one by default.
    New objects are made with it, as by `rawbpf.using()`; older ones keep the backend that they have.
    The kernel never sees a call that fails. Of what is yielded, `calls["map_update_elem"]` counts the calls of a
    command, and `unused` has the faults that did not come, empty where all did.
    Raises: ValueError for an unknown command, a call below 1 or one that is to fail twice, or what is no errno;
    TypeError for what says none of this; with `all_must_come`, AssertionError at the end of a block that ended
    without an exception, if a fault did not come.
    """
    failing = FaultBackend(current() if backend is None else backend, {})
    if not isinstance(due, Mapping):
        raise TypeError(f"expected faults by command, as {{'map_update_elem': [(1, errno.ENOMEM)]}}, got {due!r}")
    seen: set[int] = set()
    for cmd, which in due.items():
        number = command_number(cmd)
        if number in seen:
            raise ValueError(f"{cmd_name(number)}: there are faults of it twice, by its name and by its number")
        seen.add(number)
        if isinstance(which, int) and _is_number(which):
            failing.fail_always(number, _errno(which))
        else:
            failing.fail(number, _pairs(cmd_name(number), which).items())
    with using(failing):
        yield failing
    if all_must_come and (unused := failing.unused):
        raise AssertionError(f"faults that did not come: {_shown(unused)}")


def _pairs(command: str, which: object) -> dict[int, int]:
    wanted = f"{command}: expected an errno, as errno.ENOMEM, or pairs (which call, from 1; errno)"
    if isinstance(which, str | bytes) or not isinstance(which, Iterable):
        raise TypeError(f"{wanted}, got {which!r}")
    found: dict[int, int] = {}
    for pair in which:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_number, pair)):
            hint = f"; one pair is [{which!r}]" if isinstance(which, tuple) else ""
            raise TypeError(f"{wanted}, got {pair!r} among them{hint}")
        nth, errno = _nth(pair[0]), _errno(pair[1])
        if nth in found:
            raise ValueError(f"{command}: call {nth} is to fail with {errno_name(found[nth])} and {errno_name(errno)}")
        found[nth] = errno
    return found


def _shown(unused: Mapping[str, int | list[tuple[int, int]]]) -> str:
    return ", ".join(
        f"{command}: {errno_name(which)}"
        if isinstance(which, int)
        else ", ".join(f"call {nth} of {command}: {errno_name(errno)}" for nth, errno in which)
        for command, which in unused.items()
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _nth(nth: int) -> int:
    if nth < 1:
        raise ValueError(f"calls are counted from 1: there is no call {nth}")
    return nth


def _errno(number: int) -> int:
    if not 0 < number <= _MAX_ERRNO:
        raise ValueError(f"expected an errno, such as errno.ENOMEM, got {number}")
    return number
