"""Runs a function in a child process, with fewer privileges than the tests have where a test wants that."""

from __future__ import annotations

import ctypes
import os
import resource  # noqa: F401 (rawbpf imports it when it needs it, but the child may not be able to read it)
import struct
from collections.abc import Callable

from support.needs import _BITS

_NOBODY = 65534
_PR_SET_KEEPCAPS = 8
_CAPSET_VERSION = 0x20080522


def run(function: Callable[[], str]) -> str:
    """Return what `function` returns in a child process; an exception of it fails the test."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            answer = file.read()
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}: {answer}"
        return answer
    status = 1
    try:
        os.write(writer, function().encode())
        status = 0
    except BaseException as error:  # noqa: BLE001 (nothing may leave the child but its answer)
        os.write(writer, repr(error).encode())
    finally:
        os._exit(status)


def run_as_nobody(function: Callable[[], str], *capabilities: str) -> str:
    """Return what `function` returns in a child of user 65534 that has these capabilities and no others."""

    def unprivileged() -> str:
        become_nobody(sum(1 << _BITS[name] for name in capabilities))
        return function()

    return run(unprivileged)


def become_nobody(mask: int = 0) -> None:
    """Be user 65534 from now on, with the capabilities in `mask` and no others."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", _CAPSET_VERSION, 0)
    if libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset")
