"""Slots and counts out of a map's elements, section by section.

A key is a slot, or a struct of a slot and what tells sections apart; a value is a count, one per CPU,
or a struct with a count in it. What is anything else is refused with what to pass instead.
"""

from __future__ import annotations

import math
import operator

from rawbpf.codec.percpu import PerCpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Protocol

    from rawbpf.histogram.scale import Scale

    class HasItems(Protocol):
        """A map or a dict."""

        def items(self) -> Iterable[tuple[Any, Any]]:
            """Return pairs of key and value."""

    Source = HasItems | Mapping[Any, Any] | Iterable[tuple[Any, Any]]
    Counts = dict[int, int]


class Reader:
    """Reads elements for a scale. `first`: the slot of the scale's first bucket; the others as `Histogram.log2`."""

    def __init__(
        self, scale: Scale, first: int, field: str | None, slot: str | None, section: str | Iterable[str] | None
    ) -> None:
        self.scale = scale
        self.shift = scale.first - first
        self.field = field
        self.slot = slot
        self.section = (section,) if isinstance(section, str) else None if section is None else tuple(section)

    def read(self, source: Source) -> tuple[Counts, dict[object, Counts], str]:
        """Return the counts by bucket, the same by section, and what the sections are of, "" where there are none."""
        whole: Counts = {}
        sections: dict[object, Counts] = {}
        labels: set[str] = set()
        for key, value in _pairs(source):
            names, section, slot = self._parts(key)
            labels.add(names)
            number, count = whole_number(slot, "slot"), self._count(value, slot)
            # An array may be longer than a histogram, where nothing was counted.
            if count:
                index = self._index(number)
                whole[index] = whole.get(index, 0) + count
                if names:
                    counts = sections.setdefault(section, {})
                    counts[index] = counts.get(index, 0) + count
        if len(labels) > 1:
            raise TypeError("keys: some are a slot, others a slot and more: expected one kind")
        return whole, sections, labels.pop() if labels else ""

    def _parts(self, key: object) -> tuple[str, object, object]:
        # What the section is of, the section, the slot.
        if not isinstance(key, tuple):
            for what, name in (("slot", self.slot), ("section", self.section)):
                if name:
                    raise ValueError(f"{what}={name!r}: the keys are no structs, got {key!r}")
            return "", (), key
        fields: tuple[str, ...] | None = getattr(key, "_fields", None)
        if fields is None:
            return self._parts_of_tuple(key)
        if not fields:
            raise ValueError(f"keys: expected a slot, got {key!r}")
        slot = self.slot or ("slot" if "slot" in fields else fields[-1])
        names = tuple([name for name in fields if name != slot]) if self.section is None else self.section
        values = [_attribute(key, name, "key") for name in names]
        return ", ".join(names), _single(values), _attribute(key, slot, "key")

    def _parts_of_tuple(self, key: tuple[object, ...]) -> tuple[str, object, object]:
        if self.slot or self.section:
            raise ValueError(
                f"the fields of {key!r} have no names: the last is the slot, and section=() takes no other"
            )
        if not key:
            raise ValueError("keys: expected (..., slot), got ()")
        *values, slot = key
        return ("section", _single(values), slot) if values and self.section is None else ("", (), slot)

    def _index(self, number: int) -> int:
        if number < 0:
            raise ValueError(f"slot {number} is negative")
        index = number + self.shift
        if index > self.scale.last:
            last = self.scale.last - self.shift
            raise ValueError(f"slot {number}: a {self.scale.name} histogram ends with {last}{self.scale.hint}")
        return index

    def _count(self, value: object, slot: object) -> int:
        if isinstance(value, PerCpu):
            value = value.sum()
        if self.field is not None:
            if not hasattr(value, "_fields"):
                raise ValueError(f"field={self.field!r}: the values are no structs, got {value!r}")
            value = _attribute(value, self.field, "value")
        elif hasattr(value, "_fields"):
            raise TypeError(f"the values are structs: field= says which of {_known(value)} is the count")
        count = whole_number(value, f"count of slot {slot}")
        if count < 0:
            raise ValueError(f"count of slot {slot} is negative: {count}")
        return count


def bucketed(values: Iterable[object], scale: Scale) -> Counts:
    """Return how many of `values` are in each bucket. Raises: TypeError, ValueError, OverflowError."""
    counts: Counts = {}
    for value in values:
        # floor() says itself what is wrong with nan and inf.
        number = math.floor(value) if isinstance(value, float) else whole_number(value, "value")
        if number < 0:
            raise ValueError(f"value {value} is negative")
        index = scale.index(number)
        if index > scale.last:
            _, greatest = scale.bounds(scale.last)
            raise ValueError(f"value {value}: this {scale.name} histogram ends with {greatest}{scale.hint}")
        counts[index] = counts.get(index, 0) + 1
    return counts


def whole_number(value: object, what: str) -> int:
    """Return `value`, a number of any integer type. Raises: TypeError."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        message = f"{what}: expected an int, got {value!r} ({type(value).__name__})"
    if isinstance(value, bytes):
        message += (
            "; a map without BTF gives bytes: pass pairs that codec_for('u32').unpack() and its like made of them"
        )
    raise TypeError(message)


def _pairs(source: Source) -> Iterator[tuple[Any, Any]]:
    items = getattr(source, "items", None)
    try:
        elements = iter(source if items is None else items())  # type: ignore[arg-type]
    except TypeError:
        elements = None
    if elements is None:
        raise TypeError(f"expected a map, a mapping, or pairs of slot and count, got {source!r}")
    for pair in elements:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"expected pairs of slot and count, got {pair!r}; enumerate() makes them of a list of counts"
            )
        yield pair[0], pair[1]


def _attribute(record: object, name: str, what: str) -> object:
    if name not in _names(record):
        raise ValueError(f"the {what}s have no field {name!r}: there are {_known(record)}")
    return getattr(record, name)


def _names(record: object) -> list[str]:
    # With the members of anonymous unions, which read as the record's own.
    return [*getattr(record, "_fields"), *[member for member, _ in getattr(record, "_forwards", ())]]  # noqa: B009


def _known(record: object) -> str:
    return ", ".join(_names(record)) or "none"


def _single(values: list[object]) -> object:
    return values[0] if len(values) == 1 else tuple(values)
