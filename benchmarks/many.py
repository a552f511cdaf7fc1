"""How fast many keys at once and whole maps are, beside one by one, C over libbpf, BCC and bpftool.

    python benchmarks/many.py [--quick] [--entries 10000 1000000] [--rounds 15] [--json FILE] [--chart FILE.svg]

As benchmarks/map.py: all contenders of a row run in one process on the same map, in turn; medians in nanoseconds
per key or element and, in brackets, how many times as long rawbpf takes. "C" calls the kernel for each key, "C
batch" and "BCC batch" for 16,384 elements of a map or for all of the given ones, "C sum" adds up what batches
bring. `--chart` draws the nanoseconds per key by number of keys, of the largest map, and writes what it has drawn
to FILE.json. Needs CAP_BPF. What the figures say: docs/how-to/measure-map-operations.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from benchmarks.chart import charted, drawn
from benchmarks.harness import machine
from benchmarks.many_rows import (
    BY_NUMBER,
    NUMBERS,
    QUICK_NUMBERS,
    STRUCT_NUMBERS,
    by_number,
    counters,
    lookups,
    tables,
    walks,
    writes,
)
from benchmarks.map import available, line, measured
from benchmarks.map_rows import Row
from benchmarks.map_tables import Scalars, Structs
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_bpftool import PeerBpftool
from benchmarks.peer_c import PeerC

SIZES, QUICK_SIZES = (10_000, 1_000_000), (500,)
RANDOM, QUICK_RANDOM = (1_000, 100_000), (300,)
COUNTERS, QUICK_COUNTERS = 200_000, 500
COLUMNS = ("m[k]", "C", "C batch", "C sum", "by batch", "BCC", "BCC batch")


def rows(c: PeerC | None, bcc: PeerBcc | None, sizes: Sequence[int], *, quick: bool) -> Iterator[tuple[str, Row]]:
    """Yield (section, row); a row's map lives until the next is asked for."""
    for size in sizes:
        for table in tables(c, bcc, size, (Scalars, Structs)):
            plain = isinstance(table, Scalars)
            numbers = QUICK_NUMBERS if quick else NUMBERS if plain else STRUCT_NUMBERS
            yield from ((BY_NUMBER, row) for row in by_number(table, numbers))
            for n in QUICK_RANDOM if quick else RANDOM:
                yield from (("random keys", row) for row in chain(lookups(table, n), writes(table, n)))
            if plain:
                yield from (("whole maps", row) for row in walks(table))
    yield from (("a value for each CPU", row) for row in counters(QUICK_COUNTERS if quick else COUNTERS, c))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small maps: whether it runs, not how fast")
    parser.add_argument("--entries", type=int, nargs="+", metavar="N", help="elements of the maps")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="needs the section of numbers of keys")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the sections and rows that have TEXT in their name"
    )
    options = parser.parse_args()
    left_out: list[str] = []
    c, bcc = available(PeerC, left_out), available(PeerBcc, left_out)
    bpftool = available(PeerBpftool, left_out)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for word in left_out:
        print(word)
    sizes = options.entries or (QUICK_SIZES if options.quick else SIZES)
    results = []
    section = ""
    for title, row in rows(c, bcc, sizes, quick=options.quick):
        if options.only not in f"{title}: {row.what}":
            continue
        if title != section:
            section = title
            print(f"\n{title}\n")
            print("| | types | entries | rawbpf, ns | " + " | ".join(COLUMNS) + " | target |")
            print("|" + " --- |" * (5 + len(COLUMNS)))
        result = measured(row, options.rounds)
        results.append({"section": title} | result)
        print(line(result, COLUMNS), flush=True)
    report: dict[str, Any] = {"machine": about, "left_out": left_out, "rows": results}
    if bpftool:
        table = Scalars(sizes[-1], c, None)
        try:
            dump = bpftool.dump(table.map.id, table.entries)
        finally:
            table.close()
        report["bpftool"] = {"entries": sizes[-1], "dump_ns": round(dump, 1)}
        print(f"\nbpftool map dump, a process, measured apart: {dump:,.0f} ns for each of {sizes[-1]:,} elements")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.chart:
        content = charted(report)
        options.chart.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        options.chart.write_text(drawn(content), encoding="utf-8")


if __name__ == "__main__":
    main()
