"""How a command of the simulated kernel fails: with an errno, and nothing else."""

from __future__ import annotations

ENOTSUPP = 524
"""The kernel's own number, which no C library names. Source: include/linux/errno.h (v6.12)."""


class Refused(Exception):
    """The command fails with `errno`; the dispatcher turns it into -1."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno
