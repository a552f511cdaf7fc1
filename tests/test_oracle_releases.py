"""The models and the simulator know by tables of their own what older kernels answer: they agree on every release."""

from __future__ import annotations

import pytest
from support import oracle

from rawbpf import features
from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.testing.cells import CELLS, RELEASE, Cell, Seen
from rawbpf.testing.older import cells_of, release_of
from rawbpf.testing.stage import Stage
from rawbpf.testing.strategies import MAP_TYPES

# Each is on another side of some change than the one before it.
RELEASES = ["5.10", "5.10.231", "5.13", "5.14", "5.15", "5.19", "6.1.115", "6.4", "6.5", "6.12", "6.13", "6.18", "7.0"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_simulated_kernel_answers_as_the_models_of_its_release_say(release: str) -> None:
    tried = []
    with Simulator(release, cpus=2) as simulator:
        for map_type in MAP_TYPES:
            # Of those whose objects every process may make.
            if map_type not in oracle.NEEDS and features.map_type(map_type, backend=simulator):
                with Stage(simulator, map_type) as stage:
                    oracle.explore(map_type, [stage], Seen(), 100)
                tried.append(map_type)
    assert {"hash", "lpm_trie", "sockmap"} <= set(tried)


@pytest.mark.parametrize(
    ("release", "cell", "answer"),
    [
        ("5.10", Cell("hash", "lookup_and_delete", "always"), "ENOTSUPP"),
        ("5.14", Cell("hash", "lookup_and_delete", "existing"), ""),
        ("5.10.230", Cell("lpm_trie", "update", "EXIST, missing"), ""),
        ("5.10.231", Cell("lpm_trie", "update", "EXIST, missing"), "ENOENT"),
        ("6.1", Cell("hash", "freeze", "lock"), None),
        ("6.4.0-1-generic", Cell("hash", "freeze", "lock"), "ENOTSUPP"),
        ("6.4.0-1-generic", Cell("queue", "freeze", "frozen"), "EBUSY"),
        ("6.12.117+deb13-amd64", Cell("stack_trace", "lookup_and_delete", "always"), "ENOTSUPP"),
        ("6.19", Cell("cpumap", "update", "closed"), "ENOMEM"),
        ("7.2.13+deb14-cloud-amd64", Cell("cpumap", "update", "closed"), "EBADF"),
        ("7.2.13+deb14-cloud-amd64", Cell("cpumap", "update", "long queue"), "EOVERFLOW"),
    ],
)
def test_an_answer_is_that_of_the_release(release: str, cell: Cell, answer: str | None) -> None:
    assert cells_of(release).get(cell) == answer


def test_the_release_of_the_tables_answers_as_they_say() -> None:
    assert cells_of(f"{RELEASE}.7-generic") is CELLS
    assert cells_of("6.19") is CELLS
    with pytest.raises(ValueError, match="release 'new': numbers are expected"):
        cells_of("new")


def test_debians_kernels_are_known_by_the_stable_release_that_they_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KernelBackend()
    assert release_of(kernel).startswith(".".join(kernel.host.release.split(".")[:2]))
    told = "#1 SMP Debian 5.10.223-1 (2024-08-10)"
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"version": told}))
    assert release_of(kernel) == "5.10.223"
    with Simulator("6.1") as simulator:
        assert release_of(simulator) == "6.1"
