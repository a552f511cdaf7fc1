"""Files that are read only as far as they are what they should be, and written whole or not at all.

Knows nothing of what is in them but how they begin.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 1 << 31


def read_file(path: str, starts: tuple[bytes, ...]) -> bytes:
    """Return the content of the file at `path`; only its first bytes, if it begins with none of `starts`.

    Raises: OSError; FormatError for a file of more than 2 GiB.
    """
    with open(path, "rb") as file:
        first = file.read(64)
        if not first.startswith(starts):
            return first
        size = os.fstat(file.fileno()).st_size
        if size > _MOST:
            raise FormatError(f"{os.path.basename(path)}: is too large: {size} bytes, and at most {_MOST} are read")
        return first + file.read()


@contextmanager
def written_at_once(path: str) -> Iterator[str]:
    """Make a file for a `with` block to write, which takes the place of `path` when the block ends without an error.

    Where `path` is a symbolic link, of what that leads to. Raises: OSError, also that of the block, which names `path`.
    """
    from tempfile import TemporaryDirectory

    out = os.path.realpath(path)
    try:
        # What is no file, such as a device, would be gone for all who use it.
        if os.path.isdir(out) or not os.path.basename(path):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if os.path.exists(out) and not os.path.isfile(out):
            raise OSError(errno.EINVAL, "Not a regular file")
        # In its directory, so that it can be moved to its place at once.
        where, name = os.path.split(out)
        with TemporaryDirectory(prefix=".", dir=where) as directory:
            made = os.path.join(directory, name)
            yield made
            os.replace(made, out)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
