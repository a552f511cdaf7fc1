"""Histogram: how often values were in which bucket, as a whole and by section. Immutable.

Where the counts come from is `source`'s business, how they are shown that of `text` and `svg`.
"""

from __future__ import annotations

from types import MappingProxyType

from rawbpf.histogram.scale import Linear, Log2
from rawbpf.histogram.source import Reader, bucketed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Self

    from rawbpf.histogram.scale import Scale
    from rawbpf.histogram.source import Counts, Source

    Sort = Callable[[Mapping[Any, Any]], Iterable[Any]]


class Histogram:
    """How often values were in which bucket. As text it is drawn as BCC's tools draw it; `svg()` makes a picture.

    `log2` and `linear` read what a program counted in a map, `log2_of` and `linear_of` count numbers.
    Histograms of the same buckets can be added, and subtracted for what came in between.
    """

    __slots__ = ("_counts", "_label", "_scale", "_sections")

    _scale: Scale
    _counts: Counts
    _sections: dict[object, Histogram]
    _label: str

    def __init__(self) -> None:
        raise TypeError("a Histogram is made by log2(), linear(), log2_of() or linear_of()")

    @classmethod
    def _made(
        cls, scale: Scale, counts: Counts, sections: Mapping[object, Counts] | None = None, label: str = ""
    ) -> Self:
        self = object.__new__(cls)
        self._scale = scale
        self._counts = {index: counts[index] for index in sorted(counts) if counts[index]}
        made = {key: cls._made(scale, sections[key]) for key in sections} if sections else {}
        self._sections = {key: made[key] for key in _sorted(made) if made[key]._counts}
        self._label = label
        return self

    @classmethod
    def log2(
        cls,
        source: Source,
        /,
        *,
        field: str | None = None,
        slot: str | None = None,
        section: str | Iterable[str] | None = None,
        first: int = 1,
    ) -> Self:
        """Return the histogram of a map in which a program counts by the power of two that a value is below.

        `source`: a map or another mapping of slots to counts, or pairs of them; what lies in one slot of several
        CPUs is added. `field`: which field of a struct is the count. `slot`: which field of a key that is a struct
        is the slot; the one called `slot`, else the last. `section`: one field or several, by which sections are
        made; all others, `()` for none. `first`: the slot of the values 0 and 1. It is 1 for BCC's bpf_log2l(), and
        0 for programs that take the number of the highest bit that is set.
        Raises: TypeError, ValueError for what is no slot or no count; what reading the map raises.
        """
        if first not in (0, 1):
            raise ValueError(f"first: expected 1 as bpf_log2l() has it, or 0, got {first!r}")
        scale = Log2()
        return cls._made(scale, *Reader(scale, first, field, slot, section).read(source))

    @classmethod
    def linear(
        cls,
        source: Source,
        /,
        *,
        step: int = 1,
        field: str | None = None,
        slot: str | None = None,
        section: str | Iterable[str] | None = None,
    ) -> Self:
        """Return the histogram of a map in which a program counts by `value / step`.

        `step`: how many values share a slot; the rest is as `log2` has it. Slots go from 0 to 1024.
        Raises: TypeError, ValueError for what is no slot or no count; what reading the map raises.
        """
        scale = Linear(step)
        return cls._made(scale, *Reader(scale, 0, field, slot, section).read(source))

    @classmethod
    def log2_of(cls, values: Iterable[float], /) -> Self:
        """Return the log2 histogram of `values`, numbers from 0 on, which are rounded down to whole ones.

        Raises: TypeError; ValueError, OverflowError for numbers that have no bucket.
        """
        scale = Log2()
        return cls._made(scale, bucketed(values, scale))

    @classmethod
    def linear_of(cls, values: Iterable[float], /, *, step: int = 1) -> Self:
        """Return the histogram of `values`, numbers from 0 on below 1025 * `step`, rounded down to whole ones.

        Raises: TypeError; ValueError, OverflowError for numbers that have no bucket.
        """
        scale = Linear(step)
        return cls._made(scale, bucketed(values, scale))

    # Numbers ---------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts.values())

    @property
    def buckets(self) -> tuple[tuple[int, int, int], ...]:
        """Each bucket from the first to the last that is not empty: least and greatest value, and the count."""
        if not self._counts:
            return ()
        least = min(self._scale.first, *self._counts)
        indices = range(least, max(self._counts) + 1)
        return tuple([(*self._scale.bounds(index), self._counts.get(index, 0)) for index in indices])

    @property
    def sections(self) -> Mapping[Any, Histogram]:
        """The histogram of each section, sorted by what tells them apart; empty where there is no such thing."""
        return MappingProxyType(self._sections)

    @property
    def kind(self) -> str:
        """What the buckets are: `log2` or `linear`."""
        return self._scale.name

    @property
    def step(self) -> int | None:
        """How many values share a bucket of a linear histogram; None for log2."""
        return self._scale.step

    @property
    def total(self) -> float:
        """The sum of the values, as if each were in the middle of its bucket: an estimate, exact for steps of one."""
        return sum([count * (low + high) for low, high, count in self.buckets]) / 2

    @property
    def mean(self) -> float:
        """The mean of the values, estimated as `total`. Raises: ValueError where nothing was counted."""
        if not self._counts:
            raise ValueError("nothing was counted, so there is no mean")
        return self.total / self.count

    def percentile(self, p: float) -> tuple[int, int]:
        """Return the least and the greatest value of the bucket that `p` percent of the values do not exceed.

        Raises: ValueError for `p` outside of 0 to 100, and where nothing was counted.
        """
        if not 0 <= p <= 100:
            raise ValueError(f"percentile: expected 0 to 100, got {p!r}")
        if not self._counts:
            raise ValueError("nothing was counted, so there is no percentile")
        # The nearest rank; whole numbers are not rounded, however many were counted.
        rank = max(1, -(-self.count * p // 100))
        below = 0
        index = 0
        for index, count in self._counts.items():  # noqa: B007  (the last one, where rounding went beyond it)
            below += count
            if below >= rank:
                break
        return self._scale.bounds(index)

    # Algebra ---------------------------------------------------------------------

    def __add__(self, other: Histogram) -> Self:
        return self._combined(other, 1)

    def __sub__(self, other: Histogram) -> Self:
        """What was counted since `other`, an earlier histogram of the same map. Raises: ValueError if it has more."""
        return self._combined(other, -1)

    def _combined(self, other: Histogram, sign: int) -> Self:
        if not isinstance(other, Histogram):
            return NotImplemented
        if self._scale != other._scale:
            raise ValueError(f"one is {self._scale!r}, the other {other._scale!r}: their buckets do not match")
        if self._counts and other._counts and bool(self._sections) != bool(other._sections):
            raise ValueError("one has sections and the other has none")
        sections = {
            key: _combined(self._part(key), other._part(key), sign, f"section {key!r}: ")
            for key in self._sections | other._sections
        }
        counts = _combined(self._counts, other._counts, sign, "")
        return self._made(self._scale, counts, sections, self._label or other._label)

    def _part(self, key: object) -> Counts:
        return self._sections[key]._counts if key in self._sections else {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._scale == other._scale and self._counts == other._counts and self._sections == other._sections

    def __hash__(self) -> int:
        return hash((self._scale, tuple(self._counts.items())))

    # Shown -----------------------------------------------------------------------

    def text(
        self,
        unit: str = "value",
        *,
        label: str | None = None,
        describe: Callable[[Any], str] | None = None,
        sort: Sort | None = None,
        strip_leading_zero: bool = False,
        full: int | None = None,
    ) -> str:
        """Return the histogram as text in the layout of BCC's print_log2_hist and print_linear_hist.

        `unit`: what is counted, such as "usecs". Sections are headed `label = describe(section)`; `label` is
        the names of the fields. `sort` takes `sections` and returns the keys of those to show, in their order.
        `strip_leading_zero`: begin with the first bucket that is not empty. `full`: the count of a whole bar,
        the greatest one in its section; a bar that would be longer ends with `+`.
        """
        from rawbpf.histogram.text import drawn

        headed = self._headed(label, describe, sort)
        return drawn(self, headed, unit, strip=strip_leading_zero, full=full)

    def svg(
        self,
        width: int = 640,
        *,
        title: str = "",
        unit: str = "value",
        label: str | None = None,
        describe: Callable[[Any], str] | None = None,
        sort: Sort | None = None,
    ) -> str:
        """Return the histogram as an SVG picture `width` pixels wide, which needs nothing else to be shown.

        Text and lines have the colour of the text around it. Sections stand one below the other, each with
        its own axis of counts. `title` stands above; the rest is as `text` has it.
        Raises: ValueError for a width below 200.
        """
        from rawbpf.histogram.svg import picture

        return picture(self, self._headed(label, describe, sort), width, title, unit)

    def _headed(
        self, label: str | None, describe: Callable[[Any], str] | None, sort: Sort | None
    ) -> list[tuple[str, Histogram]]:
        from rawbpf.histogram.text import describe_section, printable

        describe = describe or describe_section
        label = self._label if label is None else label
        keys = self._sections if sort is None else sort(self.sections)
        return [(printable(f"{label} = {describe(key)}"), self._sections[key]) for key in keys]

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        sections = f" in {len(self._sections)} sections" if self._sections else ""
        return f"<Histogram {self._scale!r}: {self.count} counted{sections}>"

    def _repr_svg_(self) -> str:
        # What notebooks show.
        return self.svg()


def _combined(one: Counts, other: Counts, sign: int, where: str) -> Counts:
    counts = dict(one)
    for index, count in other.items():
        counts[index] = counts.get(index, 0) + sign * count
        if counts[index] < 0:
            raise ValueError(f"{where}the earlier histogram has more: is it of the same map, and was nothing removed?")
    return counts


def _sorted(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # such as addresses of several kinds
        return list(keys)
