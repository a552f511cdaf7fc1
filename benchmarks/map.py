"""How fast maps are, beside the least that Python must do, C over libbpf, BCC and bpftool.

    python benchmarks/map.py [--quick] [--entries 10000 1000000] [--rounds 15] [--json FILE]

All contenders of a row run in one process on the same map, in turn; printed are medians in nanoseconds per
operation or element and, in brackets, how many times as long rawbpf takes: the median of the ratios within
the rounds. Times are those that the thread ran; those of several threads, and of bpftool, which is a process for
each question and measured apart, are what passed. A peer that is not installed is left out. Needs CAP_BPF.
What the figures say and do not say: docs/how-to/measure-map-operations.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from benchmarks.harness import machine, median_ratio, race
from benchmarks.map_rows import Row, arrays, growth, points, threads, whole
from benchmarks.map_tables import Scalars, Structs
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_bpftool import PeerBpftool
from benchmarks.peer_c import PeerC

SIZES, QUICK_SIZES = (10_000, 1_000_000), (500,)
GROWTH, QUICK_GROWTH = (1_000, 10_000, 100_000, 1_000_000), (100, 500)
THREADS = (1, 2, 4)
COLUMNS = ("floor", "C", "BCC", "hit", "memory()")


def rows(
    c: PeerC | None, bcc: PeerBcc | None, sizes: Sequence[int], growing: Sequence[int]
) -> Iterator[tuple[str, Row]]:
    """Yield (section, row); a row's map lives until the next is asked for."""
    for size in sizes:
        for kind in (Scalars, Structs):
            table = kind(size, c, bcc)
            try:
                yield from (("one element", row) for row in points(table))
                yield from (("whole maps", row) for row in whole(table))
            finally:
                table.close()
    yield from (("arrays", row) for row in arrays(sizes[0], c, bcc))
    for size in growing:
        yield from (("growth with entries", row) for row in growth(size, c))
    table = Scalars(sizes[0], c, None)
    try:
        for count in THREADS:
            yield "growth with threads", threads(table, count)
    finally:
        table.close()


def measured(row: Row, rounds: int) -> dict[str, Any]:
    """Return the results of `row` as they go into the JSON."""
    times = race(row.contenders, min(rounds, 7) if row.heavy else rounds)
    ours = times["rawbpf"]
    targets = []
    for target in row.targets:
        ratio = median_ratio(times[target.subject], times[target.reference])
        met = ratio <= target.limit
        targets.append({"target": str(target), "limit": target.limit, "ratio": round(ratio, 4), "met": met})
    return {
        "row": row.what,
        **({} if row.number is None else {"keys": row.number}),
        "types": row.types,
        "entries": row.entries,
        "nanoseconds": {name: round(sorted(some)[len(some) // 2], 2) for name, some in times.items()},
        "ratios": {name: round(median_ratio(ours, some), 4) for name, some in times.items() if name != "rawbpf"},
        "targets": targets,
    }


def line(result: dict[str, Any], columns: Sequence[str] = COLUMNS) -> str:
    """Return `result` as a row of the printed table, with these contenders beside rawbpf."""
    ns, ratios = result["nanoseconds"], result["ratios"]
    cells = [f"{result['row']:24}", f"{result['types']:14}", f"{result['entries']:9,}", f"{ns['rawbpf']:9,.1f}"]
    cells += [f"{ns[name]:9,.1f} ({ratios[name]:.2f})" if name in ns else "" for name in columns]
    met = "; ".join(
        f"{each['target']}: {each['ratio']:.3g}, {'met' if each['met'] else 'MISSED'}" for each in result["targets"]
    )
    return "| " + " | ".join([*cells[:4], *(f"{cell:16}" for cell in cells[4:]), met]) + " |"


def available(make: Callable[[], Any], left_out: list[str]) -> Any:  # noqa: ANN401  (a peer of any kind)
    """Return the peer, or None with a word in `left_out`."""
    try:
        return make()
    except OSError as error:
        left_out.append(str(error))
        return None


def arguments(about: str) -> argparse.ArgumentParser:
    """Return the parser of what both benchmarks of maps take; `about` is their docstring."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small maps: whether it runs, not how fast")
    parser.add_argument("--entries", type=int, nargs="+", metavar="N", help="elements of the maps, but for growth")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the sections and rows that have TEXT in their name"
    )
    return parser


def reported(
    options: argparse.Namespace,
    sizes: Sequence[int],
    columns: Sequence[str],
    make: Callable[[PeerC | None, PeerBcc | None, Sequence[int]], Iterator[tuple[str, Row]]],
) -> dict[str, Any]:
    """Measure the rows that `make` yields for peers and sizes, print them, and return what goes into the JSON."""
    left_out: list[str] = []
    c, bcc = available(PeerC, left_out), available(PeerBcc, left_out)
    bpftool = available(PeerBpftool, left_out)
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for word in left_out:
        print(word)
    sizes = options.entries or sizes
    results = []
    section = ""
    for title, row in make(c, bcc, sizes):
        if options.only not in f"{title}: {row.what}":
            continue
        if title != section:
            section = title
            print(f"\n{title}\n")
            print("| | types | entries | rawbpf, ns | " + " | ".join(columns) + " | target |")
            print("|" + " --- |" * (5 + len(columns)))
        result = measured(row, options.rounds)
        results.append({"section": title} | result)
        print(line(result, columns), flush=True)
    report: dict[str, Any] = {"machine": about, "left_out": left_out, "rows": results}
    if bpftool:
        table = Scalars(sizes[-1], c, None)
        try:
            dump = bpftool.dump(table.map.id, table.entries)
        finally:
            table.close()
        report["bpftool"] = {"entries": table.entries, "dump_ns": round(dump, 1)}
        print(f"\nbpftool map dump, a process, measured apart: {dump:,.0f} ns for each of {table.entries:,} elements")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def main() -> None:
    options = arguments(__doc__).parse_args()
    growing = QUICK_GROWTH if options.quick else GROWTH
    sizes = QUICK_SIZES if options.quick else SIZES
    reported(options, sizes, COLUMNS, lambda c, bcc, sizes: rows(c, bcc, sizes, growing))


if __name__ == "__main__":
    main()
