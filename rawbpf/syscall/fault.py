"""Failures on demand: the n-th call of a command fails with an errno and never reaches the kernel."""

from __future__ import annotations

import ctypes

from rawbpf.syscall.wrapper import Wrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend


class FaultBackend(Wrapper):
    """Lets calls fail: `faults` gives, per command, pairs of (which call of it, from 1; errno).

    `calls` counts the calls of each command, failed ones included.
    """

    def __init__(self, inner: Backend, faults: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        super().__init__(inner)
        self._faults = {cmd: dict(pairs) for cmd, pairs in faults.items()}
        self._always: dict[int, int] = {}
        self.calls: dict[int, int] = {}

    def fail(self, cmd: int, faults: Iterable[tuple[int, int]]) -> None:
        """Let further calls of `cmd` fail: pairs of (which call of it, from 1; errno)."""
        self._faults.setdefault(cmd, {}).update(faults)

    def fail_always(self, cmd: int, errno: int) -> None:
        """Let every further call of `cmd` fail with `errno`, where `fail` says nothing else of it."""
        self._always[cmd] = errno

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        """Fail if this call is due to, else make it."""
        self.calls[cmd] = nth = self.calls.get(cmd, 0) + 1
        number = self._faults.get(cmd, {}).get(nth, self._always.get(cmd))
        if number is None:
            return call(cmd, attr, size)
        ctypes.set_errno(number)
        return -1
