"""The file that a command makes: whole or not at all, so that whoever reads it meanwhile has the older one."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from rawbpf.cli.failure import Failure, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def made_at_once(path: str, what: str, *, source: str) -> Iterator[str]:
    """Make a file for a `with` block to write, which takes the place of `path` when the block ends without an error.

    `what`: what -o names, in messages. `source`: of which it is made, and whose place it does not take.
    Raises: Failure, also for an OSError of the block.
    """
    from rawbpf.loader.file import written_at_once

    try:
        if os.path.exists(path) and os.path.samefile(path, source):
            raise Failure(f"{escaped(path)} is what the {what} is made of; -o names another file")
        with written_at_once(path) as made:
            yield made
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):
            raise Failure(f"{escaped(path)} is no regular file; -o names the {what}") from error
        of_directory = error.errno in (errno.ENOENT, errno.EACCES)
        subject = os.path.dirname(os.path.realpath(path)) if of_directory else path
        raise Failure(f"{escaped(subject)}: {error.strerror}") from error
