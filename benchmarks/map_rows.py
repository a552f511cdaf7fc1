"""What is measured of maps: rows of contenders, and the targets that some of them have.

A row races rawbpf with a floor, which is the least that Python must do (a closure over one set of
buffers, not safe with threads), with C over libbpf, and with BCC. All work on the same map with the same
keys, in random order.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import rawbpf
from benchmarks.harness import Contender, each, timed
from benchmarks.map_tables import Scalars, Table
from benchmarks.peer_bcc import PeerBcc
from benchmarks.peer_c import PeerC

CHUNK = 16384
_PASSES = 10


class Target:
    """That `subject` takes at most `limit` times as long as `reference`."""

    def __init__(self, limit: float, reference: str, subject: str = "rawbpf") -> None:
        self.limit = limit
        self.reference = reference
        self.subject = subject

    def __str__(self) -> str:
        who = "" if self.subject == "rawbpf" else f"{self.subject} "
        return f"{who}<= {self.limit:.3g} x {self.reference}"


class Row:
    """One thing that is measured: `contenders` by name, of which `rawbpf` is what it is about.

    `heavy`: a run takes a second, and so has fewer rounds. `number`: how many keys each call has, where rows differ
    in that.
    """

    def __init__(
        self,
        what: str,
        types: str,
        entries: int,
        contenders: dict[str, Contender | None],
        *targets: Target,
        heavy: bool = False,
        number: int | None = None,
    ) -> None:
        self.what = what
        self.number = number
        self.types = types
        self.entries = entries
        self.heavy = heavy
        self.contenders = {name: run for name, run in contenders.items() if run is not None}
        self.targets = [each for each in targets if {each.reference, each.subject} <= self.contenders.keys()]


def points(table: Table) -> Iterator[Row]:
    """Yield a row for each call on one element."""
    m, c, t, n = table.map, table.c, table.bcc, len(table.sample)
    lookup, update = table.bare()
    key, value = table.bcc_types[0], table.value

    def row(what: str, contenders: dict[str, Contender | None], *targets: Target) -> Row:
        # The targets are set for the table of performance figures: u32 -> u64.
        return Row(what, table.types, table.entries, contenders, *(targets if isinstance(table, Scalars) else ()))

    def c_lookup(keys: bytes) -> Contender | None:
        return (
            timed(lambda: c.lookup(table.fd, keys, table.key_size, table.value_size, n), n) if c is not None else None
        )

    def bcc(statement: str, keys: list[Any], **names: object) -> Contender | None:
        return each(statement, keys, t=t, Key=key, **names) if t is not None else None

    yield row(
        "m[k]",
        {
            "rawbpf": each("m[k]", table.sample, m=m),
            "floor": each("bare(k)", table.sample, bare=lookup),
            "C": c_lookup(table.packed),
            "BCC": bcc(table.bcc_read, table.sample),
        },
        Target(1.10, "floor"),
        Target(1 / 1.3, "BCC"),
    )
    yield row(
        "m.get(k), present",
        {
            "rawbpf": each("m.get(k)", table.sample, m=m),
            "floor": each("bare(k)", table.sample, bare=lookup),
            "C": c_lookup(table.packed),
            "BCC": bcc(f"t.get({table.bcc_key})", table.sample),
        },
    )
    yield row(
        "m.get(k), missing",
        {
            "rawbpf": each("m.get(k)", table.missing, m=m),
            "hit": each("m.get(k)", table.sample, m=m),
            "C": c_lookup(table.packed_missing),
            "BCC": bcc(f"t.get({table.bcc_key})", table.missing),
        },
        Target(1.0, "hit"),
        Target(1 / 1.6, "BCC"),
    )
    yield row(
        "k in m, present",
        {
            "rawbpf": each("k in m", table.sample, m=m),
            "floor": each("bare(k)", table.sample, bare=lookup),
            "C": c_lookup(table.packed),
            "BCC": bcc(f"{table.bcc_key} in t", table.sample),
        },
    )
    yield row(
        "k in m, missing",
        {
            "rawbpf": each("k in m", table.missing, m=m),
            "hit": each("k in m", table.sample, m=m),
            "C": c_lookup(table.packed_missing),
            "BCC": bcc(f"{table.bcc_key} in t", table.missing),
        },
        Target(1.0, "hit"),
        Target(1 / 1.6, "BCC"),
    )
    yield row(
        "m[k] = v",
        {
            "rawbpf": each("m[k] = v", table.sample, m=m, v=value),
            "floor": each("bare(k, v)", table.sample, bare=update, v=value),
            "C": timed(lambda: c.update(table.fd, table.packed, table.key_size, table.packed_value, n), n)
            if c is not None
            else None,
            "BCC": bcc(f"t[{table.bcc_key}] = v", table.sample, v=table.bcc_value),
        },
    )
    yield row(
        "del m[k]",
        {
            "rawbpf": refilled(table, each("del m[k]", table.sample, m=m)),
            "C": timed(lambda: c.delete(table.fd, table.packed, table.key_size, n), n, table.refill)
            if c is not None
            else None,
            "BCC": refilled(table, each(f"del t[{table.bcc_key}]", table.sample, t=t, Key=key))
            if t is not None
            else None,
        },
    )
    table.refill()


def refilled(table: Table, contender: Contender) -> Contender:
    """Return `contender` with what it deletes put back before it, unmeasured."""

    def run() -> float:
        table.refill()
        return contender()

    return run


def whole(table: Table) -> Iterator[Row]:
    """Yield a row for each way to read, write or empty the whole map."""
    m, c, t, n = table.map, table.c, table.bcc, table.entries
    content = table.content
    target = n >= 1_000_000 and isinstance(table, Scalars)
    keys, values = (
        ctypes.create_string_buffer(CHUNK * table.key_size),
        ctypes.create_string_buffer(CHUNK * table.value_size),
    )
    all_keys = m.key_type.pack_many(list(content))
    all_values = m.value_type.pack_many(list(content.values()))

    def c_batches(take: bool = False, prepare: Callable[[], object] | None = None) -> Contender | None:
        return (
            timed(lambda: c.batches(table.fd, keys, values, table.key_size, CHUNK, take), n, prepare)
            if c is not None
            else None
        )

    def row(what: str, contenders: dict[str, Contender | None], *targets: Target) -> Row:
        return Row(what, table.types, n, contenders, *(targets if target else ()), heavy=n >= 1_000_000)

    yield row("m.columns()", {"rawbpf": timed(m.columns, n), "C": c_batches()}, Target(1.10, "C"))
    plain = isinstance(table, Scalars)
    bcc_dict = "dict(t.items_lookup_batch())" if plain else "list(t.items_lookup_batch())"
    yield row(
        "m.snapshot()",
        {
            "rawbpf": timed(m.snapshot, n),
            "C": c_batches(),
            "BCC": timed(once(bcc_dict, t=t), n) if t is not None else None,
        },
        Target(2.2, "C"),
    )
    yield row(
        "for k, v in m.items()",
        {
            "rawbpf": timed(once("[None for k, v in m.items()]", m=m), n),
            "C": timed(lambda: c.walk(table.fd, table.key_size, table.value_size), n) if c is not None else None,
            # Seconds at a million, each time.
            "BCC": timed(once("[None for k, v in t.items()]", t=t), n) if t is not None and n <= 100_000 else None,
        },
    )
    bcc_keys, bcc_values = (
        ("*d", "*d.values()") if plain else ("*[Key(*k) for k in d]", "*[Leaf(*v) for v in d.values()]")
    )
    bcc_update = f"t.items_update_batch((Key * len(d))({bcc_keys}), (Leaf * len(d))({bcc_values}))"
    yield row(
        "m.update(dict)",
        {
            "rawbpf": timed(lambda: m.update(content), n),
            "C": timed(lambda: c.update_batch(table.fd, all_keys, all_values, n), n) if c is not None else None,
            "BCC": t and timed(once(bcc_update, t=t, Key=table.bcc_types[0], Leaf=table.bcc_types[1], d=content), n),
        },
        Target(1.10, "C"),
    )
    yield row(
        "for k, v in m.drain()",
        {
            "rawbpf": timed(once("for _ in m.drain(): pass", m=m), n, table.fill),
            "C": c_batches(take=True, prepare=table.fill),
            "BCC": timed(once("for _ in t.items_lookup_and_delete_batch(): pass", t=t), n, table.fill)
            if t is not None
            else None,
        },
    )
    table.fill()


def once(statement: str, **names: object) -> Callable[[], object]:
    """Return a function that does `statement` (an expression: returns it) with `names` as local variables."""
    word = "" if statement.startswith(("for ", "while ")) else "return "
    scope: dict[str, Any] = dict(names)
    exec(f"def run({', '.join(f'{name}={name}' for name in names)}):\n    {word}{statement}\n", scope)
    run: Callable[[], object] = scope["run"]
    return run


def arrays(entries: int, c: PeerC | None, bcc: PeerBcc | None) -> Iterator[Row]:
    """Yield the rows of an array that is mapped into memory."""
    # Objects that lie side by side, each several times: what takes nanoseconds takes long only in cold caches.
    indices = _PASSES * array("I", random.Random(0).sample(range(entries), entries)).tolist()
    with rawbpf.ArrayMap.create(value="u64", max_entries=entries, name="speed") as m:
        m.update(dict.fromkeys(range(entries), 7))
        fd, view, n = m.fileno(), m.memory(), len(indices)
        t = bcc.array(fd, ctypes.c_uint64, entries) if bcc is not None else None
        keys, packed = m.key_type.pack_many(indices), m.value_type.pack(7)
        yield Row(
            "m[i], mapped array",
            "u64",
            entries,
            {
                "rawbpf": each("m[k]", indices, m=m),
                "memory()": each("m[k]", indices, m=view),
                "C": timed(lambda: c.lookup(fd, keys, 4, 8, n), n) if c is not None else None,
                "BCC": each("t[k].value", indices, t=t) if t is not None else None,
            },
            Target(1 / 10, "C"),
            Target(1 / 10, "C", "memory()"),
        )
        yield Row(
            "m[i] = v, mapped array",
            "u64",
            entries,
            {
                "rawbpf": each("m[k] = v", indices, m=m, v=7),
                "memory()": each("m[k] = v", indices, m=view, v=7),
                "C": timed(lambda: c.update(fd, keys, 4, packed, n), n) if c is not None else None,
                "BCC": each("t[k] = v", indices, t=t, v=ctypes.c_uint64(7)) if t is not None else None,
            },
            Target(1 / 30, "C"),
            Target(1 / 30, "C", "memory()"),
        )
        yield Row(
            "list(m), mapped array",
            "u64",
            entries,
            {"rawbpf": timed(lambda: list(m), entries), "memory()": timed(view.tolist, entries)},
        )


def growth(entries: int, c: PeerC | None) -> Iterator[Row]:
    """Yield how a look-up and a dump fare in a map of `entries`."""
    table = Scalars(entries, c, None)
    try:
        yield from (row for row in points(table) if row.what == "m[k]")
        yield from (row for row in whole(table) if row.what == "m.snapshot()")
    finally:
        table.close()


def threads(table: Table, count: int) -> Row:
    """Return a row of `count` threads that look up at once; per look-up of any of them."""
    m, c, n = table.map, table.c, len(table.sample)

    def in_threads(run: Callable[[], object]) -> Contender:
        def work() -> None:
            workers = [threading.Thread(target=run) for _ in range(count)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

        return timed(work, n * count, clock=time.perf_counter_ns)

    def reader() -> Callable[[], object]:
        return once("for k in keys: m[k]", keys=table.sample, m=m)

    return Row(
        f"m[k], {count} thread{'s'[: count > 1]}",
        table.types,
        table.entries,
        {
            "rawbpf": in_threads(reader()),
            "C": in_threads(lambda: c.lookup(table.fd, table.packed, table.key_size, table.value_size, n))
            if c is not None
            else None,
        },
    )
