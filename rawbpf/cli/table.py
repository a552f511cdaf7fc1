"""A map as a table: its elements as rows, in the order in which they are worth looking at.

Knows codecs and their values, no kernel: whoever has a map hands its elements in.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawbpf.cli.leaf import COUNT, KTIME, NUMBER, Leaf, kind_of, leaves
from rawbpf.codec import PerCpuCodec
from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.record import make
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.union import UnionValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rawbpf.codec import Codec

# More columns than this for the single CPUs, and the total is not found any more.
_MOST_CPU_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """An element. `value` is the total where `cpus` has one value per CPU, and the value itself where that is None."""

    key: object
    value: object
    cpus: tuple[object, ...] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column to show: `cell(row)` is what stands in it."""

    leaf: Leaf
    heading: str
    cell: Callable[[Row], object]


@dataclass(frozen=True, slots=True)
class Table:
    """A map at one moment: `rows` in order; `hidden` counts the elements of zeros that are no rows of `shown`."""

    layout: Layout
    rows: list[Row]

    @property
    def shown(self) -> list[Row]:
        """The rows for human eyes: of an array with several elements those that are not all zeros."""
        if not self.layout.is_array or len(self.rows) < 2:
            return self.rows
        return [row for row in self.rows if not is_zero(row.value)]


class Layout:
    """What is known of a map before it is read: `name`, `columns`, and how its elements are ordered.

    `words` says what it is (`hash`), `is_array` that each of its `max_entries` elements always exists.
    `key` and `value` are the codecs of its elements.
    """

    def __init__(
        self, name: str, key: Codec[object], value: Codec[object], *, words: str, max_entries: int, is_array: bool
    ) -> None:
        self.name = name
        self.words = words
        self.max_entries = max_entries
        self.is_array = is_array
        self._cpus = 0
        if isinstance(value, PerCpuCodec):
            self._cpus, value = value.count, value.inner
        self._value = value
        self._keys = leaves(key, "index" if is_array else "key")
        self._values = leaves(value, "value")
        self.columns = self._columns()

    def read(self, items: Iterable[tuple[object, object]]) -> Table:
        """Return the table of a map's `items`."""
        if self._cpus:
            rows = [Row(key, total(self._value, cpus), cpus) for key, cpus in items if isinstance(cpus, tuple)]
        else:
            rows = [Row(key, value) for key, value in items]
        return Table(self, self._ordered(rows))

    def _columns(self) -> list[Column]:
        columns = [Column(leaf, leaf.heading, _in_key(leaf)) for leaf in self._keys]
        columns += [Column(leaf, leaf.heading, _in_value(leaf)) for leaf in self._values]
        by_cpu = [leaf for leaf in self._values if leaf.kind in {COUNT, NUMBER}]
        if self._cpus > 1 and len(by_cpu) * self._cpus <= _MOST_CPU_COLUMNS:
            for leaf in by_cpu:
                name = "cpu" if len(by_cpu) == 1 else f"{leaf.heading}@"
                columns += [Column(leaf, f"{name}{cpu}", _of_cpu(leaf, cpu)) for cpu in range(self._cpus)]
        return columns

    def _ordered(self, rows: list[Row]) -> list[Row]:
        # Greatest count first; without counts what happened last, and then the greatest number. The elements
        # of an array stand in the order of their indices, unless they count something.
        rows.sort(key=lambda row: _order(row.key))
        for kind in (COUNT,) if self.is_array else (COUNT, KTIME, NUMBER):
            for leaf in self._values:
                if leaf.kind == kind:
                    return sorted(rows, key=lambda row: _number(leaf.of(row.value)), reverse=True)
        return rows


def total(codec: Codec[object], values: Sequence[object]) -> object:
    """Return what the `values` of all CPUs come to: sums, the latest of times, else the first that is set."""
    if isinstance(codec, StructCodec):
        columns = zip(*map(_parts, values), strict=True)
        return make(codec.record, [total(field.codec, of) for field, of in zip(codec.fields, columns, strict=True)])
    if isinstance(codec, ArrayCodec):
        return tuple(total(codec.element, of) for of in zip(*map(_parts, values), strict=True))
    kind = kind_of(codec)
    if kind in {COUNT, NUMBER}:
        return sum(map(_number, values))
    if kind == KTIME:
        return max(map(_number, values))
    return next((value for value in values if not is_zero(value)), values[0])


def is_zero(value: object) -> bool:
    """Return whether every byte that `value` was read from is zero, padding aside."""
    if isinstance(value, tuple):
        return all(map(is_zero, value))
    if isinstance(value, (bytes, UnionValue)):
        return not any(bytes(value))
    return not value


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Return how many rows each table gets of `room`: as many as it needs, or a fair share."""
    given = [0] * len(needs)
    left = max(room, 0)
    for position, index in enumerate(sorted(range(len(needs)), key=lambda index: needs[index])):
        given[index] = min(needs[index], left // (len(needs) - position))
        left -= given[index]
    return given


def _order(key: object) -> tuple[object, ...]:
    # Keys of one map are of one type, but text with a NUL inside is bytes, and unions have no order.
    if isinstance(key, tuple):
        return tuple(map(_order, key))
    if isinstance(key, (int, float)):
        return (0, key)
    if isinstance(key, str):
        return (1, key.encode("utf-8", "surrogateescape"))
    if isinstance(key, (bytes, UnionValue)):
        return (1, bytes(key))
    return (2, str(key))


def _parts(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value


def _number(value: object) -> int | float:
    assert isinstance(value, (int, float))
    return value


def _in_key(leaf: Leaf) -> Callable[[Row], object]:
    return lambda row: leaf.of(row.key)


def _in_value(leaf: Leaf) -> Callable[[Row], object]:
    return lambda row: leaf.of(row.value)


def _of_cpu(leaf: Leaf, cpu: int) -> Callable[[Row], object]:
    return lambda row: leaf.of(row.cpus[cpu]) if row.cpus is not None else None
