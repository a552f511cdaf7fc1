"""What is measured of a map, and how: from user space one by one, many at once, and inside the kernel.

Each measurement does its operations once and tells the nanoseconds that passed; `race` runs all of them in
turn, round after round, so that what slows the machine slows all of them. Does not print.
"""

from __future__ import annotations

import gc
import statistics
import time
from itertools import islice

from rawbpf.cli.bench_loop import MOST_OPERANDS, NOTHING, Loop
from rawbpf.errors import BpfError
from rawbpf.syscall import group
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import ExitStack
    from typing import Any

    from rawbpf.cli.bench_subject import Subject

    Work = Callable[[Sequence[Any]], object]

ONE, MANY, KERNEL = "from user space, one by one", "from user space, many at once", "inside the kernel"

_HIT, _MISS, _UPDATE, _DELETE, _READ = "lookup, hit", "lookup, miss", "update", "delete", "read all"


class Measurement:
    """One operation, `call` for short, done `operations` times a round; `rounds` has the nanoseconds of each."""

    def __init__(
        self,
        where: str,
        operation: str,
        call: str,
        prepare: Callable[[], Sequence[Any]],
        work: Work,
        *,
        operations: int | None = None,
        spent: Callable[[], int] | None = None,
    ) -> None:
        self.where = where
        self.operation = operation
        self.call = call
        self.operations = 0
        self.rounds: list[float] = []
        self._prepare = prepare
        self._work = work
        self._fixed = operations
        self._spent = spent

    def once(self) -> None:
        """Do a round: what it needs is prepared unmeasured; a round without operations is none."""
        operands = self._prepare()
        operations = len(operands) if self._fixed is None else self._fixed
        if not operations:
            return
        gc.collect()
        start = time.perf_counter_ns()
        kept = self._work(operands)
        spent = time.perf_counter_ns() - start
        del kept  # what was made is thrown away after the clock has stopped
        if self._spent is not None:
            spent = self._spent()
        self.operations = operations
        self.rounds.append(spent / operations)

    @property
    def median(self) -> float:
        """Nanoseconds per operation, in the middle of the rounds."""
        return statistics.median(self.rounds)


class Plan:
    """The `measurements` of a subject that is filled, and what is `left_out`: (where, operations, why).

    Programs that it loads are closed with `stack`.
    """

    def __init__(self, subject: Subject, stack: ExitStack) -> None:
        self.measurements: list[Measurement] = []
        self.left_out: list[tuple[str, str, str]] = []
        self._subject = subject
        self._map: Any = subject.map
        self._stack = stack
        self._deleted: list[Any] = []
        self._misses = bool(subject.absent())
        if not subject.has_values_only:
            self._one_by_one()
            self._many_at_once()
            self._in_the_kernel()
        elif subject.type == c.BPF_MAP_TYPE_BLOOM_FILTER:
            self._bloom_filter()
        else:
            self._queue()
        if not subject.has_values_only and not self._misses:
            self._leave_out("", _MISS, "every key that there is has an element")

    def _add(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  (those of Measurement)
        self.measurements.append(Measurement(*arguments, **named))

    def _leave_out(self, where: str, operation: str, why: str) -> None:
        self.left_out.append((where, operation, why))

    # Operands ----------------------------------------------------------------------

    # Chosen anew each time: what the last round has read would still be in the processor's caches.

    def _present(self) -> list[Any]:
        self._put_back()
        return self._left(self._subject.present(self._subject.operations))

    def _to_store(self) -> list[Any]:
        self._put_back()
        return self._subject.present(self._subject.writes)

    def _absent(self) -> list[Any]:
        return self._subject.absent()

    def _to_delete(self) -> list[Any]:
        self._put_back()
        self._deleted = self._subject.distinct(self._subject.writes)
        return self._left(self._deleted)

    def _to_delete_at_once(self) -> list[Any]:
        self._put_back()
        self._deleted = self._subject.distinct(self._subject.operations)
        return self._left(self._deleted)

    def _to_update(self) -> list[tuple[Any, Any]]:
        self._put_back()
        return [(key, self._subject.value) for key in self._subject.distinct(self._subject.operations)]

    def _all(self) -> tuple[Any, ...]:
        self._put_back()
        return ()

    def _put_back(self) -> None:
        if self._deleted:
            self._map.update([(key, self._subject.value) for key in self._deleted])
            self._deleted = []

    def _left(self, keys: list[Any]) -> list[Any]:
        return [key for key in keys if key in self._map] if self._subject.may_lack_keys else keys

    # Dictionaries and arrays --------------------------------------------------------

    def _one_by_one(self) -> None:
        m, value = self._map, self._subject.value

        def look_up(keys: Sequence[Any]) -> None:
            for key in keys:
                m[key]

        def get(keys: Sequence[Any]) -> None:
            for key in keys:
                m.get(key)

        def store(keys: Sequence[Any]) -> None:
            for key in keys:
                m[key] = value

        def delete(keys: Sequence[Any]) -> None:
            for key in keys:
                del m[key]

        self._add(ONE, _HIT, "m[k]", self._present, look_up)
        if self._misses:
            self._add(ONE, _MISS, "m.get(k)", self._absent, get)
        self._add(ONE, _UPDATE, "m[k] = v", self._to_store, store)
        if hasattr(m, "__delitem__"):
            self._add(ONE, _DELETE, "del m[k]", self._to_delete, delete)
        else:
            self._leave_out("", _DELETE, "an array always has all of its elements")

    def _many_at_once(self) -> None:
        m, elements = self._map, self._subject.elements

        def batches(_: Sequence[Any]) -> None:
            for _batch in m.batches():
                pass

        def has(verb: str, operation: str) -> bool:
            if hasattr(m, verb):
                return True
            self._leave_out(MANY, operation, f"maps of this type have no {verb}()")
            return False

        if has("batches", _READ):
            self._add(MANY, _READ, "m.batches()", self._all, batches, operations=elements)
        if has("columns", "read all, columns"):
            self._add(MANY, "read all, columns", "m.columns()", self._all, lambda _: m.columns(), operations=elements)
        if has("get_many", _HIT):
            self._add(MANY, _HIT, "m.get_many(keys)", self._present, m.get_many)
            if self._misses:
                self._add(MANY, _MISS, "m.get_many(keys)", self._absent, m.get_many)
        if has("update", _UPDATE):
            self._add(MANY, _UPDATE, "m.update(items)", self._to_update, m.update)
        if has("put_many", _UPDATE):
            self._add(MANY, _UPDATE, "m.put_many(items)", self._to_update, m.put_many)
        if hasattr(m, "__delitem__") and has("delete_many", _DELETE):
            self._add(MANY, _DELETE, "m.delete_many(keys)", self._to_delete_at_once, m.delete_many)

    # In the kernel ------------------------------------------------------------------

    def _in_the_kernel(self) -> None:
        kind = self._subject.type
        if kind in (c.BPF_MAP_TYPE_PROG_ARRAY, c.BPF_MAP_TYPE_CPUMAP):
            verb = "jump to" if kind == c.BPF_MAP_TYPE_PROG_ARRAY else "send packets to"
            self._leave_out(KERNEL, "lookup, update and delete", f"programs only {verb} its elements")
            return
        self._loop(NOTHING, "the loop alone", self._present)
        self._loop("bpf_map_lookup_elem", _HIT, self._present)
        if self._misses:
            self._loop("bpf_map_lookup_elem", _MISS, self._absent, hits=False)
        if kind in group.OF_DESCRIPTORS:
            self._leave_out(KERNEL, "update and delete", "programs only read its elements")
            return
        self._loop("bpf_map_update_elem", _UPDATE, self._to_store)
        if hasattr(self._map, "__delitem__"):
            self._loop("bpf_map_delete_elem", _DELETE, self._to_delete)

    def _loop(
        self,
        helper: str,
        operation: str,
        operands: Callable[[], Sequence[Any]],
        *,
        hits: bool = True,
        packed: Callable[[Iterable[Any]], bytes] | None = None,
        size: int | None = None,
        most: int | None = None,
    ) -> None:
        # `most`: how many operations, where the operands are none.
        subject = self._subject
        size = self._map.key_type.size if size is None else size
        pack = self._map.key_type.pack_many if packed is None else packed
        most = subject.operations if most is None else most
        if size:
            most = min(most, MOST_OPERANDS // size)
        try:
            value = subject.packed_value() if helper else b""
            loop = self._stack.enter_context(
                Loop(subject.backend, self._map, helper, size=size, count=most, value=value)
            )
        except BpfError as error:
            self._leave_out(KERNEL, operation, str(error).partition("\n")[0])
            return
        spent = 0

        def prepare() -> Sequence[Any]:
            chosen = list(islice(operands(), most))
            loop.put(pack(chosen) if size else b"")
            return chosen

        def work(chosen: Sequence[Any]) -> None:
            nonlocal spent
            spent = loop.run(len(chosen))
            # An LRU map may drop an element at any time.
            assert subject.may_lack_keys or loop.worked == (len(chosen) if hits else 0), (operation, loop.worked)

        self._add(KERNEL, operation, helper.partition(" ")[0], prepare, work, spent=lambda: spent)

    # Types without keys -------------------------------------------------------------

    def _queue(self) -> None:
        m, subject = self._map, self._subject
        value = subject.value
        turns = range(subject.operations)
        # Not more than there is room for.
        some = range(min(subject.operations, subject.elements))

        def empty() -> Sequence[Any]:
            for _ in m.drain():
                pass
            return some

        def full() -> Sequence[Any]:
            for _ in empty():
                m.push(value)
            return some

        def not_empty() -> Sequence[Any]:
            full()
            return turns

        def push(turns: Sequence[Any]) -> None:
            for _ in turns:
                m.push(value)

        def pop(turns: Sequence[Any]) -> None:
            for _ in turns:
                m.pop()

        def peek(turns: Sequence[Any]) -> None:
            for _ in turns:
                m.peek()

        self._add(ONE, "push", "m.push(v)", empty, push)
        self._add(ONE, "peek", "m.peek()", not_empty, peek)
        self._add(ONE, "pop", "m.pop()", full, pop)
        self._leave_out(MANY, "push, peek and pop", "the kernel takes and gives one value at a time")
        self._loop(NOTHING, "the loop alone", lambda: turns, size=0)
        self._loop("bpf_map_push_elem", "push", empty, size=0, most=len(some))
        self._loop("bpf_map_peek_elem", "peek", not_empty, size=0)
        self._loop("bpf_map_pop_elem", "pop", full, size=0, most=len(some))

    def _bloom_filter(self) -> None:
        m, subject = self._map, self._subject
        absent = subject.absent

        def present() -> list[Any]:
            return subject.present(subject.operations)

        def add(values: Sequence[Any]) -> None:
            for value in values:
                m.add(value)

        def ask(values: Sequence[Any]) -> None:
            for value in values:
                value in m  # noqa: B015  (what is measured)

        self._add(ONE, "add", "m.add(v)", present, add)
        self._add(ONE, "in, added", "v in m", present, ask)
        if self._misses:
            self._add(ONE, "in, not added", "v in m", absent, ask)
        self._leave_out(MANY, "add and in", "the kernel takes one value at a time")
        pack, size = m.value_type.pack_many, m.value_type.size
        self._loop(NOTHING, "the loop alone", present, packed=pack, size=size)
        self._loop("bpf_map_push_elem of values", "add", present, packed=pack, size=size)
        self._loop("bpf_map_peek_elem of values", "in, added", present, packed=pack, size=size)


def race(measurements: Sequence[Measurement], rounds: int) -> None:
    """Run each of `measurements` once to warm up, and then as many `rounds` in turn."""
    for nth in range(-1, rounds):
        for each in measurements:
            each.once()
            if nth < 0:
                each.rounds.clear()
