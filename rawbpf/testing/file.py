"""A file that is written as a whole, or not at all."""

from __future__ import annotations

import os
import shutil
from secrets import token_hex


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` into the file `path`, in place of what was there, which stays where that fails.

    It is written beside it and renamed. What is no regular file (a terminal, a pipe) is written into.
    Raises: OSError that names `path`; nothing is left behind.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(content)
            return
        target = os.path.realpath(path)  # of a link, what it leads to
        beside = os.path.join(os.path.dirname(target), f".rawbpf-{token_hex(8)}")
        try:
            with open(beside, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # some file systems notice only now that they are full
            if os.path.exists(target):
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException:
            if os.path.lexists(beside):
                os.unlink(beside)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
