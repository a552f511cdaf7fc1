"""A kernel that is interrupted: Ctrl-C comes while a call is made."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from rawbpf.syscall.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend


class Signalled(Wrapper):
    """A kernel during whose calls Ctrl-C is pressed, before or after the call."""

    def __init__(self, inner: Backend, cmd: int, after: bool) -> None:
        super().__init__(inner)
        self._cmd = cmd
        self._after = after

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == self._cmd and not self._after:
            signal.raise_signal(signal.SIGINT)
        result = call(cmd, attr, size)
        if cmd == self._cmd and self._after:
            signal.raise_signal(signal.SIGINT)
        return result

    def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
        fd = super().perf_event_open(attr, pid, cpu, group_fd, flags)
        if self._cmd < 0:
            signal.raise_signal(signal.SIGINT)
        return fd
