"""Imports ahead of time what making, writing and reading a map needs.

rawbpf imports what it needs when it first needs it, which suits commands. In a test that is within the first example,
which on a busy machine takes longer than Hypothesis allows (its deadline), and longer than the same example repeated.
"""

from __future__ import annotations

from functools import cache
from pkgutil import iter_modules

_PACKAGES = ("btf", "codec", "syscall", "map")
_ON_REQUEST = "rawbpf.codec.dtype"  # which is numpy's, and fails where there is none


@cache
def import_ahead() -> None:
    """Import the modules that maps are made of. The simulator is not among them: who makes one has imported it."""
    for package in _PACKAGES:
        path = __import__(f"rawbpf.{package}", fromlist=["__path__"]).__path__
        for module in iter_modules(path, f"rawbpf.{package}."):
            if module.name != _ON_REQUEST:
                __import__(module.name)
