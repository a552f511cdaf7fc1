"""How long an object takes from its file into the kernel, and the kernel's types until the first is found.

    python benchmarks/load.py [--object FILE] [--rounds 15] [--json FILE]

Beside libbpf, called from C, in turn in one process; printed are medians in milliseconds of the time that the
thread ran and, in brackets, how many times as long rawbpf takes: the median of the ratios within the rounds.
What is imported and compiled once is there before the clock starts; the kernel's types are read anew each
time. Memory is what Python allocates and keeps. The object is by default execsnoop of Debian's libbpf-tools,
which is fetched. libbpf is left out if it is not installed. Needs CAP_BPF and what the object's programs need.
What the figures say: docs/how-to/measure-loading.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from peer import corpus

from benchmarks.harness import Contender, each, machine, median_ratio, race, timed
from benchmarks.map import available
from benchmarks.peer_c import PeerC
from rawbpf import ObjectSpec, relocate, using
from rawbpf.btf import Btf, Struct
from rawbpf.syscall.kernel import KernelBackend

OBJECT = "trixie/libbpf-tools/execsnoop-libbpf"
VMLINUX = "/sys/kernel/btf/vmlinux"
NAMES = ("bpf_attr", "sock", "inode", "sk_buff", "pt_regs", "file", "cgroup", "page", "module", "dentry")


class Row:
    """One thing that is measured; `limit`: what rawbpf may take, in milliseconds."""

    def __init__(
        self, section: str, what: str, rawbpf: Contender, others: dict[str, Contender], limit: float | None = None
    ) -> None:
        self.section = section
        self.what = what
        self.contenders = {"rawbpf": rawbpf, **others}
        self.limit = limit


class Weight:
    """What something keeps in memory, and how much it had at most while it was made; `limit` of what it keeps: MB."""

    def __init__(self, what: str, make: Callable[[], object], limit: float | None = None) -> None:
        tracemalloc.start()
        try:
            made = make()
            self.kept, self.peak = (size / 1e6 for size in tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
        close = getattr(made, "close", None)
        if close is not None:
            close()
        self.what = what
        self.limit = limit


def of_object(content: bytes, c: PeerC | None) -> Iterator[Row]:
    """Yield the rows of an object, whose file has this `content`."""
    section = "an object"
    loaded: list[Any] = []

    def close() -> None:
        while loaded:
            loaded.pop().close()
        if c is not None:
            c.close_object()

    def load() -> None:
        # With a backend of its own, which has not read the kernel's types yet.
        loaded.append(ObjectSpec.from_bytes(content).load(backend=KernelBackend()))

    def relocated() -> None:
        with using(KernelBackend()):
            relocate(ObjectSpec.from_bytes(content))

    def peer(*, load: bool) -> dict[str, Contender]:
        return {"libbpf": timed(lambda: c.open_object(content, load=load), 1, close)} if c is not None else {}

    try:
        yield Row(section, "read", timed(lambda: ObjectSpec.from_bytes(content), 1, close), peer(load=False))
        yield Row(section, "read and relocate", timed(relocated, 1), {})
        yield Row(section, "read, relocate and load", timed(load, 1, close), peer(load=True), 60)
    finally:
        close()


def of_types(c: PeerC | None) -> Iterator[Row]:
    """Yield the rows of the running kernel's types."""
    section = "the kernel's types"
    path = Path(VMLINUX)
    btf = Btf.from_bytes(path.read_bytes())

    def first() -> None:
        Btf.from_bytes(path.read_bytes())["task_struct"]

    def bare() -> None:
        sum(memoryview(path.read_bytes())[24 : 24 + (1 << 22)].cast("I"))

    def member() -> None:
        task = btf.find("task_struct", Struct)
        assert task is not None
        task.member("pid")

    def fresh() -> None:
        nonlocal btf
        btf = Btf.from_bytes(path.read_bytes())
        btf.find("task_struct")

    others = {"read, add up words": timed(bare, 1)}
    if c is not None:
        others["libbpf"] = timed(lambda: c.find_type(VMLINUX, "task_struct"), 1)
    yield Row(section, "read, first type by name", timed(first, 1), others, 40)
    yield Row(section, "another by name", timed(lambda: [btf.find(name) for name in NAMES], len(NAMES), fresh), {}, 5)
    yield Row(section, "an absent name", timed(lambda: btf.find("absent"), 1, fresh), {}, 5)
    yield Row(section, "the same again", each("btf.find('task_struct')", range(1000), btf=btf), {}, 0.005)
    yield Row(section, "a member of a struct", timed(member, 1), {})


def measured(row: Row, rounds: int) -> dict[str, Any]:
    """Return the results of `row` as they go into the JSON."""
    times = race(row.contenders, rounds)
    medians = {name: statistics.median(some) / 1e6 for name, some in times.items()}
    return {
        "section": row.section,
        "row": row.what,
        "milliseconds": {name: round(value, 6) for name, value in medians.items()},
        "ratios": {name: round(median_ratio(times["rawbpf"], some), 3) for name, some in times.items()},
        **({} if row.limit is None else {"limit": row.limit, "met": medians["rawbpf"] <= row.limit}),
    }


def line(result: dict[str, Any]) -> str:
    """Return `result` as a row of the printed table."""
    others = [
        f"{name} {value:.3f} ({result['ratios'][name]:.2f})"
        for name, value in result["milliseconds"].items()
        if name != "rawbpf"
    ]
    target = f"<= {result['limit']:g}: {'met' if result['met'] else 'MISSED'}" if "limit" in result else ""
    cells = [f"{result['section']}: {result['row']:24}", f"{result['milliseconds']['rawbpf']:9.3f}", ", ".join(others)]
    return "| " + " | ".join([*cells, target]) + " |"


def weights(content: bytes) -> list[Weight]:
    """Return what a specification, a loaded object and the kernel's types keep."""
    return [
        Weight("a specification", lambda: ObjectSpec.from_bytes(content)),
        Weight("a loaded object", lambda: ObjectSpec.from_bytes(content).load(backend=KernelBackend())),
        Weight("the kernel's types, one found", lambda: _found(Btf.from_bytes(Path(VMLINUX).read_bytes())), 8),
    ]


def _found(btf: Btf) -> Btf:
    btf.find("task_struct")
    return btf


def default_object() -> Path:
    """Return the file of `OBJECT`. Raises: kernels.debian.Unavailable."""
    return next(path for path in corpus.objects() if corpus.name(path) == OBJECT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--object", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    path = options.object or default_object()
    content = path.read_bytes()
    left_out: list[str] = []
    c = available(PeerC, left_out)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(*left_out, sep="\n", end="\n" if left_out else "")
    print(f"\n| {path.name} | rawbpf, ms | others | target |\n| --- | --- | --- | --- |")
    results = []
    for rows in (of_object(content, c), of_types(c)):
        for row in rows:
            results.append(measured(row, options.rounds))
            print(line(results[-1]), flush=True)
    memory = []
    for weight in weights(content):
        result: dict[str, Any] = {"what": weight.what, "kept": round(weight.kept, 3), "peak": round(weight.peak, 3)}
        target = ""
        if weight.limit is not None:
            result |= {"limit": weight.limit, "met": weight.kept <= weight.limit}
            target = f", <= {weight.limit:g}: {'met' if result['met'] else 'MISSED'}"
        memory.append(result)
        print(f"{weight.what}: {weight.kept:.2f} MB kept{target}; {weight.peak:.2f} MB at most")
    if options.json:
        report = {"machine": about, "left_out": left_out, "object": path.name, "rows": results, "memory": memory}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
