"""What the command says when it cannot do what was asked: one line on stderr, never a traceback.

Errors that nobody expected are no failures: they keep their traceback.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rawbpf.errors import PermissionDenied, VerifierError

_ADMIN = "CAP_SYS_ADMIN"
# BPF_JMP | BPF_CALL | BPF_X: clang makes it, the kernel has no such instruction.
_INDIRECT_CALL = "unknown opcode 8d"


class Failure(Exception):
    """Why the command ends with exit status 1, in words for its user."""


def tell(message: str) -> None:
    """Print `message` on stderr with the command's name in front; without a stderr nobody is told."""
    if sys.stderr is None:
        return
    try:
        lines = (escaped(line.replace("\t", " ")) for line in message.split("\n"))
        print("rawbpf:", "\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        discard(2)  # nobody is left to be told


def discard(fd: int) -> None:
    """Let what is still written to `fd` vanish: the interpreter flushes at its end, and its status would tell."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return
    os.dup2(devnull, fd)
    os.close(devnull)


def escaped(raw: str) -> str:
    """Return `raw`, a name from outside, with an escape for each character that a terminal would obey."""
    if raw.isprintable():
        return raw
    from rawbpf.cli.text import printable

    return printable(raw)


def what_is_exhausted(error: BaseException) -> str:
    """Return in words which limit on open files `error` ran into; empty if none."""
    # The dynamic loader says it in words only, and Python makes an ImportError of it.
    number = error.errno if isinstance(error, OSError) and error.errno else None
    if number is None and isinstance(error, (ImportError, OSError)):
        number = next((each for each in (errno.EMFILE, errno.ENFILE) if os.strerror(each) in str(error)), None)
    if number == errno.EMFILE:
        return "too many open files for this process; allow more: ulimit -n 1024"
    if number == errno.ENFILE:
        return "too many open files in the whole system, more than ulimit -n can help; see sysctl fs.file-max"
    return ""


def why(error: Exception, subject: str, *, has_types: bool = True) -> str:
    """Return the one line that says what `error` means for the file `subject`; for a refusal by the verifier three.

    `has_types`: it was compiled with -g.
    """
    from rawbpf.errors import BpfError, VerifierError

    exhausted = what_is_exhausted(error)
    if exhausted:
        return f"{escaped(subject)}: {exhausted}"
    if isinstance(error, VerifierError):
        return f"{escaped(subject)}: {_refusal(error, has_types=has_types)}"
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, BpfError):
        text = error.strerror or text
        if error.filename is not None and str(error.filename) != subject:
            text = f"{error.filename}: {text}"
    text = _without_inner_offsets(text)
    name = os.path.basename(subject)
    # Many messages begin with the file's name.
    line = subject + text[len(name) :] if name and text.startswith((f"{name} ", f"{name}:")) else f"{subject}: {text}"
    return escaped(line)


def why_denied(error: PermissionDenied, subject: str, prog_types: Iterable[int], *, has_types: bool = True) -> str:
    """Return the line for a refused privilege: everything that is missing, not only what the first command asked for.

    `prog_types`: those of the programs that are to be loaded.
    """
    from rawbpf.syscall import permission
    from rawbpf.syscall.current import current
    from rawbpf.uapi.constants import BPF_BTF_LOAD, BPF_PROG_LOAD

    host = current().host
    wanted = [*permission.needed(BPF_BTF_LOAD, {})]
    for prog_type in prog_types:
        wanted += permission.needed(BPF_PROG_LOAD, {"prog_type": prog_type})
    has = host.capabilities()
    if error.call == "open" and error.subject.startswith("tracepoint "):
        explained = (
            f"the number of {error.subject} is in tracefs, which this process may not read; run it as root, "
            "or grant CAP_SYS_ADMIN with CAP_DAC_READ_SEARCH, or write the program for raw_tp/, which needs no tracefs"
        )
    elif _ADMIN in has or all(name in has for name in wanted):
        return why(error, subject, has_types=has_types)
    else:
        explained = permission.explain(host, tuple(dict.fromkeys(wanted)))
    return f"{escaped(subject)}: no privileges: {explained}; for example: sudo {escaped(_command())}"


def _refusal(error: VerifierError, *, has_types: bool) -> str:
    first, *rest = str(error).split("\n")
    if _INDIRECT_CALL in error.summary:
        first += ": a call through a pointer, which is how helpers are called without optimisation: compile with -O2"
    if not has_types:
        rest = [f"{line} (compile with -g to see its C source)" if line.startswith("  at ") else line for line in rest]
    return "\n".join([first, *rest])


def _without_inner_offsets(text: str) -> str:
    # A parser inside another one has counted from its own beginning; the last one counts from the file's.
    import re

    return re.sub(r"(?: \(at byte \d+\))+(?= \(at byte \d+\)$)", "", text)


def _command() -> str:
    # What can be typed again: sudo's PATH lacks virtual environments, and it drops PYTHONPATH.
    import shlex

    script, *arguments = sys.argv
    path = os.environ.get("PYTHONPATH")
    start = ["env", f"PYTHONPATH={path}"] if path else []
    start += [sys.executable, "-m", "rawbpf"] if script.endswith("__main__.py") else [script]
    return shlex.join([*start, *arguments])
