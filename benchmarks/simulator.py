"""What the simulated kernel costs: its import, a first map on it, and operations on maps beside the real kernel's.

    python benchmarks/simulator.py [--rounds 9] [--json FILE]

Processes run in turn, as `benchmarks/import_time.py` does it; operations run in turn in one process, on the
simulator and, where bpf(2) may be used, on the kernel: the ratio is the median of the rounds' ratios.
Needs no privileges.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from benchmarks.harness import each, machine, median_ratio, race
from benchmarks.import_time import PATH, run
from rawbpf import BpfError, Map
from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi.constants import BPF_F_WRONLY_PROG

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

PROGRAMS = {
    "bare": "import sys\n",
    "import rawbpf.sim": PATH + "import rawbpf\nrawbpf.sim.Simulator\n",
    "import and first map": PATH + "import rawbpf\n"
    "with rawbpf.using(rawbpf.sim.Simulator()):\n"
    "    rawbpf.Map.create('hash', key='u32', value='u64', max_entries=4)[1] = 2\n",
}
# On a hash table and an array of u64; `keys` are all there.
STATEMENTS = {
    "m[k]": "m[k]",
    "m.get(k), missing": "m.get(k + size)",
    "m[k] = v": "m[k] = 1",
    "a[i], by system call": "a[k]",
}
SIZE = 1000


def started(runs: int) -> dict[str, float]:
    """Return milliseconds of each program over a bare interpreter."""
    rounds = [{name: run(code) for name, code in PROGRAMS.items()} for _ in range(runs + 1)][1:]
    return {
        name: statistics.median(each[name] - each["bare"] for each in rounds) for name in PROGRAMS if name != "bare"
    }


def operated(rounds: int) -> dict[str, dict[str, float]]:
    """Return nanoseconds per operation on each backend, and the ratio where there are two."""
    results: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        backends: dict[str, Backend] = {"sim": stack.enter_context(Simulator())}
        try:
            Map.create("array", value=4, max_entries=1, backend=KernelBackend()).close()
            backends["kernel"] = KernelBackend()
        except BpfError:
            pass
        maps = {name: stack.enter_context(_maps(backend)) for name, backend in backends.items()}
        for what, statement in STATEMENTS.items():
            contenders = {name: each(statement, range(SIZE), m=m, a=a, size=SIZE) for name, (m, a) in maps.items()}
            times = race(contenders, rounds)
            results[what] = {name: statistics.median(found) for name, found in times.items()}
            if "kernel" in times:
                results[what]["ratio"] = median_ratio(times["sim"], times["kernel"])
    return results


@contextmanager
def _maps(backend: Backend) -> Iterator[tuple[Map[int, int], Map[int, int]]]:
    # The array has a flag, so that it is not mapped and each read is a system call.
    with (
        Map.create("hash", key="u32", value="u64", max_entries=SIZE, backend=backend) as m,
        Map.create("array", value="u64", max_entries=SIZE, flags=BPF_F_WRONLY_PROG, backend=backend) as a,
    ):
        m.update(dict.fromkeys(range(SIZE), 1))
        yield m, a


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    description, start, operations = machine(), started(options.rounds), operated(options.rounds)
    print(", ".join(f"{name} {value}" for name, value in description.items()))
    for name, value in start.items():
        print(f"{name:24} {value:7.1f} ms over a bare interpreter")
    for name, found in operations.items():
        kernel = f", {found['ratio']:5.1f} x the kernel's {found['kernel']:6.0f}" if "kernel" in found else ""
        print(f"{name:24} {found['sim']:7.0f} ns on the simulator, {1e9 / found['sim']:7,.0f} per second{kernel}")
    if options.json:
        results = {"machine": description, "start": start, "operations": operations}
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
