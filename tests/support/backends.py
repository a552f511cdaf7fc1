"""Which backends a test runs on: the kernel and the simulator, or the kernel alone where the test says why.

    @pytest.mark.real_kernel("programs run there only")

on a test, a class, a `pytest.param`, or as a module's `pytestmark`. Such a test gets no parameter `sim`: it is not
skipped, it is not there. With RAWBPF_BACKEND=sim it is not there at all, and neither is any test's parameter
`kernel`, so that nothing asks for privileges; with RAWBPF_BACKEND=kernel there is no parameter `sim`. The summary
counts tests by reason, and CI compares with tests/kernel-only.txt: a new one is seen in review.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pytest

from support import kernel_ids

if TYPE_CHECKING:
    from rawbpf.sim.simulator import Simulator

SIMULATED = os.environ.get("RAWBPF_BACKEND") == "sim"
"""Whether this run has no kernel but simulated ones."""
PARAMETERS = {"sim": ("sim",), "kernel": ("kernel",)}.get(os.environ.get("RAWBPF_BACKEND", ""), ("kernel", "sim"))
"""The parameters of the fixture `backend` in this run."""
kernel_only: dict[str, set[str]] = {}
"""The tests that have to have the real kernel, by reason."""


def chosen(item: pytest.Item) -> str | None:
    """Return the parameter of the fixture `backend` that the test runs with; None where it has none."""
    spec = getattr(item, "callspec", None)
    return None if spec is None else spec.params.get("backend")


def select(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the tests that are to run, and remember which are for the real kernel."""
    kept = []
    for item in items:
        parameter = chosen(item)
        marker = item.get_closest_marker("real_kernel")
        if marker is not None:
            (reason,) = marker.args
            kernel_only.setdefault(reason, set()).add(item.nodeid.partition("[")[0])
        if marker is None or not (SIMULATED or parameter == "sim"):
            kept.append(item)
    return kept


def unlisted(found: Mapping[str, set[str]], listed: str) -> list[str]:
    """Return a complaint for each reason that `listed` has with another number of tests than were found.

    `listed` has lines of a number and a reason; empty lines and `#` comments are ignored.
    """
    lines = [line.strip() for line in listed.splitlines() if line.strip() and not line.startswith("#")]
    expected = {reason: int(count) for count, _, reason in (line.partition(" ") for line in lines)}
    return [
        f"{len(found.get(reason, ()))} tests are for the real kernel only because {reason}; "
        f"kernel-only.txt says {expected.get(reason, 0)}"
        for reason in sorted({*found, *expected})
        if len(found.get(reason, ())) != expected.get(reason, 0)
    ]


def said(error: BaseException) -> str:
    """Return what an error says, whichever kernel it is of."""
    return str(error).replace(" [sim]", "")


def left_in(simulator: Simulator) -> list[str]:
    """Return what exists in the simulated kernel, in words."""

    def call(cmd: int, attr: bytes) -> tuple[int, bytes]:
        return kernel_ids.call_with(simulator.bpf, cmd, attr)

    def left() -> list[tuple[str, int]]:
        return sorted(key for key in kernel_ids.ids(call) if not kernel_ids.is_kernels_own(*key, call))

    if left():
        gc.collect()
    return [f"{kernel_ids.describe(kind, number, call)} (simulated)" for kind, number in left()]
