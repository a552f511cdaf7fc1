"""Comparing ways to do one thing: in turn in one process, so that what slows the machine slows all of them.

A contender is a function that does its work once and returns nanoseconds per operation. `race` runs
contenders A B C, then C B A, and so on; what it reports of each is the median over the rounds, and how
it compares with another is the median of the ratios within each round.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Contender = Callable[[], float]


def race(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Run each of `contenders` once to warm up, then `rounds` times in turn; return the times by name."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for nth in range(-1, rounds):
        for name in reversed(contenders) if nth % 2 else contenders:
            gc.collect()
            result = contenders[name]()
            if nth >= 0:
                times[name].append(result)
    return times


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return how many times as long `times` took as `others` did, in the middle of the rounds."""
    return statistics.median(one / other for one, other in zip(times, others, strict=True))


def each(statement: str, operands: Sequence[object], /, **names: object) -> Contender:
    """Return what runs `statement` for each `k` of `operands`, with `names` as local variables.

    Made from source, so that each contender has bytecode of its own: the interpreter adapts it to
    what it meets. What the loop itself costs is part of the result.
    """
    parameters = ", ".join(f"{name}={name}" for name in names)
    source = f"def run({parameters}):\n    for k in operands:\n        {statement}\n"
    scope: dict[str, object] = {"operands": operands, **names}
    exec(source, scope)
    run = scope["run"]
    assert callable(run)
    return timed(run, len(operands))


def timed(
    run: Callable[[], object],
    operations: int,
    prepare: Callable[[], object] | None = None,
    *,
    clock: Callable[[], int] = time.thread_time_ns,
) -> Contender:
    """Return what calls `prepare`, unmeasured, and then `run`, which does as many `operations`."""

    def contender() -> float:
        if prepare is not None:
            prepare()
        start = clock()
        kept = run()
        spent = clock() - start
        del kept  # what is made is thrown away after the clock has stopped
        return spent / operations

    return contender


def machine() -> dict[str, str | int]:
    """Return what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    jit = Path("/proc/sys/net/core/bpf_jit_enable")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count() or 0,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "jit": jit.read_text(encoding="ascii").strip() if jit.exists() else "unknown",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }
