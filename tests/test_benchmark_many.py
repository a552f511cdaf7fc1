"""The benchmark of many keys runs, and its JSON and chart are of the shape that its page shows; no time is asserted."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of the package

from benchmarks.chart import SERIES, charted, drawn  # noqa: E402
from benchmarks.many_rows import BY_NUMBER, QUICK_NUMBERS  # noqa: E402

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

COMMAND = [sys.executable, str(ROOT / "benchmarks/many.py"), "--quick", "--rounds", "1"]
CHART = ROOT / "docs/explanation/many-keys.svg"
NS = "{http://www.w3.org/2000/svg}"
ABOUT = {"cpu": "Some <CPU>", "machine": "x86_64", "kernel": "6.1.2-3", "python": "3.11.7"}

ROWS = {
    BY_NUMBER: {f"m.get_many(keys), {number} key{'s'[: number > 1]}" for number in QUICK_NUMBERS},
    "random keys": {
        "m.get_many(array), 300 keys",
        "m.get_many(keys), 300 missing",
        "m.put_many(dict), 300 keys",
        "m.delete_many(keys), 300 keys",
        "m.pop_many(keys), 300 keys",
    },
    "whole maps": {
        "m.columns()",
        "m.snapshot()",
        "m.count()",
        "m.sum()",
        "m.max()",
        'm.filter(">", n)',
        "m.top(10)",
    },
    "a value for each CPU": {"m.sum()", "m.columns()", "m.snapshot()", "m.get_many(keys)"},
}


def content(keys: list[int], **times: list[float]) -> dict[str, Any]:
    return {"machine": ABOUT, "types": "u32 -> u64", "entries": 1000, "keys": keys, "nanoseconds": times}


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.encode())


@functools.cache
def _quick() -> tuple[str, dict[str, Any], dict[str, Any], str]:
    with tempfile.TemporaryDirectory() as directory:
        file, chart = Path(directory, "many.json"), Path(directory, "chart.svg")
        command = [*COMMAND, "--json", str(file), "--chart", str(chart)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        shown: dict[str, Any] = json.loads(chart.with_suffix(".json").read_text(encoding="utf-8"))
        return done.stdout, report, shown, chart.read_text(encoding="utf-8")


@pytest.mark.real_kernel("the running kernel is measured")
def test_every_row_is_measured_and_compared_with_the_peers_that_there_are(backend: Backend) -> None:
    text, report, _, _ = _quick()
    absent = {word.partition(" ")[0] for word in report["left_out"]}
    found: dict[str, set[str]] = {}
    for row in report["rows"]:
        found.setdefault(row["section"], set()).add(row["row"])
        assert all(ns > 0 for ns in row["nanoseconds"].values())
        assert row["ratios"].keys() == row["nanoseconds"].keys() - {"rawbpf"}
        assert bool(row["ratios"].keys() & {"C", "C batch", "C sum"}) == ("C" not in absent)
        for target in row["targets"]:
            assert target["met"] == (target["ratio"] <= target["limit"])
    assert found == ROWS
    assert {row["types"] for row in report["rows"]} == {"u32 -> u64", "16 -> 64 bytes", "u32 -> per-CPU u64"}
    assert ("bpftool" in report) == ("bpftool" not in absent)
    assert len([line for line in text.splitlines() if line.startswith("| m.")]) == len(report["rows"])


@pytest.mark.real_kernel("the running kernel is measured")
def test_the_chart_of_a_run_shows_its_rows(backend: Backend) -> None:
    _, report, shown, chart = _quick()
    assert shown == charted(report)
    assert chart == drawn(shown)
    assert shown["keys"] == list(QUICK_NUMBERS)
    for name, times in shown["nanoseconds"].items():
        assert times == [
            row["nanoseconds"][name] for row in report["rows"] if "keys" in row and row["types"] == "u32 -> u64"
        ]


def test_the_chart_of_the_documentation_is_what_its_numbers_come_to() -> None:
    numbers = json.loads(CHART.with_suffix(".json").read_text(encoding="utf-8"))
    assert numbers["keys"] == [1, 2, 5, 10, 100, 1_000, 10_000, 100_000]
    assert numbers["nanoseconds"].keys() == {name for name, *_ in SERIES}
    assert CHART.read_text(encoding="utf-8") == drawn(numbers)
    assert f"{CHART.name})" in (ROOT / "docs/how-to/measure-map-operations.md").read_text(encoding="utf-8")


def test_both_axes_go_by_powers_of_ten() -> None:
    svg = parsed(drawn(content([1, 10, 100], rawbpf=[1000.0, 100.0, 10.0])))
    line = svg.find(f"{NS}polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    steps = [(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in pairwise(points)]
    assert steps[0] == pytest.approx(steps[1], abs=0.02)
    assert all(across > 0 and down > 0 for across, down in steps)
    labels = {text.text: text for text in svg.iter(f"{NS}text")}
    assert {"1", "10", "100", "10 ns", "100 ns", "1,000 ns", "keys in one call"} <= labels.keys()
    for number, (x, _) in zip((1, 10, 100), points, strict=True):
        assert float(labels[f"{number}"].attrib["x"]) == pytest.approx(x, abs=0.01)


@pytest.mark.parametrize("last", [1, 3, 99_999, 100_000])
@pytest.mark.parametrize("times", [(3.0, 9_999.0), (10.0, 10_000.0), (250.0, 251.0)], ids=str)
def test_everything_is_inside_and_no_name_of_a_line_covers_another(last: int, times: tuple[float, float]) -> None:
    everything = {name: [times[0], times[1] + nth] for nth, (name, *_) in enumerate(SERIES)}
    svg = parsed(drawn(content([1, last], **everything)))
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    for line in svg.iter(f"{NS}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 < x < width
            assert 0 < y < height
    names = [name for _, name, *_ in SERIES]
    heights = sorted(float(text.attrib["y"]) for text in svg.iter(f"{NS}text") if text.text in names)
    assert len(heights) == len(SERIES)
    assert all(below - above >= 12 for above, below in pairwise(heights))
    assert heights[-1] < height


def test_a_screen_reader_is_told_all_numbers_and_the_pointer_each() -> None:
    svg = parsed(drawn(content([1, 1000], rawbpf=[1500.4, 99.6], C=[1000.0, 1001.0])))
    assert svg.attrib["role"] == "img"
    assert [child.tag for child in svg][:2] == [f"{NS}title", f"{NS}desc"]
    assert svg[0].text == svg.attrib["aria-label"]
    told = svg[1].text or ""
    assert "m.get_many(keys): 1,500 for 1 key, 100 for 1,000 keys." in told
    assert "C, a system call per key: 1,000 for 1 key, 1,001 for 1,000 keys." in told
    assert "Some <CPU>" in told
    titles = [title.text for path in svg.iter(f"{NS}path") for title in path.iter(f"{NS}title")]
    assert titles == [
        f"{what} ns for each" for what in ("1 key: 1,500", "1,000 keys: 100", "1 key: 1,000", "1,000 keys: 1,001")
    ]


def test_it_needs_nothing_from_elsewhere_and_is_readable_on_any_page() -> None:
    text = CHART.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}
    svg = parsed(text)
    assert {each.tag.removeprefix(NS) for each in svg.iter()} == {
        "svg", "title", "desc", "rect", "text", "line", "polyline", "path"
    }  # fmt: skip
    assert not [name for each in svg.iter() for name in each.attrib if name.startswith("on") or "href" in name]
    background = next(svg.iter(f"{NS}rect"))
    assert (background.attrib["width"], background.attrib["height"]) == (svg.attrib["width"], svg.attrib["height"])
    colours = {line.attrib["stroke"] for line in svg.iter(f"{NS}polyline")} | {svg.attrib["fill"]}
    assert len(colours) == len(SERIES) + 1
    for colour in colours:
        assert _contrast(colour, background.attrib["fill"]) >= 4.5, colour


def test_a_report_without_numbers_of_keys_makes_no_chart() -> None:
    with pytest.raises(SystemExit, match="number of keys"):
        charted({"machine": ABOUT, "rows": []})


def _contrast(one: str, other: str) -> float:
    # As WCAG 2 has it.
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4) for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
