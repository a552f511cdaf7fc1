"""Histograms as SVG: one text that any browser shows, without scripts, fonts or anything else from elsewhere.

Text and lines are in `currentColor`, so that they can be read on light and dark pages. What a screen reader
tells stands in `aria-label` and `desc`; the numbers of a bar in its `title`, which shows under the pointer.
"""

from __future__ import annotations

from rawbpf.histogram.text import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.histogram.histogram import Histogram

# Contrasts 4 to 1 with white and 5 to 1 with black.
_COLOUR = "#3b82c4"
_STYLE = 'font-family="system-ui, sans-serif" font-size="11" fill="currentColor"'
_LETTER = 6.5  # as wide as a digit of 11 pixels is at most
_HEIGHT = 160  # of the tallest bars' room
_RIGHT = 24
_THOUSANDS = "kMGTPEZ"
_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;"}


def picture(whole: Histogram, headed: Sequence[tuple[str, Histogram]], width: int, title: str, unit: str) -> str:
    """Return the picture of a histogram, or of its sections, `width` pixels wide. Raises: TypeError, ValueError."""
    if isinstance(width, bool) or not isinstance(width, int):
        raise TypeError(f"width: expected an int, pixels, got {width!r} ({type(width).__name__})")
    if width < 200:
        raise ValueError(f"width: expected 200 pixels or more, got {width}")
    charts = headed if whole.sections else [("", whole)]
    drawing = _Drawing(width, unit, [chart for _, chart in charts])
    if title:
        drawing.top += 30
        drawing.text(drawing.left, 22, title, 'font-size="15" font-weight="bold"')
    for heading, chart in charts:
        drawing.chart(heading, chart)
    if whole.count:
        drawing.top += 14
        drawing.text((drawing.left + drawing.right) / 2, drawing.top, unit, 'text-anchor="middle"')
    height = drawing.top + 12
    name = escaped(title or f"Histogram of {unit}")
    summary = " ".join([_summary(heading, chart, unit) for heading, chart in charts])
    attributes = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{name}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {attributes} {_STYLE}>'
    described = f"<title>{name}</title>\n<desc>{escaped(summary)}</desc>"
    return "\n".join([opening, described, *drawing.parts, "</svg>\n"])


