"""A directory of a test's own on a mounted bpf file system. Source: kernel/bpf/inode.c (v6.12)."""

from __future__ import annotations

import os
import re
import tempfile


def new_directory() -> str | None:
    """Return a new directory below a mounted bpffs; None where this process may make none. The caller removes it."""
    for root in _mounted():
        try:
            return tempfile.mkdtemp(prefix="rawbpf-", dir=root)  # a name with a dot would be refused
        except OSError:
            continue
    return None


def empty(directory: str) -> None:
    """Remove all that is in `directory`, which stays."""
    for path, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(path, name))
        for name in directories:
            os.rmdir(os.path.join(path, name))


def _mounted() -> list[str]:
    # Source: Documentation/filesystems/proc.rst, 3.5 (v6.12); spaces and the like are written as \040.
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    points = [fields[4] for fields in lines if fields[fields.index("-") + 1] == "bpf"]
    return [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point) for point in points]
