"""Comparing kernels with the models, and with each other: who takes part, how many operations, from which seed.

RAWBPF_ORACLE_OPERATIONS=20000    how many operations of each map type are tried at least
RAWBPF_ORACLE_SEED=12             the seed of the first round; a failure names the seed of its round
RAWBPF_ORACLE_PARTIES=kernel      who takes part: `kernel`, `sim`, or both with a comma
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rawbpf.testing.older import release_of
from rawbpf.testing.party import agree
from rawbpf.testing.stage import Stage
from rawbpf.testing.strategies import map_specs, programs
from support import backends, needs

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend
    from rawbpf.testing.cells import Seen
    from rawbpf.testing.operation import Operation
    from rawbpf.testing.spec import MapSpec

OPERATIONS = int(os.environ.get("RAWBPF_ORACLE_OPERATIONS", "500"))
SEED = int(os.environ.get("RAWBPF_ORACLE_SEED", "1"))
PARTIES = os.environ.get("RAWBPF_ORACLE_PARTIES", "sim" if backends.SIMULATED else "kernel,sim").split(",")
LENGTH = 100
"""The operations in an example, about."""
FULL = 20000
"""So many operations fall into every cell."""
_ROUND = 5000
EXAMPLES = max(10, min(OPERATIONS // 100, 200))
"""How many programs of some operations a law is tried with."""
SLOW = ("array_of_maps", "hash_of_maps", "cpumap")
"""The types whose changes take the kernel milliseconds."""

QUIET = settings(
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)

# What a map type needs beyond being there, for the objects that it holds: they are the machine's, on every kernel.
NEEDS = {
    "cgroup_array": ("capability:CAP_DAC_OVERRIDE",),
    "cgrp_storage": ("capability:CAP_DAC_OVERRIDE",),
    "xskmap": ("capability:CAP_NET_RAW",),
}


def require(map_type: str) -> None:
    """Skip the calling test where the kernel takes part and has not the type, or may not be asked for what it needs."""
    if "kernel" in PARTIES:
        needs.require("kernel", f"map_type:{map_type}")
    needs.require(*NEEDS.get(map_type, ()))


def _kernel() -> Backend:
    from rawbpf.syscall.kernel import KernelBackend

    return KernelBackend()


@contextmanager
def parties() -> Iterator[list[Backend]]:
    """Yield the kernels that take part, of as many CPUs and one release; simulated ones end with the block."""
    from rawbpf.sim.simulator import Simulator

    with ExitStack() as stack:
        kernel = _kernel()
        cpus = kernel.host.possible_cpus
        # By itself a simulator is of the newest release.
        release = release_of(kernel) if "kernel" in PARTIES else None
        makers: dict[str, Callable[[], Backend]] = {
            "kernel": _kernel,
            "sim": lambda: stack.enter_context(Simulator(release, cpus)),
        }
        yield [makers[name]() for name in PARTIES]


@contextmanager
def stages(map_type: str) -> Iterator[list[Stage]]:
    """Yield the kernels that take part, with the objects that maps of `map_type` need."""
    with ExitStack() as stack:
        yield [stack.enter_context(Stage(backend, map_type)) for backend in stack.enter_context(parties())]


def for_all(
    *strategies: st.SearchStrategy[Any], examples: int = EXAMPLES, seed_of: int = SEED
) -> Callable[[Callable[..., None]], None]:
    """Return a decorator that tries a law with what is drawn from `strategies`, at once."""

    def tried(law: Callable[..., None]) -> None:
        seed(seed_of)(settings(QUIET, max_examples=examples)(given(*strategies)(law)))()

    return tried


def examples(map_type: str) -> int:
    """Return how many examples maps of a type are tried with: fewer, where the kernel takes its time."""
    return max(4, EXAMPLES // 5) if map_type in SLOW else EXAMPLES


@st.composite
def cases(draw: st.DrawFn, map_type: str, cpus: int, length: int = LENGTH) -> tuple[MapSpec, list[Operation]]:
    """Draw a spec and a program for it."""
    spec = draw(map_specs(map_type))
    return spec, draw(programs(spec, cpus, length))


def explore(map_type: str, on: Sequence[Stage], seen: Seen, operations: int, first_seed: int = SEED) -> int:
    """Perform about `operations` operations in programs on fresh maps; return how many they were.

    In rounds, each from a seed of its own, so that a long run can be taken up where it ended.
    """
    cpus = on[0].backend.host.possible_cpus
    before = seen.counts.total()
    number = first_seed
    while (left := operations - (seen.counts.total() - before)) > 0:

        def law(case: tuple[MapSpec, list[Operation]]) -> None:
            agree(*case, on, seen)

        try:
            # The first example of a round is the simplest, which is empty.
            for_all(cases(map_type, cpus), examples=2 + min(left, _ROUND) // LENGTH, seed_of=number)(law)
        except AssertionError as error:
            error.add_note(f"RAWBPF_ORACLE_SEED={number} repeats this")
            raise
        number += 1
    return seen.counts.total() - before
