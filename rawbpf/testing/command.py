"""A bpf command, said as its number, as a member of `Cmd` or as its name: what `faults` and `trace` take."""

from __future__ import annotations

from rawbpf.uapi.names import cmd_name, cmd_number


def command_number(cmd: object) -> int:
    """Return the number of a command.

    Raises: ValueError for an unknown name, which lists close ones, and for a number that is no command; TypeError.
    """
    if not isinstance(cmd, int | str) or isinstance(cmd, bool):
        raise TypeError(f"expected a bpf command, as Cmd.MAP_CREATE or 'map_create', got {cmd!r}")
    number = cmd_number(cmd) if isinstance(cmd, str) else int(cmd)
    if cmd_name(number) == f"command {number}":
        raise ValueError(f"no bpf command has the number {number}")
    return number
