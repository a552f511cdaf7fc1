"""Failures on demand: the n-th call of a command fails with an errno and never reaches the kernel."""

from __future__ import annotations

import ctypes
from collections import Counter

from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend


class Calls(Counter[str]):
    """How many calls of each command there were, by its name; its number, or the `Cmd`, finds it as well."""

    def __getitem__(self, cmd: int | str) -> int:
        return super().__getitem__(_named(cmd))

    def __setitem__(self, cmd: int | str, count: int) -> None:
        super().__setitem__(_named(cmd), count)

    def __contains__(self, cmd: object) -> bool:
        return super().__contains__(_named(cmd) if isinstance(cmd, int | str) else cmd)


class FaultBackend(Wrapper):
    """Lets calls fail: `faults` gives, per command, pairs of (which call of it, from 1; errno).

    `calls` counts the calls of each command, failed ones included: `calls["map_update_elem"]`.
    """

    def __init__(self, inner: Backend, faults: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        super().__init__(inner)
        self._faults = {cmd: dict(pairs) for cmd, pairs in faults.items()}
        self._always: dict[int, int] = {}
        self._always_unused: set[int] = set()
        self.calls = Calls()

    @property
    def unused(self) -> dict[str, int | list[tuple[int, int]]]:
        """The faults that have not come, because no such call was made: as `rawbpf.testing.faults` takes them."""
        found: dict[str, int | list[tuple[int, int]]] = {
            cmd_name(cmd): self._always[cmd] for cmd in self._always if cmd in self._always_unused
        }
        return found | {cmd_name(cmd): sorted(pairs.items()) for cmd, pairs in self._faults.items() if pairs}

    def fail(self, cmd: int, faults: Iterable[tuple[int, int]]) -> None:
        """Let further calls of `cmd` fail: pairs of (which call of it, from 1; errno)."""
        self._faults.setdefault(cmd, {}).update(faults)

    def fail_always(self, cmd: int, errno: int) -> None:
        """Let every further call of `cmd` fail with `errno`, where `fail` says nothing else of it."""
        self._always[cmd] = errno
        self._always_unused.add(cmd)

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        """Fail if this call is due to, else make it."""
        self.calls[cmd] = nth = self.calls[cmd] + 1
        number = self._faults.get(cmd, {}).pop(nth, None)
        if number is None and (number := self._always.get(cmd)) is not None:
            self._always_unused.discard(cmd)
        if number is None:
            return call(cmd, attr, size)
        ctypes.set_errno(number)
        return -1


def _named(cmd: int | str) -> str:
    return cmd if isinstance(cmd, str) else cmd_name(cmd)
