"""The compiled objects of this checkout, in the byte order of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
BPF = _TESTS.parent / "bpf"
OBJECTS = _TESTS / "objects"
SUFFIX = ".bpf.o" if sys.byteorder == "little" else ".bpfeb.o"

CALLBACKS = ("helper:tracepoint:for_each_map_elem", "file:/proc/sys/net/core/bpf_jit_enable")
"""What `shapes` needs: the interpreter calls nothing back, and a kernel without a compiler has no such file."""


def native(name: str) -> Path:
    """Return the file of the object `name`, which is in `bpf/` or in `tests/objects/`."""
    own = OBJECTS / f"{name}{SUFFIX}"
    return own if own.is_file() else BPF / f"{name}{SUFFIX}"
