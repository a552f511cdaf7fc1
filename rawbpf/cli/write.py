"""The file that a command makes: whole or not at all, so that whoever reads it meanwhile has the older one."""

from __future__ import annotations

import os
from contextlib import contextmanager

from rawbpf.cli.failure import Failure, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_at_once(path: str, what: str) -> Iterator[str]:
    """Make a file for a `with` block to write, which takes the place of `path` when the block ends without an error.

    `what`: what -o names, in messages. Raises: Failure, also for an OSError of the block.
    """
    from tempfile import TemporaryDirectory

    out = os.path.realpath(path)
    if os.path.exists(out) and not os.path.isfile(out):
        raise Failure(f"{escaped(path)} is no regular file; -o names the {what}")
    # In its directory, so that it can be moved to its place at once.
    where, name = os.path.split(out)
    try:
        directory = TemporaryDirectory(prefix=f".{name}.", dir=where)
    except OSError as error:
        raise Failure(f"{escaped(where)}: {error.strerror}") from error
    try:
        with directory:
            made = os.path.join(directory.name, name)
            yield made
            os.replace(made, out)
    except OSError as error:
        raise Failure(f"{escaped(path)}: {error.strerror}") from error
