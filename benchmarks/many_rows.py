"""What is measured of many keys at once and of whole maps, and the targets of these rows.

The keys are random, and the same for all contenders of a row. What C does is in `peer_c.c`: its loops run in C,
over keys that lie packed in memory, so that its figure is the same for any number of keys in one of our calls.
"""

from __future__ import annotations

import ctypes
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rawbpf
from benchmarks.harness import Contender, each, timed
from benchmarks.map_rows import CHUNK, Row, Target, once
from benchmarks.map_tables import Scalars, Table
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_c import PeerC

NUMBERS = (1, 2, 5, 10, 100, 1_000, 10_000, 100_000)
QUICK_NUMBERS = (1, 2, 10, 300)
STRUCT_NUMBERS = (100, 100_000)
BY_NUMBER = "get_many by number of keys"
# As many keys are asked for in a run of few at a time.
_AT_LEAST = 50_000
_HUGE = 1_000_000


class Counters(Scalars):
    """u32 to u64 with a value for each CPU; BCC has its own class for these, which is not compared."""

    types = "u32 -> per-CPU u64"
    value: Any = rawbpf.PerCpu.filled(7)

    def make_values(self, numbers: Sequence[int]) -> list[Any]:
        return [self.value] * len(numbers)

    def create(self) -> Any:  # noqa: ANN401  (a map whose values are not those of its base class)
        return rawbpf.PerCpuHashMap.create(key="u32", value="u64", max_entries=self.entries, name="speed")


