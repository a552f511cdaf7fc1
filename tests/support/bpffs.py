"""A bpf file system that nobody else sees: mounted nowhere, reached through its descriptor alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CREATE = 6


@contextmanager
def detached_bpffs() -> Iterator[Path]:
    """Yield the path of an empty bpffs, which ends with the block and all pins with it."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    context = _checked(syscall(_FSOPEN, b"bpf", 1))
    try:
        _checked(syscall(_FSCONFIG, context, _CREATE, None, None, 0))
        root = _checked(syscall(_FSMOUNT, context, 1, 0))
    finally:
        os.close(context)
    try:
        # Through the process's own number, so that children of it find the same file system.
        yield Path(f"/proc/{os.getpid()}/fd/{root}")
    finally:
        os.close(root)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
