"""Writes a cpio archive of the kind that Linux unpacks at boot, from files that are in memory.

It knows nothing of what is in the archive. Ids are 0, times are 0: the same files give the same bytes.
Source: Documentation/driver-api/early-userspace/buffer-format.rst (v6.12); init/initramfs.c:do_header
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_MAGIC = b"070701"
_BLOCK = 512


class Entry(NamedTuple):
    """A regular file, or with `stat.S_IFLNK` in `mode` a symbolic link whose target `content` is."""

    content: bytes
    mode: int = stat.S_IFREG | 0o644


def link(target: str) -> Entry:
    """Return a symbolic link to `target`."""
    return Entry(target.encode(), stat.S_IFLNK | 0o777)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of `entries`, which are named by their path without a leading slash.

    The folders that they lie in are made. Archives may be written one after the other: the kernel unpacks them all.

    Raises: ValueError for a path that begins with a slash or is empty.
    """
    parts = []
    for inode, (name, entry) in enumerate(_with_folders(entries), 1):
        parts.append(_member(inode, name, entry))
    parts.append(_member(0, "TRAILER!!!", Entry(b"", 0)))
    written = b"".join(parts)
    return _padded(written, _BLOCK)


# A folder stands before what lies in it.
def _with_folders(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    made = set()
    for name in sorted(entries):
        if not name or name.startswith("/"):
            raise ValueError(f"expected a path below the root folder, without a leading slash; got {name!r}")
        above = name.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            folder = "/".join(above[:depth])
            if folder not in made:
                made.add(folder)
                yield folder, Entry(b"", stat.S_IFDIR | 0o755)
        yield name, entries[name]


def _member(inode: int, name: str, entry: Entry) -> bytes:
    path = name.encode() + b"\0"
    links = 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, 0, 0, len(path), 0)
    header = _MAGIC + b"".join(b"%08x" % field for field in fields)
    return _padded(header + path, 4) + _padded(entry.content, 4)


def _padded(content: bytes, multiple: int) -> bytes:
    return content + bytes(-len(content) % multiple)
