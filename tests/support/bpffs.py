"""An empty bpf file system that nobody else sees.

The kernel's is mounted nowhere and reached through its descriptor alone; the simulator's is a directory of its own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rawbpf.sim.simulator import Simulator

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CREATE = 6


@contextmanager
def bpffs(backend: Backend) -> Iterator[Path]:
    """Yield the path of an empty bpffs of `backend`, which ends with the block and all pins with it."""
    if not isinstance(backend, Simulator):
        with detached_bpffs() as root:
            yield root
        return
    root = Path(backend.bpffs)
    assert not list(root.iterdir()), "one at a time"
    try:
        yield root
    finally:
        for folder, folders, files in os.walk(root, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            for name in folders:
                os.rmdir(os.path.join(folder, name))


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
