"""A Hypothesis state machine that compares kernels: they perform the same operations and must answer alike.

A model judges each of them besides. A rule takes a whole program of operations, since a step of a
state machine costs more than a hundred of them. What does not need a machine uses `rawbpf.testing.party.agree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from rawbpf.syscall.current import current
from rawbpf.testing.ahead import import_ahead
from rawbpf.testing.party import Meeting
from rawbpf.testing.stage import Stage
from rawbpf.testing.strategies import map_specs, programs

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend
    from rawbpf.testing.operation import Operation
    from rawbpf.testing.spec import MapSpec

FAMILIES: dict[str, tuple[str, ...]] = {
    "hash": ("hash", "percpu_hash"),
    "lru": ("lru_hash", "lru_percpu_hash"),
    "array": ("array", "percpu_array"),
    "descriptors": ("prog_array", "perf_event_array", "cgroup_array"),
    "maps": ("array_of_maps", "hash_of_maps"),
    "lpm_trie": ("lpm_trie",),
    "redirect": ("devmap", "devmap_hash", "cpumap", "xskmap"),
    "sockets": ("sockmap", "sockhash", "reuseport_sockarray"),
    "queue": ("queue", "stack", "bloom_filter"),
    "storage": ("sk_storage", "inode_storage", "task_storage", "cgrp_storage"),
    "cgroup_storage": ("cgroup_storage", "percpu_cgroup_storage"),
    "stack_trace": ("stack_trace",),
    "ring": ("ringbuf", "user_ringbuf", "arena"),
}
"""The map types that behave alike, by family; each type is in one."""


class MapMachine(RuleBasedStateMachine):
    """Compares the kernels of `backends()` on maps of `types`. Subclass it, and let pytest find its `TestCase`:

        from rawbpf.sim import Simulator
        from rawbpf.syscall.kernel import KernelBackend
        from rawbpf.testing import FAMILIES, MapMachine

        class HashTables(MapMachine):
            types = FAMILIES["hash"]

            def backends(self):
                kernel = KernelBackend()
                return kernel, Simulator(cpus=kernel.host.possible_cpus)

        TestHashTables = HashTables.TestCase

    All stand for one machine, of as many possible CPUs. Each example makes a map of one spec on every backend, and
    closes all that it made. With one backend, that one is compared with the model alone.
    """

    types: tuple[str, ...] = FAMILIES["hash"]
    """The map types to draw from."""
    length = 30
    """The most operations in a step."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        import_ahead()

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.meeting: Meeting

    def backends(self) -> Sequence[Backend]:
        """Return the kernels to compare: by default, the one that new objects are made with."""
        return (current(),)

    @initialize(spec=st.runner().flatmap(lambda machine: map_specs(machine.types)))
    def make(self, spec: MapSpec) -> None:
        """Make a map of `spec` on each backend. Raises: TypeError, ValueError for what `backends()` returned."""
        stages = [self._stack.enter_context(Stage(backend, spec.map_type)) for backend in self._checked()]
        self.meeting = self._stack.enter_context(Meeting(spec, stages))

    def _checked(self) -> Sequence[Backend]:
        backends: object = self.backends()
        if not isinstance(backends, Sequence) or not backends:
            hint = "expected the backends in a tuple or list, one at least, such as (Simulator(),)"
            raise TypeError(f"{type(self).__name__}.backends() returned {backends!r}: {hint}")
        cpus = [backend.host.possible_cpus for backend in backends]
        if len(set(cpus)) > 1:
            each = ", ".join(f"{backend.name} has {count}" for backend, count in zip(backends, cpus, strict=True))
            wanted = next((backend.host.possible_cpus for backend in backends if backend.name != "sim"), cpus[0])
            hint = f"only kernels of as many can be compared; a simulated one can have them: Simulator(cpus={wanted})"
            raise ValueError(f"{type(self).__name__}.backends() differ in their possible CPUs: {each}; {hint}")
        return backends

    @rule(program=st.runner().flatmap(lambda machine: programs(machine.meeting.spec, machine.cpus, machine.length)))
    def perform(self, program: list[Operation]) -> None:
        """Perform operations. Raises: Disagreement."""
        for operation in program:
            self.meeting.perform(operation)

    @rule()
    def walk(self) -> None:
        """Walk the map. Raises: Disagreement when a walk does not come by each element once."""
        self.meeting.walk()

    @property
    def cpus(self) -> int:
        """The possible CPUs: of the machine that all the backends stand for."""
        return self.meeting.parties[0].backend.host.possible_cpus

    def teardown(self) -> None:
        """Close everything."""
        self._stack.close()
