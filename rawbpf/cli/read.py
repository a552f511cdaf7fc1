"""The object file that a command was given, read; what it cannot be is said in one line."""

from __future__ import annotations

import os
import stat

from rawbpf.cli.failure import Failure, escaped, what_is_exhausted, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.loader.spec import ObjectSpec

_NO_FILES = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


def require_file(path: str, *, subject: str = "", what: str = "object file") -> None:
    """Return if `path` is a file or a directory; what else there is could go on for ever. Raises: OSError; Failure."""
    status = os.stat(path)
    kind = _NO_FILES.get(stat.S_IFMT(status.st_mode))
    if kind:
        raise Failure(f"{escaped(subject or path)}: {kind} is no {what}")
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise Failure(f"{escaped(subject or path)}: is empty")


def read_object(path: str, *, subject: str = "") -> ObjectSpec:
    """Return what the object file at `path` defines. `subject`: what messages call it. Raises: Failure."""
    from rawbpf.loader.spec import ObjectSpec

    subject = subject or path
    try:
        require_file(path, subject=subject)
        return ObjectSpec.from_file(path)
    except ImportError as error:
        raise Failure(f"{escaped(subject)}: {what_is_exhausted(error) or error}") from error
    except (OSError, ValueError) as error:
        raise Failure(why(error, subject)) from error
