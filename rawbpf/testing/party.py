"""One kernel that takes part in a comparison: its map, and the model that judges what it answers."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from rawbpf.testing.model import model_of
from rawbpf.testing.older import release_of
from rawbpf.testing.operation import Operation, Outcome, perform
from rawbpf.testing.spec import create
from rawbpf.uapi import attr
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from rawbpf.syscall.protocol import Backend
    from rawbpf.testing.cells import Seen
    from rawbpf.testing.named import Objects
    from rawbpf.testing.spec import MapSpec
    from rawbpf.testing.stage import Stage

_MODES = {"r": c.BPF_F_RDONLY, "w": c.BPF_F_WRONLY}
# Local storage that another CPU uses, or that is being freed, is "try again"; more often than this it is an answer.
_REPEATS = 1000


class Disagreement(AssertionError):
    """Kernels, or a kernel and the model, answered differently. The message is a program that shows it."""


class Party:
    """A map of `spec` on `backend`, made at once. Raises: OSError where it cannot be."""

    def __init__(self, backend: Backend, spec: MapSpec, objects: Objects) -> None:
        self.backend = backend
        self.spec = spec
        self.objects = objects
        self.model = model_of(spec, backend.host.possible_cpus, release_of(backend))
        self.fds: dict[str, int] = {}
        self._last: bytes | None = None
        fd, error = create(backend, spec, objects)
        if error:
            raise OSError(f"{spec} on {backend.name}: {error}")
        self.fds[""] = fd

    def perform(self, operation: Operation) -> Outcome:
        """Perform it on this kernel; the model is not asked."""
        fd = self.fds.get(operation.mode)
        if fd is None:
            fd = self.fds[operation.mode] = self._reopen(_MODES[operation.mode])
        outcome = perform(self.backend, fd, self.spec, operation, self.objects, self._last)
        for _ in range(_REPEATS):
            if outcome.error != "EAGAIN":
                break
            outcome = perform(self.backend, fd, self.spec, operation, self.objects, self._last)
        if outcome.cursor is not None:
            self._last = outcome.cursor
        return outcome

    def _reopen(self, flags: int) -> int:
        room = ctypes.create_string_buffer(MAP_INFO.size)
        image = attr.OBJ_GET_INFO_BY_FD.pack(bpf_fd=self.fds[""], info_len=MAP_INFO.size, info=ctypes.addressof(room))
        self._must(self.backend.bpf(c.BPF_OBJ_GET_INFO_BY_FD, ctypes.byref(image), attr.OBJ_GET_INFO_BY_FD.minimum))
        image = attr.MAP_GET_FD_BY_ID.pack(map_id=MAP_INFO.integer(room, "id"), open_flags=flags)
        return self._must(self.backend.bpf(c.BPF_MAP_GET_FD_BY_ID, ctypes.byref(image), attr.MAP_GET_FD_BY_ID.size))

    def _must(self, result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), f"reopening a map on {self.backend.name}")
        return result

    def close(self) -> None:
        """Close the map."""
        # The one that was made goes last: a program array that is emptied must not be opened again.
        for mode in sorted(self.fds, reverse=True):
            self.backend.close(self.fds.pop(mode))


class Meeting:
    """The parties to a comparison, each with a new map of the same spec. Close it, or use it in a `with`.

    `stages`: the backends and their objects; `seen` counts the cells that operations fell into.
    """

    def __init__(self, spec: MapSpec, stages: Sequence[Stage], seen: Seen | None = None) -> None:
        self.spec = spec
        self.seen = seen
        self.program: list[Operation] = []
        self.parties: list[Party] = []
        try:
            for stage in stages:
                stage.renew()
                self.parties.append(Party(stage.backend, spec, stage.objects))
        except BaseException:
            self.close()
            raise
        self._exact = self.parties[0].model.exact

    def perform(self, operation: Operation) -> Outcome:
        """Perform `operation` everywhere and return what came of it. Raises: Disagreement."""
        self.program.append(operation)
        first: Outcome | None = None
        for party in self.parties:
            outcome = party.perform(operation)
            if first is None:
                first = outcome
            elif self._exact and outcome != first:
                raise self._disagreement(self.parties[0].backend.name, first, party.backend.name, outcome)
            expected = party.model.judge(operation, outcome)
            if expected != outcome:
                raise self._disagreement("model", expected, party.backend.name, outcome)
        if self.seen is not None:
            self.seen.counts[self.parties[0].model.cell] += 1
        for key in {key for party in self.parties for key in party.model.unsettled()}:
            self.perform(Operation("lookup", key))
        assert first is not None
        return first

    def walk(self) -> list[bytes]:
        """Walk the map by its keys and return them. Raises: Disagreement when one comes twice or does not come.

        Nothing is done to a map that cannot be walked.
        """
        found: list[bytes] = []
        key: bytes | None = None
        while True:
            outcome = self.perform(Operation("next_key", key))
            if outcome.error or not isinstance(outcome.value, bytes):
                break
            key = outcome.value
            found.append(key)
            if len(set(found)) < len(found):
                raise self._disagreement("model", Outcome("ENOENT"), self.parties[0].backend.name, outcome)
        missed = self.parties[0].model.walked(found) if outcome.error == "ENOENT" else set()
        if missed:
            raise self._disagreement("model", Outcome(value=min(missed)), self.parties[0].backend.name, outcome)
        return found

    def _disagreement(self, one: str, first: Outcome, other: str, second: Outcome) -> Disagreement:
        lines = [f"{self.spec}", *(f"    {operation!r}," for operation in self.program)]
        lines += ["of which the last came to", f"    {one}: {first}", f"    {other}: {second}"]
        return Disagreement("\n".join(lines))

    def close(self) -> None:
        """Close the maps."""
        for party in self.parties:
            party.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def agree(spec: MapSpec, operations: Iterable[Operation], stages: Sequence[Stage], seen: Seen | None = None) -> None:
    """Perform `operations` on a new map of `spec` of each of `stages`. Raises: Disagreement."""
    with Meeting(spec, stages, seen) as meeting:
        for operation in operations:
            meeting.perform(operation)
