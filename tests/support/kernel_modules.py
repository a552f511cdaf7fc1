"""Modules of the kernel for a test: inserted with those that they depend on, and removed again.

A guest has their files, see `kernels/kernel.py`; no other machine's modules are touched.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kernels.kernel import FOLDER, dependencies

_FILES = Path("/") / FOLDER
_SECONDS = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


def at_hand(name: str) -> bool:
    """Return whether there is a file of the module `name`."""
    return (_FILES / f"{name}.ko").is_file()


@contextmanager
def inserted(*names: str) -> Iterator[None]:
    """Have the modules `names` in the kernel for this block, and remove those that were not there before.

    Something that still uses one then, such as a program that was not closed, is an OSError.
    """
    with ExitStack() as stack:
        for name in names:
            _insert(name, stack)
        yield


def removed(name: str) -> bool:
    """Remove the module `name` and return True; return False if something uses it."""
    return not _libc.delete_module(name.encode(), os.O_NONBLOCK)


def _insert(name: str, stack: ExitStack) -> None:
    if Path(f"/sys/module/{name}").exists():
        return
    content = (_FILES / f"{name}.ko").read_bytes()
    for other in filter(at_hand, dependencies(content)):  # what is built in has no file
        _insert(other, stack)
    if _libc.init_module(content, ctypes.c_ulong(len(content)), b""):
        raise OSError(ctypes.get_errno(), f"insert {name}")
    stack.callback(_remove, name)


def _remove(name: str) -> None:
    # The kernel lets go of a program's module some time after the program was closed, and nothing signals that.
    end = time.monotonic() + _SECONDS
    while not removed(name):
        if time.monotonic() > end:
            raise OSError(ctypes.get_errno(), f"remove {name}")
        select.select([], [], [], 0.02)
