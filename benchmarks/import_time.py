"""How long `import rawbpf` and a first map take, over a bare interpreter.

    python benchmarks/import_time.py [--runs 15] [--json FILE]

Runs `python -I -S` (no site-packages: the standard library alone) in turn: bare, import, import and first
map, bare, ...; prints the median over the rounds of each one's time minus that round's bare time, in
milliseconds. A map needs CAP_BPF.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATH = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
PROGRAMS = {
    "bare": "import sys\n",
    "import rawbpf": PATH + "import rawbpf\n",
    "import and first map": PATH
    + "import rawbpf\nrawbpf.Map.create('hash', key='u32', value='u64', max_entries=4)[1] = 2\n",
}
TARGETS = {"import rawbpf": 10.0, "import and first map": 20.0}


def run(code: str) -> float:
    start = time.perf_counter()
    # -W ignore: the one-liner drops its map open, as users' one-liners do.
    subprocess.run([sys.executable, "-I", "-S", "-W", "ignore", "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = [{name: run(code) for name, code in PROGRAMS.items()} for _ in range(options.runs + 1)][1:]
    results = {
        name: statistics.median(each[name] - (each["bare"] if name in TARGETS else 0) for each in rounds)
        for name in PROGRAMS
    }
    print(
        f"Python {platform.python_version()}, Linux {platform.release()}, {platform.machine()}, {options.runs} rounds"
    )
    for name, value in results.items():
        target = f"over bare; target: at most {TARGETS[name]:.0f}" if name in TARGETS else "whole process"
        print(f"{name:22} {value:6.1f} ms ({target})")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
