"""An input of several files, such as two objects to be linked: the lengths of all but the last, and the files."""

from __future__ import annotations

from collections.abc import Sequence


def join(files: Sequence[bytes]) -> bytes:
    """Return the input that consists of `files`."""
    return b"".join(len(each).to_bytes(4, "little") for each in files[:-1]) + b"".join(files)


def split(content: bytes, count: int) -> list[bytes]:
    """Return `count` files: whatever the lengths say, all bytes are of one of them."""
    lengths = [int.from_bytes(content[4 * index : 4 * index + 4], "little") for index in range(count - 1)]
    at = 4 * len(lengths)
    files = []
    for length in lengths:
        files.append(content[at : at + length])
        at = min(at + length, len(content))
    return [*files, content[at:]]
