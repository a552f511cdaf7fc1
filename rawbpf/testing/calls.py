"""The bpf(2) calls that a piece of code makes, collected and counted.

How a call is decoded is in `syscall.trace`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rawbpf.syscall.current import current, using
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.testing.command import command_number
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


class Trace:
    """The calls that went through `backend`, oldest first: iterate, index, `len()`; more may follow.

    `backend` may also be handed to what takes `backend=`, before and after the `with` block.
    """

    def __init__(self, inner: Backend) -> None:
        self._calls: list[Call] = []
        self.backend = TraceBackend(inner, self._calls.append)

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def __getitem__(self, index: int) -> Call:
        return self._calls[index]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        return f"<Trace of {len(self)} calls: {counts or 'none'}>"

    def __str__(self) -> str:
        return "\n".join(map(str, self._calls))

    def count(self, *cmds: int | str) -> int:
        """Return how many calls of these commands there were (`Cmd.MAP_CREATE` or "map_create"); of all by default.

        Raises: ValueError for an unknown command.
        """
        wanted = {command_number(cmd) for cmd in cmds}
        return sum(call.cmd in wanted for call in self._calls) if cmds else len(self._calls)

    def counts(self) -> Counter[str]:
        """Return how many calls of each command there were, by name."""
        return Counter(cmd_name(call.cmd) for call in self._calls)

    def clear(self) -> None:
        """Forget the calls so far."""
        self._calls.clear()


@contextmanager
def trace(*, backend: Backend | None = None) -> Iterator[Trace]:
    """Collect the bpf(2) calls of a `with` block, those of objects that are made within it, and yield them.

    `backend`: what makes the calls, the current one by default. Objects that were made before keep the
    backend that they have, and their calls are not seen.
    """
    calls = Trace(current() if backend is None else backend)
    with using(calls.backend):
        yield calls
