"""Every exception that rawbpf raises of its own.

Knows nothing of commands, maps or backends: `syscall.error` decides which class an errno means and
writes the hint. Errors of the kernel are OSErrors; wrong arguments that were found before a system
call are plain TypeError, ValueError, OverflowError and IndexError.
"""

from __future__ import annotations

import errno as _errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.uapi.enums import Cmd

ENOTSUPP = 524
"""The kernel's own "not supported", which user space's errno.h lacks."""


# Where the C library has two names for a number, the kernel's is meant.
_NAMES = {ENOTSUPP: "ENOTSUPP", 95: "EOPNOTSUPP"}


def errno_name(number: int) -> str:
    """Return the kernel's name of `number`, ENOTSUPP (524) included."""
    return _NAMES.get(number) or _errno.errorcode.get(number, f"errno {number}")


def errno_text(number: int) -> str:
    """Return what `number` means in words, ENOTSUPP (524) included."""
    return "Operation not supported by this kernel object" if number == ENOTSUPP else os.strerror(number)


class BpfError(OSError):
    """A bpf(2) command, or a call that belongs to one, was refused.

    `errno` is the kernel's, `cmd` the command (None where the call was no bpf command), `subject`
    what it was done to, `hint` why it may have failed and what to try, `backend` whose kernel
    refused ("kernel" for the running one). `applied` counts the elements of a batch that took effect before it was
    refused; None where the kernel does not tell, and for what is no batch.
    """

    applied: int | None = None

    def __init__(
        self,
        errno: int,
        *,
        call: str,
        cmd: int | None = None,
        subject: str = "",
        hint: str = "",
        backend: str = "kernel",
    ) -> None:
        super().__init__(errno, errno_text(errno))
        self.call = call
        self.subject = subject
        self.hint = hint
        self.backend = backend
        self._cmd = cmd

    def __reduce__(self) -> tuple[Callable[..., BpfError], tuple[object, ...], dict[str, object]]:
        return _rebuilt, (type(self), self.errno or 0, self.call), self.__dict__

    @property
    def cmd(self) -> Cmd | None:
        """The bpf command that was refused."""
        if self._cmd is None:
            return None
        from rawbpf.uapi.enums import Cmd  # enums cost milliseconds: only who asks pays

        return Cmd(self._cmd)

    def _detail(self) -> str:
        return ""

    def __str__(self) -> str:
        number = self.errno or 0
        what = f"{self.call} {self.subject}{self._detail()}".rstrip()
        where = "" if self.backend == "kernel" else f" [{self.backend}]"
        return f"{what}{where}: {errno_name(number)}: {self.hint or errno_text(number)}"


def _rebuilt(kind: type[BpfError], errno: int, call: str) -> BpfError:
    # What else an error holds is in its __dict__, which pickle and copy bring along.
    return kind(errno, call=call)


class _KeyedError(BpfError):
    key: object = None

    def _detail(self) -> str:
        return "" if self.key is None else f"[{self.key!r}]"


class KeyNotFound(_KeyedError, KeyError):
    """The map has no such key (`key`)."""


class KeyExists(_KeyedError, FileExistsError):
    """The map has this key (`key`) already."""


class NotFound(BpfError, FileNotFoundError):
    """There is no such pin, or no object with this id or name."""


class IndexOutOfRange(BpfError, IndexError):
    """The array has fewer entries than the index needs."""


class Empty(BpfError, IndexError):
    """The queue or stack holds nothing."""


class MapFull(BpfError):
    """The map holds max_entries entries and cannot take another."""


class Closed(BpfError):
    """The object was closed, by this or another thread."""


class IterationAborted(BpfError):
    """A walk by keys kept restarting, because others deleted what it stood on."""


class PermissionDenied(BpfError, PermissionError):
    """The kernel refused for want of a capability, by a sysctl, or by lockdown."""


class NotSupported(BpfError):
    """This kernel, or this kind of object, does not do that."""


class VerifierError(BpfError):
    """The verifier refused a program; the text is three lines, `log` is all that it said.

    `summary` is the telling line and the `hint`, `instruction` the index of the refused instruction (None
    where the log names none), `source_line` its source as `file:line: text` (None without BTF; of assembler text, the
    file is called by the program's name).
    """

    log: str = ""
    summary: str = ""
    instruction: int | None = None
    source_line: str | None = None
    _where: str = ""  # the lines of the text below the first

    def __str__(self) -> str:
        return super().__str__() + self._where


class SpecError(ValueError):
    """A specification contradicts itself or asks for what cannot be had."""


class FormatError(ValueError):
    """Bytes from outside are not of the format they claim; `offset` says where, in bytes."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset
