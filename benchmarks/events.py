"""How fast events are read from ring and perf buffers, beside libbpf's ring_buffer__consume in C and BCC's Python.

    python benchmarks/events.py [--quick] [--rounds 15] [--json FILE] [--only TEXT]

As benchmarks/map.py: all contenders of a row empty the same ring in turn, after a program filled it, which is not
measured; medians in nanoseconds per record and, in brackets, how many times as long rawbpf takes. C's callback adds up
a field, whatever the row; BCC's is Python, and casts the record or copies it. Then the microseconds from a program to a
reader that waits. Needs CAP_BPF. What the figures say: docs/how-to/read-events.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from benchmarks.event_rows import Ring, latency, throughput
from benchmarks.harness import machine
from benchmarks.map import available, line, measured
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_c import PeerC
from benchmarks.perf_rows import perf_rows

SIZES = {16: 200_000, 64: 100_000, 256: 50_000}
PERF = 100_000
QUICK, WAITS, QUICK_WAITS = 500, 500, 20
COLUMNS = ("C", "BCC", "floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few records: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows that have TEXT in their name")
    options = parser.parse_args()
    left_out: list[str] = []
    c, bcc = available(PeerC, left_out), available(PeerBcc, left_out)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for word in left_out:
        print(word)
    print("\n| | types | records | rawbpf, ns | " + " | ".join(COLUMNS) + " | target |")
    print("|" + " --- |" * (5 + len(COLUMNS)))
    results: list[dict[str, Any]] = []
    for size, count in SIZES.items():
        ring = Ring(size, QUICK if options.quick else count)
        try:
            for row in throughput(ring, c, bcc):
                if options.only in row.what:
                    results.append(measured(row, options.rounds))
                    print(line(results[-1], COLUMNS), flush=True)
        finally:
            ring.close()
    for row in perf_rows(QUICK if options.quick else PERF, bcc):
        if options.only in row.what:
            results.append(measured(row, options.rounds))
            print(line(results[-1], COLUMNS), flush=True)
    report: dict[str, Any] = {"machine": about, "left_out": left_out, "rows": results}
    if options.only in "latency":
        report["latency"] = latency(QUICK_WAITS if options.quick else WAITS, c, min(options.rounds, 5))
        print("\nlatency, microseconds\n")
        for name, found in report["latency"].items():
            print(f"| {name:18} | median {found['median_us']:7.1f} | 99 % {found['p99_us']:7.1f} |")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
