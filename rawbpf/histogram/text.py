"""Histograms as lines of text, in the layout that BCC's tools made known."""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.histogram.histogram import Histogram

NOTHING = "nothing was counted"

# Heading, row, and length of the bar: log2 with numbers of up to 32 bits, of up to 64 bits, linear.
_NARROW = "     {:<19} : count     distribution", "{:>10} -> {:<10} : {:<8} |{:<40}|", 40
_WIDE = "               {:<29} : count     distribution", "{:>20} -> {:<20} : {:<8} |{:<20}|", 20
_LINEAR = "     {:<13} : count     distribution", "        {:<10} : {:<8} |{:<40}|", 40


def drawn(
    whole: Histogram, headed: Sequence[tuple[str, Histogram]], unit: str, *, strip: bool, full: int | None
) -> str:
    """Return the lines of a histogram, or of its sections, each below an empty line and its heading.

    Raises: ValueError for a `full` below 1.
    """
    if full is not None and full < 1:
        raise ValueError(f"full: expected a count of 1 or more, got {full}")
    if not whole.sections:
        return "\n".join(_lines(whole, unit, strip, full))
    lines = []
    for heading, section in headed:
        lines += ["", heading, *_lines(section, unit, strip, full)]
    return "\n".join(lines)


def _lines(histogram: Histogram, unit: str, strip: bool, full: int | None) -> list[str]:
    rows = histogram.buckets
    if not rows:
        return [NOTHING]
    is_linear = histogram.kind == "linear"
    heading, row, length = _LINEAR if is_linear else _NARROW if rows[-1][1] < 2**32 else _WIDE
    if full is None:
        full = max(count for _, _, count in rows)
    lines = [heading.format(unit)]
    for low, high, count in rows:
        if count or not strip:
            strip = False
            bounds = (low,) if is_linear else (low, high)
            lines.append(row.format(*bounds, count, stars(count, full, length)))
    return lines


def stars(count: int, full: int, length: int) -> str:
    """Return the bar of `count`, where one of `full` has `length` stars; a longer one is cut off with a `+`."""
    if count > full:
        return "*" * (length - 1) + "+"
    # The quotient is rounded as BCC's is, which shows where the counts are beyond 2**53.
    return "*" * int(length * count / full)


def describe_section(key: object) -> str:
    """Return what stands in a heading for a section: text as it is, the fields of a struct or of several one by one."""
    if isinstance(key, tuple):
        return ", ".join([describe_section(one) for one in key])
    if isinstance(key, IntEnum):
        return key.name
    return key.hex() if isinstance(key, bytes) else str(key)


def printable(text: str) -> str:
    """Return `text` with escapes for what a terminal would obey: any process may give itself such a name."""
    return "".join([one if one.isprintable() else repr(one)[1:-1] for one in text])
