"""What the command says when it cannot do what was asked: one line on stderr, never a traceback.

Errors that nobody expected are no failures: they keep their traceback.
"""

from __future__ import annotations

import os
import shlex
import sys

from rawbpf.errors import BpfError, PermissionDenied, VerifierError
from rawbpf.syscall import permission
from rawbpf.syscall.current import current
from rawbpf.uapi.constants import BPF_BTF_LOAD, BPF_PROG_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ADMIN = "CAP_SYS_ADMIN"


class Failure(Exception):
    """Why the command ends with exit status 1, in words for its user."""


def tell(message: str) -> None:
    """Print `message` on stderr with the command's name in front; without a stderr nobody is told."""
    if sys.stderr is None:
        return
    try:
        print(f"rawbpf: {message}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody is left to be told


def why(error: Exception, subject: str) -> str:
    """Return the one line that says what `error` means for the file `subject`; for a refusal by the verifier three."""
    if isinstance(error, VerifierError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, BpfError):
        text = error.strerror or text
        if error.filename is not None and str(error.filename) != subject:
            text = f"{error.filename}: {text}"
    name = os.path.basename(subject)
    # Many messages begin with the file's name.
    return subject + text[len(name) :] if name and text.startswith((f"{name} ", f"{name}:")) else f"{subject}: {text}"


def why_denied(error: PermissionDenied, subject: str, prog_types: Iterable[int]) -> str:
    """Return the line for a refused privilege: everything that is missing, not only what the first command asked for.

    `prog_types`: those of the programs that are to be loaded.
    """
    host = current().host
    wanted = [*permission.needed(BPF_BTF_LOAD, {})]
    for prog_type in prog_types:
        wanted += permission.needed(BPF_PROG_LOAD, {"prog_type": prog_type})
    has = host.capabilities()
    if _ADMIN in has or all(name in has for name in wanted):
        return why(error, subject)
    explained = permission.explain(host, tuple(dict.fromkeys(wanted)))
    return f"{subject}: no privileges: {explained}; for example: sudo {shlex.join(_command())}"


def _command() -> list[str]:
    # What can be typed again: sudo's PATH lacks virtual environments, and it drops PYTHONPATH.
    script, *arguments = sys.argv
    path = os.environ.get("PYTHONPATH")
    start = ["env", f"PYTHONPATH={path}"] if path else []
    if script.endswith("__main__.py"):
        return [*start, sys.executable, "-m", "rawbpf", *arguments]
    return [*start, script, *arguments]
