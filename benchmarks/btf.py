"""How long the first look at the kernel's types takes, and what it keeps.

    python benchmarks/btf.py

The floor is reading the file and adding up its words; the peak is bpftool (libbpf), process and all,
where it is installed. Targets: first type by name 40 ms with the read, later ones 5 ms, 8 MB kept.
"""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from rawbpf.btf import Btf, Struct

VMLINUX = Path("/sys/kernel/btf/vmlinux")
ROUNDS = 7


def floor() -> None:
    sum(memoryview(VMLINUX.read_bytes())[24 : 24 + (1 << 22)].cast("I"))


def first() -> None:
    Btf.from_bytes(VMLINUX.read_bytes())["task_struct"]


def bpftool() -> None:
    command = ["bpftool", "btf", "dump", "file", str(VMLINUX), "root_id", "1"]
    subprocess.run(command, check=False, capture_output=True)


def milliseconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    runs: dict[str, Callable[[], None]] = {"floor: read, add words": floor, "first type by name": first}
    if shutil.which("bpftool"):
        runs["bpftool, one type"] = bpftool
    btf = Btf.from_bytes(VMLINUX.read_bytes())
    absent = iter(f"absent{number}" for number in range(ROUNDS))
    others = iter(["bpf_attr", "sock", "inode", "sk_buff", "pt_regs", "file", "cgroup", "page"])

    def find(names: Iterator[str]) -> Callable[[], None]:
        def run() -> None:
            btf.find(next(names))

        return run

    def members() -> None:
        task = btf.find("task_struct", Struct)
        assert task is not None
        task.member("pid")

    runs["another type by name"] = find(others)
    runs["an absent name"] = find(absent)
    runs["the same type again"] = find(itertools.repeat("task_struct"))
    runs["a member of it"] = members
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            best[name] = min(best[name], milliseconds(run))
    tracemalloc.start()
    kept = Btf.from_bytes(VMLINUX.read_bytes())
    kept.find("task_struct")
    memory, peak = tracemalloc.get_traced_memory()
    print(f"{platform.machine()} Linux {platform.release()} Python {platform.python_version()}: {len(btf)} types")
    for name, value in best.items():
        print(f"{name:24} {value:8.3f} ms {value / best['floor: read, add words']:8.2f} x floor")
    print(
        f"{'memory kept':24} {memory / 1e6:8.1f} MB, of that the file {len(kept.raw) / 1e6:.1f}; peak {peak / 1e6:.1f}"
    )


if __name__ == "__main__":
    main()
