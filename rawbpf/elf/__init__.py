"""Object files that clang (or gcc) compiled for BPF, read into plain data, and written again with its edits.

The only package that imports elftools. No system calls: what comes out is what was asked for, not
what a kernel has.
"""

from __future__ import annotations

from rawbpf.elf.object import parse

__all__ = ["parse"]
