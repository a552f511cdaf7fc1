"""One map on the running kernel and on a simulated one: the same commands, which must come to the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rawbpf.sim import Simulator
from rawbpf.testing.older import release_of
from rawbpf.testing.operation import LAST, Operation, Outcome, perform
from rawbpf.testing.spec import MapSpec, create

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


class Pair:
    """The map of `spec` on `kernel` and on `sim`."""

    def __init__(self, kernel: Backend, sim: Simulator, spec: MapSpec, kernel_fd: int, sim_fd: int) -> None:
        self.kernel = kernel
        self.sim = sim
        self.spec = spec
        self.kernel_fd = kernel_fd
        self.sim_fd = sim_fd
        self.done: list[Operation] = []
        self.seen: set[tuple[str, str]] = set()

    def perform(self, operation: Operation, last: bytes | None = None) -> Outcome:
        """Perform `operation` on both; return what came of it, which must be the same."""
        self.done.append(operation)
        here = perform(self.kernel, self.kernel_fd, self.spec, operation, last=last)
        there = perform(self.sim, self.sim_fd, self.spec, operation, last=last)
        self.seen.add((operation.verb, here.error))
        assert there == here, f"{self.spec}, after\n" + "\n".join(map(repr, self.done))
        return here

    def perform_all(self, operations: Iterable[Operation]) -> None:
        """Perform each of `operations`; a batch that goes on has the cursor that the one before left."""
        last = None
        for operation in operations:
            last = self.perform(operation, last).cursor or last


@contextmanager
def pair(kernel: Backend, spec: MapSpec, seed: int = 0) -> Iterator[Pair]:
    """Create the map of `spec` twice; a simulated kernel has as many CPUs as the running one."""
    with Simulator(release_of(kernel), kernel.host.possible_cpus, seed) as sim:
        fds = [create(backend, spec) for backend in (kernel, sim)]
        try:
            assert [error for _, error in fds] == ["", ""]
            yield Pair(kernel, sim, spec, fds[0][0], fds[1][0])
        finally:
            for backend, (fd, _) in zip((kernel, sim), fds, strict=True):
                if fd >= 0:
                    backend.close(fd)


def refusals(kernel: Backend, specs: Iterable[MapSpec]) -> tuple[dict[MapSpec, str], dict[MapSpec, str]]:
    """Return what the running kernel and a simulated one say to the creation of each of `specs`."""
    with Simulator(release_of(kernel), kernel.host.possible_cpus) as sim:
        answers: tuple[dict[MapSpec, str], dict[MapSpec, str]] = ({}, {})
        for spec in specs:
            for backend, answer in zip((kernel, sim), answers, strict=True):
                fd, error = create(backend, spec)
                if fd >= 0:
                    backend.close(fd)
                answer[spec] = error
    return answers


class Chance:
    """What operations are drawn from: few keys and values, so that they meet; flags that are often 0."""

    def __init__(self, seed: int, keys: list[bytes], values: list[bytes], verbs: Iterable[str]) -> None:
        self._random = random.Random(seed)
        self._keys = keys
        self._values = values
        self._verbs = list(verbs)

    def operations(self, count: int) -> Iterator[Operation]:
        """Yield `count` operations."""
        for _ in range(count):
            yield self._batch() if self._random.random() < 0.2 else self._element()

    def _element(self) -> Operation:
        chance = self._random
        verb = chance.choice([each for each in self._verbs if not each.endswith("_batch")])
        key: bytes | None = chance.choice(self._keys)
        if chance.random() < 0.05 or (not key and chance.random() < 0.9):
            key = None
        flags = chance.choice((0, 0, 0, 0, 1, 2, 3, 4, 8, 1 << 32)) if verb != "delete" or chance.random() < 0.1 else 0
        if verb == "next_key":
            flags = 0
            value: bytes | None = b""
        else:
            value = None if chance.random() < 0.02 else chance.choice(self._values)
        return Operation(verb, key, value, flags)

    def _batch(self) -> Operation:
        chance = self._random
        verb = chance.choice(("lookup_batch", "lookup_and_delete_batch", "update_batch", "delete_batch"))
        count = chance.randrange(5)
        elem_flags = chance.choice((0, 0, 0, 0, 0, 1, 4))
        flags = chance.choice((0, 0, 0, 0, 0, 1))
        keys: tuple[bytes, ...] | None = tuple(chance.choice(self._keys) for _ in range(count))
        values: tuple[bytes, ...] | None = tuple(chance.choice(self._values) for _ in range(count))
        # Pointers that lead nowhere.
        bad = chance.random()
        if bad < 0.03:
            keys = None
        elif bad < 0.06:
            values = None
        if verb in ("update_batch", "delete_batch"):
            return Operation(verb, keys=keys, values=values, count=count, flags=flags, elem_flags=elem_flags)
        cursor = chance.choice((None, LAST, b"\0\0\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff"))
        return Operation(
            verb,
            keys=None if keys is None else (),
            values=None if values is None else (),
            count=count,
            cursor=cursor,
            flags=flags,
            elem_flags=elem_flags,
            out_batch=chance.random() > 0.03,
        )
