"""The log of a BTF_LOAD: what was read, and what was wrong with it.

The wording is much like the kernel's and not the same; how a log fits its buffer is the kernel's own.
Source: kernel/bpf/log.c:bpf_vlog_init, bpf_verifier_vlog, bpf_vlog_finalize (v6.12).
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOSPC

from rawbpf.sim.error import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.memory import Memory

_LEVELS = 15
_FIXED = 8
_LIMIT = 0xFFFFFFFF >> 2


class Log:
    """Text for the `size` bytes at `address`; none is kept where `level` is 0.

    Raises: Refused (EINVAL) where the three do not go together.
    """

    def __init__(self, level: int, address: int, size: int) -> None:
        if bool(address) != bool(size) or (address and not level) or level & ~_LEVELS or size > _LIMIT:
            raise Refused(EINVAL)
        self._level = level
        self._address = address
        self._size = size
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """Add a line."""
        if self._level:
            self._lines.append(line)

    def refused(self, errno: int, line: str) -> Refused:
        """Add a line, and return the error that it explains."""
        self.write(line)
        return Refused(errno)

    def deliver(self, memory: Memory) -> tuple[int, int]:
        """Hand the log out; return how many bytes it takes with its NUL, and an errno: 0, ENOSPC or EFAULT.

        A log that does not fit loses its beginning, with BPF_LOG_FIXED its end.
        """
        if not self._lines:
            return 0, 0
        text = "".join(line + "\n" for line in self._lines).encode("latin-1", "replace")
        needed = len(text) + 1
        if not self._address:
            return needed, 0
        room = self._size - 1
        kept = text if len(text) <= room else text[:room] if self._level & _FIXED else text[len(text) - room :]
        try:
            memory.write(self._address, kept + b"\0")
        except Refused:
            return needed, EFAULT
        return needed, ENOSPC if needed > self._size else 0
