"""The names beside numbers: users, groups, processes and signals, each looked up once."""

from __future__ import annotations

import grp
import pwd
import signal

from rawbpf.cli.leaf import GID, PID, SIGNAL, UID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEADINGS = {UID: "user", GID: "group", PID: "command", SIGNAL: "signal name"}
"""What heads the names of each kind of number that has names."""


class Names:
    """Remembers what it found: a process that has ended keeps its name, and reading names opens few files."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], str] = {}

    def of(self, kind: str, number: object) -> str:
        """Return the name that `number` has as one of `kind`; empty if it has none."""
        look_up = _LOOK_UPS.get(kind)
        if look_up is None or not isinstance(number, int):
            return ""
        name = self._found.get((kind, number))
        if name is None:
            name = self._found[kind, number] = look_up(number)
        return name


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError, OSError):
        return ""


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError, OSError):
        return ""


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().removesuffix("\n")
    except OSError:
        return ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Of the real-time signals only the ends have names of their own.
        inside = signal.SIGRTMIN < number < signal.SIGRTMAX
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if inside else ""


_LOOK_UPS: dict[str, Callable[[int], str]] = {UID: _user, GID: _group, PID: _command, SIGNAL: _signal}