def by_number(table: Table, numbers: Sequence[int]) -> Iterator[Row]:
    """Yield a row for each number of keys in a call; every call of a row has the same ones."""
    m = table.map
    for number in numbers:
        calls = max(_AT_LEAST // number, 1)
        keys = table.make_keys(random.Random(number).choices(range(table.entries), k=number))
        packed = m.key_type.pack_many(keys) * calls
        groups = [keys] * calls
        yield Row(
            f"m.get_many(keys), {number:,} key{'s'[: number > 1]}",
            table.types,
            table.entries,
            {
                "rawbpf": _per_key(each("m.get_many(k)", groups, m=m), number),
                "m[k]": _per_key(each("[m[key] for key in k]", groups, m=m), number),
                "C": _c_lookup(table, packed, calls * number),
                "BCC": _bcc_lookup(table, groups, number) if table.bcc is not None else None,
            },
            *_targets(number, table),
            number=number,
        )


def _targets(number: int, table: Table) -> tuple[Target, ...]:
    # They are set for the table of performance figures: u32 -> u64.
    if not isinstance(table, Scalars):
        return ()
    limits = {2: Target(1.0, "m[k]"), 10: Target(1 / 2.5, "C"), 100_000: Target(1 / 4, "C")}
    return (limits[number],) if number in limits else ()


def _per_key(contender: Contender, number: int) -> Contender:
    return lambda: contender() / number


def _c_lookup(table: Table, packed: bytes, n: int) -> Contender | None:
    c = table.c
    if c is None:
        return None
    return timed(lambda: c.lookup(table.fd, packed, table.key_size, table.value_size, n), n)


def _bcc_lookup(table: Table, groups: list[list[Any]], number: int) -> Contender:
    read = table.bcc_read.replace("k)", "key)").replace("k[", "key[")
    return _per_key(each(f"[{read} for key in k]", groups, t=table.bcc, Key=table.bcc_types[0]), number)


def lookups(table: Table, n: int) -> Iterator[Row]:
    """Yield the rows of other keys than a list of those that are there; `n` of them, all different."""
    m, n = table.map, min(n, table.entries)
    chosen = random.Random(0)
    keys = table.make_keys(chosen.sample(range(table.entries), n))
    missing = table.make_keys(chosen.sample(range(table.entries, 2 * table.entries), n))
    if isinstance(table, Scalars):
        numbers, present = array("I", keys), m.key_type.pack_many(keys)
        yield _row(
            table,
            f"m.get_many(array), {n:,} keys",
            {
                "rawbpf": _again(lambda: m.get_many(numbers), n),
                "C": _c_again(table, lambda c: c.lookup(table.fd, present, 4, 8, n), n),
            },
            Target(1 / 4, "C"),
        )
    packed = m.key_type.pack_many(missing)
    yield _row(
        table,
        f"m.get_many(keys), {n:,} missing",
        {
            "rawbpf": _again(lambda: m.get_many(missing), n),
            "C": _c_again(table, lambda c: c.lookup(table.fd, packed, table.key_size, table.value_size, n), n),
        },
        Target(1 / 4, "C"),
    )


def writes(table: Table, n: int) -> Iterator[Row]:
    """Yield a row for each call that changes the map, with `n` keys, all different and all there."""
    m, c, t, n = table.map, table.c, table.bcc, min(n, table.entries)
    size, label = table.key_size, f"{n:,} keys"
    items = table.make_items(random.Random(0).sample(range(table.entries), n))
    keys = list(items)
    packed, packed_values = m.key_type.pack_many(keys), m.value_type.pack_many(list(items.values()))

    def refill() -> None:
        m.update(items)

    def removing(run: Callable[[], object]) -> Contender:
        return timed(run, n, refill)

    bcc_keys, bcc_values = (
        ("*d", "*d.values()")
        if isinstance(table, Scalars)
        else ("*[Key(*k) for k in d]", "*[Leaf(*v) for v in d.values()]")
    )
    names = {"t": t, "d": items, "Key": table.bcc_types[0], "Leaf": table.bcc_types[1]}
    bcc_update = f"t.items_update_batch((Key * len(d))({bcc_keys}), (Leaf * len(d))({bcc_values}))"
    bcc_delete = f"t.items_delete_batch((Key * len(d))({bcc_keys}))"
    yield _row(
        table,
        f"m.put_many(dict), {label}",
        {
            "rawbpf": _again(lambda: m.put_many(items), n),
            "C": _c_again(table, lambda c: c.update(table.fd, packed, size, table.packed_value, n), n),
            "C batch": _c_again(table, lambda c: c.update_batch(table.fd, packed, packed_values, n), n),
            "BCC batch": _again(once(bcc_update, **names), n) if t is not None else None,
        },
        Target(1 / 2, "C batch"),
    )
    yield _row(
        table,
        f"m.delete_many(keys), {label}",
        {
            "rawbpf": removing(lambda: m.delete_many(keys)),
            "C": removing(lambda: c.delete(table.fd, packed, size, n)) if c is not None else None,
            "C batch": removing(lambda: c.delete_batch(table.fd, packed, n)) if c is not None else None,
            "BCC batch": removing(once(bcc_delete, **names)) if t is not None else None,
        },
    )
    yield _row(
        table,
        f"m.pop_many(keys), {label}",
        {
            "rawbpf": removing(lambda: m.pop_many(keys)),
            "C": removing(lambda: c.take(table.fd, packed, size, table.value_size, n)) if c is not None else None,
        },
    )
    refill()


def _row(table: Table, what: str, contenders: dict[str, Contender | None], *targets: Target) -> Row:
    return Row(what, table.types, table.entries, contenders, *(targets if isinstance(table, Scalars) else ()))


def _again(run: Callable[[], object], n: int) -> Contender:
    # A few keys are asked for again and again, since the harness has emptied the processor's caches before.
    calls = max(_AT_LEAST // n, 1)

    def work() -> None:
        for _ in range(calls):
            run()

    return timed(work, n * calls)


def _c_again(table: Table, run: Callable[[PeerC], object], n: int) -> Contender | None:
    c = table.c
    return _again(lambda: run(c), n) if c is not None else None


def walks(table: Table) -> Iterator[Row]:
    """Yield a row for each way to read a whole map, and for what is worked out over it."""
    m, c, t, n = table.map, table.c, table.bcc, table.entries
    keys, values = (ctypes.create_string_buffer(CHUNK * size) for size in (table.key_size, table.value_size))
    heavy = n >= _HUGE

    def row(what: str, contenders: dict[str, Contender | None], *targets: Target) -> Row:
        # Small maps are measured, too, but what the targets are of is a million.
        return Row(what, table.types, n, contenders, *(targets if heavy else ()), heavy=heavy)

    batches = timed(lambda: c.batches(table.fd, keys, values, table.key_size, CHUNK), n) if c is not None else None
    yield row(
        "m.columns()",
        {"rawbpf": timed(m.columns, n), "by batch": timed(lambda: by_batch(m), n), "C batch": batches},
        Target(0.5, "C batch"),
        Target(1.10, "C batch", "by batch"),
    )
    yield row(
        "m.snapshot()",
        {
            "rawbpf": timed(m.snapshot, n),
            "C batch": batches,
            "BCC": timed(once("t.items()", t=t), n) if t is not None else None,
            "BCC batch": timed(once("dict(t.items_lookup_batch())", t=t), n) if t is not None else None,
        },
        Target(1.3, "C batch"),
        Target(1 / 8, "BCC"),
    )
    yield from aggregates(table, heavy=heavy)


def aggregates(table: Table, *, heavy: bool) -> Iterator[Row]:
    """Yield a row for each figure that is worked out over all values; C reads batches and adds up."""
    m, c, n = table.map, table.c, table.entries
    keys, values = (ctypes.create_string_buffer(CHUNK * size) for size in (table.key_size, table.value_size))
    total = (
        timed(lambda: c.sum(table.fd, keys, values, table.key_size, table.value_size, CHUNK), n)
        if c is not None
        else None
    )
    # Ten elements are above it.
    threshold = max(table.content.values()) - 10
    ways: dict[str, Callable[[], object]] = {
        "m.count()": m.count,
        "m.sum()": m.sum,
        "m.max()": m.max,
        'm.filter(">", n)': lambda: m.filter(">", threshold),
        "m.top(10)": lambda: m.top(10),
    }
    for what, run in ways.items():
        yield Row(
            what,
            table.types,
            n,
            {"rawbpf": timed(run, n), "C sum": total},
            *((Target(1 / 2.5, "C sum"),) if heavy and what != "m.top(10)" else ()),
            heavy=heavy,
        )


def counters(entries: int, c: PeerC | None) -> Iterator[Row]:
    """Yield the rows of a hash that has a value for each CPU."""
    table = Counters(entries, c, None)
    m, fd, n = table.map, table.fd, entries
    try:
        sizes = table.key_size, table.value_size
        keys, values = (ctypes.create_string_buffer(CHUNK * size) for size in sizes)
        packed = m.key_type.pack_many(table.sample)
        total = timed(lambda: c.sum(fd, keys, values, *sizes, CHUNK), n) if c is not None else None
        batches = timed(lambda: c.batches(fd, keys, values, table.key_size, CHUNK), n) if c is not None else None
        yield Row("m.sum()", table.types, n, {"rawbpf": timed(m.sum, n), "C sum": total})
        yield Row("m.columns()", table.types, n, {"rawbpf": timed(m.columns, n), "C batch": batches})
        yield Row("m.snapshot()", table.types, n, {"rawbpf": timed(m.snapshot, n), "C batch": batches})
        yield Row(
            "m.get_many(keys)",
            table.types,
            n,
            {
                "rawbpf": timed(lambda: m.get_many(table.sample), len(table.sample)),
                "m[k]": each("m[k]", table.sample, m=m),
                "C": _c_lookup(table, packed, len(table.sample)),
            },
        )
    finally:
        table.close()


def by_batch(m: Any) -> tuple[bytearray, bytearray]:  # noqa: ANN401  (a map of any types)
    """Return all keys and values of `m` by LOOKUP_BATCH, whatever way its own verbs would take."""
    keys, values = bytearray(), bytearray()
    for some_keys, some_values, _ in m._elements().read():
        keys += some_keys
        values += some_values
    return keys, values


def tables(c: PeerC | None, bcc: PeerBcc | None, size: int, kinds: Sequence[type[Table]]) -> Iterator[Table]:
    """Yield a table of each kind, which is closed when the next one is asked for."""
    for kind in kinds:
        table = kind(size, c, bcc)
        try:
            yield table
        finally:
            table.close()
