"""What a program printed, and what the kernel wrote about it: its two streams of text.

Programs print by the kernel's function bpf_stream_vprintk(); the kernel itself writes to the second stream
why it stopped a program, or at what address it failed. What one reader took, no other sees.
Kernel side: kernel/bpf/stream.c:bpf_prog_stream_read (v6.18).
"""

from __future__ import annotations

from rawbpf.errors import BpfError, NotSupported
from rawbpf.syscall.prog import prog_stream_read
from rawbpf.uapi.constants import BPF_STDERR, BPF_STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.program.program import Program

_EINVAL = 22
_NAMES = {BPF_STDOUT: "stdout", BPF_STDERR: "stderr"}
# More than a stream holds, so that usually one call is enough.
# Source: include/linux/bpf.h:BPF_STREAM_MAX_CAPACITY (v6.18)
_SIZE = 1 << 17


class Stream:
    """Text that a program, or the kernel about it, has written: `Program.stdout` and `Program.stderr`.

    It holds 99,999 bytes at most; what is written when it is full is lost, and the program is told (-ENOSPC).
    Nothing waits for text: the kernel tells nobody when there is some.
    """

    __slots__ = ("_number", "_program")

    def __init__(self, program: Program, number: int) -> None:
        self._program = program
        self._number = number

    def read_bytes(self) -> bytes:
        """Take what is there now; b"" where there is nothing.

        Raises: NotSupported where the kernel has no such streams; Closed.
        Since: Linux 6.17. Source: kernel/bpf/syscall.c:prog_stream_read
        """
        backend, fd, subject = self._program.backend, self._program.fileno(), self._describe()
        taken = []
        while True:
            try:
                taken.append(prog_stream_read(backend, fd, self._number, _SIZE, subject=subject))
            except BpfError as error:
                # It is a program, and the stream is one of the two: nothing but the command can be unknown.
                if error.errno != _EINVAL:
                    raise
                hint = "this kernel keeps nothing that programs print: streams are there since Linux 6.17"
                raise NotSupported(
                    _EINVAL, call=error.call, cmd=error.cmd, subject=subject, hint=hint, backend=backend.name
                ) from None
            if len(taken[-1]) < _SIZE:
                return b"".join(taken)

    def read(self) -> str:
        r"""Take what is there now as text; "" where there is nothing. Bytes that are no UTF-8 become `\xff`.

        Raises: as `read_bytes`.
        """
        return self.read_bytes().decode("utf-8", "backslashreplace")

    def __iter__(self) -> Iterator[str]:
        """Take what is there now and yield it line by line, without the newlines; what is last need not have one.

        Raises: as `read_bytes`.
        """
        lines = self.read().split("\n")
        if not lines[-1]:
            lines.pop()
        return iter(lines)

    def _describe(self) -> str:
        return f"{_NAMES[self._number]} of program {self._program.name!r}"

    def __repr__(self) -> str:
        return f"<Stream {self._describe()}>"