class _Drawing:
    # All charts have the same buckets, from the first to the last that is not empty in any, so that
    # they can be compared; `top` is where the next thing goes.

    def __init__(self, width: int, unit: str, charts: Sequence[Histogram]) -> None:
        self.unit = unit
        self.parts: list[str] = []
        self.top = 4
        used = [index for chart in charts for index in chart._counts]
        self.indices = range(min(used), max(used) + 1) if used else range(0)
        widest = max([len(compact(tick)) for chart in charts if chart.count for tick in _ticks(chart)], default=1)
        self.left = round(12 + _LETTER * widest)
        self.right = width - _RIGHT

    def text(self, x: float, y: float, content: str, attributes: str = "") -> None:
        self.parts.append(f'<text x="{_number(x)}" y="{_number(y)}" {attributes}>{escaped(content)}</text>')

    def line(self, y: float, opacity: float) -> None:
        ends = f'x1="{self.left}" y1="{_number(y)}" x2="{self.right}" y2="{_number(y)}"'
        self.parts.append(f'<line {ends} stroke="currentColor" stroke-opacity="{opacity}"/>')

    def chart(self, heading: str, chart: Histogram) -> None:
        self.parts.append("<g>")
        if heading:
            self.top += 24
            self.text(self.left, self.top, heading, 'font-size="13"')
        if chart.count:
            self._bars(chart)
        else:
            self.top += 20
            self.text(self.left, self.top, NOTHING)
        self.parts.append("</g>")

    def _bars(self, chart: Histogram) -> None:
        rows = self._rows(chart)
        ticks = _ticks(chart)
        self.top += 20
        base = self.top + _HEIGHT
        for tick in ticks:
            y = base - _HEIGHT * tick / ticks[-1]
            self.line(y, 0.15 if tick else 0.8)
            self.text(self.left - 6, y + 4, compact(tick), 'text-anchor="end"')
        slot = (self.right - self.left) / len(rows)
        gap = 2 if slot > 6 else 0
        is_labelled = all(_LETTER * len(compact(count)) <= slot for _, _, count in rows)
        for number, (low, high, count) in enumerate(rows):
            if not count:
                continue
            x, tall = self.left + number * slot, _HEIGHT * count / ticks[-1]
            size = f'width="{_number(slot - gap)}" height="{_number(tall)}"'
            told = f"{_span(low, high)} {self.unit}: {count:,} ({100 * count / chart.count:.3g} %)"
            self.parts.append(
                f'<rect x="{_number(x + gap / 2)}" y="{_number(base - tall)}" {size} fill="{_COLOUR}">'
                f"<title>{escaped(told)}</title></rect>"
            )
            if is_labelled:
                self.text(x + slot / 2, base - tall - 4, compact(count), 'text-anchor="middle"')
        self.top = base + 16
        self._labels(rows, slot, chart)

    def _rows(self, chart: Histogram) -> list[tuple[int, int, int]]:
        return [(*chart._scale.bounds(index), chart._counts.get(index, 0)) for index in self.indices]

    def _labels(self, rows: list[tuple[int, int, int]], slot: float, chart: Histogram) -> None:
        # Below the edges between the bars, or below a bar where it is of one value.
        edges = [low for low, _, _ in rows]
        middle = slot / 2
        if chart.step != 1:
            edges.append(rows[-1][1] + 1)
            middle = 0
        names = [binary(edge) if chart.step is None else str(edge) for edge in edges]
        room = _LETTER * max(map(len, names)) + 8
        every = next(n for power in range(5) for n in (10**power, 2 * 10**power, 5 * 10**power) if n * slot >= room)
        first = 0 if chart.step is None else -(edges[0] // chart.step) % every
        for number in range(first, len(names), every):
            self.text(self.left + number * slot + middle, self.top, names[number], 'text-anchor="middle"')


def _ticks(chart: Histogram) -> list[int]:
    # At most six counts from 0 on, of 1, 2 or 5 with zeros, of which the last is no less than any count.
    greatest = max(count for _, _, count in chart.buckets)
    step = power = 1
    while step * 5 < greatest:
        step = power * {1: 2, 2: 5, 5: 10}[step // power]
        if step == 10 * power:
            power = step
    return list(range(0, greatest + step, step))


def compact(count: int) -> str:
    """Return a count in few letters: 9999, 10k, 1.23M."""
    if count < 10_000:
        return str(count)
    power = 3
    # 999,500 is rounded to 1000k, which is 1M.
    while 2 * count >= 1999 * 10**power and power < 3 * len(_THOUSANDS):
        power += 3
    return f"{count / 10**power:.3g}{_THOUSANDS[power // 3 - 1]}"


def binary(value: int) -> str:
    """Return a power of two in few letters: 512, 1Ki, 2Mi."""
    prefix = min(max(value.bit_length() - 1, 0) // 10, len(_PREFIXES) - 1)
    return f"{value >> 10 * prefix}{_PREFIXES[prefix]}"


def escaped(text: str) -> str:
    """Return `text` as XML has it, with U+FFFD for what XML cannot hold, such as control characters."""
    return "".join([one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text]).translate(_ESCAPES)


def _summary(heading: str, chart: Histogram, unit: str) -> str:
    start = f"{heading}: " if heading else ""
    if not chart.count:
        return f"{start}{NOTHING}."
    low, high, most = max(chart.buckets, key=lambda bucket: bucket[2])
    half, nearly_all = (chart.percentile(p)[1] for p in (50, 99))
    return (
        f"{start}{chart.count:,} counted, most of them, {most:,}, at {_span(low, high)} {unit}; "
        f"half are at most {half}, 99 % at most {nearly_all}."
    )


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
