"""A Hypothesis state machine that compares kernels: they perform the same operations and must answer alike.

A model judges each of them besides. A rule takes a whole program of operations, since a step of a
state machine costs more than a hundred of them. What does not need a machine uses `rawbpf.testing.party.agree`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from rawbpf.syscall.current import current
from rawbpf.testing.party import Meeting
from rawbpf.testing.stage import Stage
from rawbpf.testing.strategies import map_specs, programs

if TYPE_CHECKING:
    from collections.abc import Sequence

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

        class HashTables(MapMachine):
            types = FAMILIES["hash"]

            def backends(self):
                return KernelBackend(), Simulator()

        TestHashTables = HashTables.TestCase

    Each example makes a map of one spec on every backend, and closes all that it made. With one backend, that one
    is compared with the model alone.
    """

    types: tuple[str, ...] = FAMILIES["hash"]
    """The map types to draw from."""
    length = 30
    """The most operations in a step."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.meeting: Meeting

    def backends(self) -> Sequence[Backend]:
        """Return the kernels to compare: by default, the one that new objects are made with."""
        return (current(),)

    @initialize(spec=st.runner().flatmap(lambda machine: map_specs(machine.types)))
    def make(self, spec: MapSpec) -> None:
        """Make a map of `spec` on each backend."""
        stages = [self._stack.enter_context(Stage(backend, spec.map_type)) for backend in self.backends()]
        self.meeting = self._stack.enter_context(Meeting(spec, stages))

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
