"""How fast many keys at once and whole maps are, beside one by one, C over libbpf, BCC and bpftool.

    python benchmarks/many.py [--quick] [--entries 10000 1000000] [--rounds 15] [--json FILE] [--chart FILE.svg]

As benchmarks/map.py: all contenders of a row run in one process on the same map, in turn; medians in nanoseconds
per key or element and, in brackets, how many times as long rawbpf takes. "C" calls the kernel for each key, "C
batch" and "BCC batch" for 16,384 elements of a map or for all of the given ones, "C sum" adds up what batches
bring. `--chart` draws the nanoseconds per key by number of keys, of the largest map, and writes what it has drawn
to FILE.json. Needs CAP_BPF. What the figures say: docs/how-to/measure-map-operations.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from benchmarks.chart import charted, drawn
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
from benchmarks.map import arguments, reported
from benchmarks.map_rows import Row
from benchmarks.map_tables import Scalars, Structs
from benchmarks.peer_bcc import PeerBcc
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
    parser = arguments(__doc__)
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="needs the section of numbers of keys")
    options = parser.parse_args()
    sizes = QUICK_SIZES if options.quick else SIZES
    report = reported(options, sizes, COLUMNS, lambda c, bcc, sizes: rows(c, bcc, sizes, quick=options.quick))
    if options.chart:
        content = charted(report)
        options.chart.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        options.chart.write_text(drawn(content), encoding="utf-8")


if __name__ == "__main__":
    main()
