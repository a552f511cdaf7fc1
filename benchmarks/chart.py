"""The chart of nanoseconds per key by number of keys in a call, both axes by powers of ten, as SVG.

    python benchmarks/chart.py docs/explanation/many-keys.json        # draws many-keys.svg beside it anew

Drawn from the rows of benchmarks/many.py, which keeps the few numbers that it takes. The picture has a background
of its own, since what shows it as an image hands it no colours: it is the same on light and dark pages. Lines differ
in dashes and marks, not by colour alone, and the numbers stand in `desc` and in each mark's `title`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: rawbpf may be an installed one

from rawbpf.histogram.svg import escaped

# The contender, what it is called, its colour (4.5 to 1 with the background), dashes, and the shape of its marks.
SERIES = (
    ("rawbpf", "m.get_many(keys)", "#0b6bcb", "", "circle"),
    ("C", "C, a system call per key", "#b45309", "7 4", "square"),
    ("m[k]", "m[key] for each key", "#15803d", "2 3", "diamond"),
    ("BCC", "BCC, table[key] for each", "#a21caf", "9 3 2 3", "cross"),
)
TITLE = "Looking up random keys: time per key by number of keys"
_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 190, 58, 372  # of the plane; to the right of it stand the names of the lines
_BACKGROUND, _INK, _GRID = "#ffffff", "#1f2937", "#d1d5db"
_LINE_HEIGHT = 16


def charted(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a chart takes of a `report` of benchmarks/many.py: of plain numbers in the largest map.

    Raises: SystemExit where the report has no such rows.
    """
    rows = [row for row in report["rows"] if "keys" in row and row["types"] == "u32 -> u64"]
    if len(rows) < 2:
        raise SystemExit("a chart needs the rows of the section 'get_many by number of keys'")
    entries = max(row["entries"] for row in rows)
    rows = [row for row in rows if row["entries"] == entries]
    return {
        "machine": report["machine"],
        "types": rows[0]["types"],
        "entries": entries,
        "keys": [row["keys"] for row in rows],
        "nanoseconds": {
            name: [row["nanoseconds"][name] for row in rows]
            for name, *_ in SERIES
            if all(name in row["nanoseconds"] for row in rows)
        },
    }


def drawn(content: dict[str, Any]) -> str:
    """Return the picture of what `charted` returned."""
    return _Drawing(content).text()


class _Drawing:
    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.keys: list[int] = content["keys"]
        self.series = [(each, content["nanoseconds"][each[0]]) for each in SERIES if each[0] in content["nanoseconds"]]
        every = [ns for _, times in self.series for ns in times]
        self.decades = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
        self.last = max(math.ceil(math.log10(self.keys[-1])), 1)
        self.parts: list[str] = []

    def text(self) -> str:
        self._axes()
        for (_, _, colour, dashes, shape), times in self.series:
            self._line(times, colour, dashes)
            for number, ns in zip(self.keys, times, strict=True):
                told = f"{_keys(number)}: {ns:,.0f} ns for each"
                self._mark(self._x(number), self._y(ns), shape, colour, told)
        self._names()
        on = self.content["machine"]
        where = f"{on['cpu']}, {on['machine']}, Linux {on['kernel'].partition('-')[0]}, Python {on['python']}"
        about = f"hash of {self.content['entries']:,} entries, {self.content['types'].replace('->', 'to')}; {where}"
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" aria-label="{escaped(TITLE)}" font-family="system-ui, sans-serif" '
            f'font-size="12" fill="{_INK}">'
        )
        head = [
            opening,
            f"<title>{escaped(TITLE)}</title>",
            f"<desc>{escaped(self._told(about))}</desc>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{_BACKGROUND}"/>',
            f'<text x="{_LEFT}" y="24" font-size="15" font-weight="bold">{escaped(TITLE)}</text>',
            f'<text x="{_LEFT}" y="42" font-size="11">{escaped(about)}</text>',
        ]
        return "\n".join([*head, *self.parts, "</svg>\n"])

    def _told(self, about: str) -> str:
        lines = [f"Nanoseconds per key; {about}."]
        for (_, name, *_), times in self.series:
            numbers = ", ".join(f"{ns:,.0f} for {_keys(number)}" for number, ns in zip(self.keys, times, strict=True))
            lines.append(f"{name}: {numbers}.")
        return " ".join(lines)

    def _x(self, keys: float) -> float:
        return _LEFT + (_WIDTH - _RIGHT - _LEFT) * math.log10(keys) / self.last

    def _y(self, ns: float) -> float:
        low, high = self.decades
        return _BOTTOM - (_BOTTOM - _TOP) * (math.log10(ns) - low) / (high - low)

    def _axes(self) -> None:
        right = _WIDTH - _RIGHT
        for power in range(self.decades[0], self.decades[1] + 1):
            for part in range(1, 10) if power < self.decades[1] else (1,):
                y = self._y(part * 10**power)
                self._rule(_LEFT, y, right, y, 1 if part == 1 else 0.4)
            self._label(_LEFT - 8, self._y(10**power) + 4, f"{10**power:,.0f} ns", "end")
        for power in range(self.last + 1):
            x = self._x(10**power)
            self._rule(x, _TOP, x, _BOTTOM, 1)
            self._label(x, _BOTTOM + 18, f"{10**power:,}", "middle")
        self._label((_LEFT + right) / 2, _BOTTOM + 40, "keys in one call", "middle")

    def _rule(self, x1: float, y1: float, x2: float, y2: float, width: float) -> None:
        ends = f'x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"'
        self.parts.append(f'<line {ends} stroke="{_GRID}" stroke-width="{width}"/>')

    def _label(self, x: float, y: float, content: str, anchor: str) -> None:
        self.parts.append(f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}">{escaped(content)}</text>')

    def _line(self, times: list[float], colour: str, dashes: str) -> None:
        points = " ".join(
            f"{_number(self._x(number))},{_number(self._y(ns))}" for number, ns in zip(self.keys, times, strict=True)
        )
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')

    def _mark(self, x: float, y: float, shape: str, colour: str, told: str = "") -> None:
        drawings = {
            "circle": f"M{_number(x - 4)} {_number(y)}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
            "square": f"M{_number(x - 3.5)} {_number(y - 3.5)}h7v7h-7z",
            "diamond": f"M{_number(x)} {_number(y - 5)}l5 5l-5 5l-5 -5z",
            "cross": f"M{_number(x - 4)} {_number(y - 4)}l8 8m0 -8l-8 8",
        }
        title = f"<title>{escaped(told)}</title>" if told else ""
        fill = "none" if shape == "cross" else colour
        self.parts.append(
            f'<path d="{drawings[shape]}" fill="{fill}" stroke="{colour}" stroke-width="2">{title}</path>'
        )

    def _names(self) -> None:
        # Beside the ends of their lines, one below the other where these meet.
        left = _WIDTH - _RIGHT + 12
        below = -math.inf
        for y, name, colour, shape in sorted(
            (self._y(times[-1]), name, colour, shape) for (_, name, colour, _, shape), times in self.series
        ):
            below = max(y, below + _LINE_HEIGHT)
            self._mark(left + 4, below, shape, colour)
            self._label(left + 15, below + 4, name, "start")


def _keys(number: int) -> str:
    return f"{number:,} key{'s'[: number > 1]}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def main() -> None:
    path = Path(sys.argv[1])
    path.with_suffix(".svg").write_text(drawn(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
