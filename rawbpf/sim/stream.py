"""A program's two streams of text, which whoever plays the program, or the kernel about it, writes to.

Source: kernel/bpf/stream.c (v6.18).
"""

from __future__ import annotations

from errno import ENOENT, ENOMEM, ENOSPC

from rawbpf.uapi import constants as c

_CAPACITY = 100_000  # Source: include/linux/bpf.h:BPF_STREAM_MAX_CAPACITY
_LONGEST = 1024  # Source: include/linux/bpf.h:MAX_BPRINTF_BUF


class SimStreams:
    """What was written and not read yet, piece by piece: the room of a piece comes back when all of it was read."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[bytes]] = {c.BPF_STDOUT: [], c.BPF_STDERR: []}
        self._used = dict.fromkeys(self._pieces, 0)
        # How much of the first piece was read.
        self._consumed = dict.fromkeys(self._pieces, 0)

    def __contains__(self, stream: int) -> bool:
        return stream in self._pieces

    def write(self, stream: int, text: bytes) -> int:
        """Append `text`: 0, or a negative errno. Source: bpf_stream_vprintk, bpf_stream_push_str."""
        if stream not in self:
            return -ENOENT
        if self._used[stream] + len(text) >= _CAPACITY:
            return -ENOSPC
        if len(text) > _LONGEST:
            return -ENOMEM
        # The NUL that the kernel formats a text with takes the place of the last byte of the longest.
        self._pieces[stream].append(text if len(text) < _LONGEST else text[:-1] + b"\0")
        self._used[stream] += len(text)
        return 0

    def read(self, stream: int, size: int) -> bytes:
        """Take at most `size` bytes. Source: bpf_stream_read."""
        pieces, taken = self._pieces[stream], b""
        while pieces and len(taken) < size:
            rest = pieces[0][self._consumed[stream] :]
            part = rest[: size - len(taken)]
            taken += part
            if part == rest:
                self._used[stream] -= len(pieces.pop(0))
                self._consumed[stream] = 0
            else:
                self._consumed[stream] += len(part)
        return taken
