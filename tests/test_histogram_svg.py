"""Histograms as SVG: well-formed, self-contained, readable on any page, and as tall as the counts. No kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawbpf import Histogram
from rawbpf.histogram.svg import binary, compact

NS = "{http://www.w3.org/2000/svg}"
LATENCIES = Histogram.log2({3: 20, 4: 400, 5: 100, 6: 1})
SECTIONS = Histogram.log2({("sh", 1): 5, ("sh", 3): 10, ("cat", 2): 6000, ("cat", 5): 1500})


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.encode())


def charts(svg: ET.Element) -> list[ET.Element]:
    return svg.findall(f"{NS}g")


def bars(chart: ET.Element) -> Iterator[tuple[str, float, float]]:
    """Yield the title, the height and the lower end of each bar."""
    for rect in chart.iter(f"{NS}rect"):
        title = rect.find(f"{NS}title")
        assert title is not None
        yield title.text or "", float(rect.attrib["height"]), float(rect.attrib["y"]) + float(rect.attrib["height"])


def texts(svg: ET.Element) -> list[str]:
    return [each.text or "" for each in svg.iter(f"{NS}text")]


def count_in(title: str) -> int:
    found = re.search(r": ([\d,]+) \(", title)
    assert found
    return int(found[1].replace(",", ""))


@given(st.dictionaries(st.integers(0, 64), st.integers(1, 10**12), min_size=1), st.integers(200, 2000))
def test_bars_are_as_tall_as_their_counts_and_stand_on_one_line(counts: dict[int, int], width: int) -> None:
    (chart,) = charts(parsed(Histogram.log2(counts).svg(width)))
    found = list(bars(chart))
    assert [count_in(title) for title, _, _ in found] == [counts[slot] for slot in sorted(counts)]
    axis = next(line for line in chart.iter(f"{NS}line") if line.attrib["stroke-opacity"] == "0.8")
    assert found[0][2] == pytest.approx(float(axis.attrib["y1"]), abs=0.01)
    tallest = max(height for _, height, _ in found)
    greatest = max(counts.values())
    assert 160 >= tallest >= 80
    for title, height, base in found:
        assert height == pytest.approx(tallest * count_in(title) / greatest, abs=0.01)
        assert base == pytest.approx(found[0][2], abs=0.01)


@given(st.dictionaries(st.integers(0, 1024), st.integers(1, 50), min_size=1), st.integers(200, 2000))
def test_everything_is_inside_and_no_bar_covers_another(counts: dict[int, int], width: int) -> None:
    svg = parsed(Histogram.linear(counts, step=3).svg(width))
    rects = list(svg.iter(f"{NS}rect"))
    ends = 0.0
    for rect in rects:
        assert float(rect.attrib["x"]) >= ends - 0.002
        ends = float(rect.attrib["x"]) + float(rect.attrib["width"])
    assert ends <= width
    for text in svg.iter(f"{NS}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= float(svg.attrib["height"])


@given(st.dictionaries(st.integers(0, 1024), st.just(1), min_size=1), st.integers(200, 2000), st.integers(1, 10**6))
def test_labels_of_buckets_do_not_run_into_each_other(counts: dict[int, int], width: int, step: int) -> None:
    svg = parsed(Histogram.linear(counts, step=step).svg(width, unit=""))
    lowest = max(float(text.attrib["y"]) for text in svg.iter(f"{NS}text") if text.text)
    labels = [text for text in svg.iter(f"{NS}text") if text.text and float(text.attrib["y"]) == lowest]
    ends = -100.0
    for label in labels:
        half = 6.5 * len(label.text or "") / 2
        assert float(label.attrib["x"]) - half >= ends
        ends = float(label.attrib["x"]) + half


def test_axes_are_labelled() -> None:
    svg = parsed(LATENCIES.svg(unit="usecs", title="Latency"))
    assert texts(svg) == [
        "Latency",
        *["0", "100", "200", "300", "400"],
        *["20", "400", "100", "1"],
        *["4", "8", "16", "32", "64"],
        "usecs",
    ]
    titles = [title for title, _, _ in bars(svg)]
    assert titles[0] == "4 to 7 usecs: 20 (3.84 %)"


def test_values_of_their_own_are_labelled_below_the_middle_of_their_bars() -> None:
    svg = parsed(Histogram.linear({7: 1, 8: 2}).svg(unit="segments"))
    rects = list(svg.iter(f"{NS}rect"))
    middles = [float(rect.attrib["x"]) + float(rect.attrib["width"]) / 2 for rect in rects]
    labels = {text.text: float(text.attrib["x"]) for text in svg.iter(f"{NS}text")}
    assert [labels["7"], labels["8"]] == pytest.approx(middles, abs=0.01)
    assert next(bars(svg))[0] == "7 segments: 1 (33.3 %)"


def test_steps_are_labelled_at_round_numbers() -> None:
    histogram = Histogram.linear({3: 1, 47: 1}, step=10)
    for width, labels in ((1100, list(range(40, 481, 20))), (400, [50, 100, 150, 200, 250, 300, 350, 400, 450])):
        lowest = texts(parsed(histogram.svg(width, unit="")))
        assert [int(one) for one in lowest if one.isdecimal()][-len(labels) :] == labels


def test_sections_stand_below_each_other_over_the_same_buckets() -> None:
    svg = parsed(SECTIONS.svg(label="comm"))
    assert [texts(chart)[0] for chart in charts(svg)] == ["comm = cat", "comm = sh"]
    assert [[count_in(title) for title, _, _ in bars(chart)] for chart in charts(svg)] == [[6000, 1500], [5, 10]]
    (cat, *_), (sh, *_) = (list(bars(chart)) for chart in charts(svg))
    assert sh[2] > cat[2] + 160
    # Each has its own axis of counts, and all have one of buckets.
    assert ("6000" in texts(charts(svg)[0]), "6000" in texts(charts(svg)[1])) == (True, False)
    axes = [texts(chart)[-6:] for chart in charts(svg)]
    assert axes[0] == axes[1] == ["0", "2", "4", "8", "16", "32"]


def test_sections_can_be_worded_sorted_and_chosen() -> None:
    svg = parsed(SECTIONS.svg(label="who", describe=lambda key: f"<{key}>", sort=lambda keys: [max(keys)]))
    assert [texts(chart)[0] for chart in charts(svg)] == ["who = <sh>"]


def test_a_screen_reader_is_told_what_it_shows() -> None:
    svg = parsed(LATENCIES.svg(unit="usecs", title="Latency"))
    assert (svg.attrib["role"], svg.attrib["aria-label"]) == ("img", "Latency")
    assert [child.tag for child in svg][:2] == [f"{NS}title", f"{NS}desc"]
    assert svg[0].text == "Latency"
    assert svg[1].text == ("521 counted, most of them, 400, at 8 to 15 usecs; half are at most 15, 99 % at most 31.")
    assert parsed(LATENCIES.svg(unit="usecs"))[0].text == "Histogram of usecs"
    assert (parsed(SECTIONS.svg(label="comm"))[1].text or "").startswith("comm = cat: 7,500 counted, most")


@pytest.mark.parametrize("histogram", [LATENCIES, SECTIONS, Histogram.linear_of([1, 2]), Histogram.log2({})], ids=repr)
def test_it_needs_nothing_from_elsewhere_and_has_the_pages_colour(histogram: Histogram) -> None:
    text = histogram.svg(title="t")
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}
    svg = parsed(text)
    assert {each.tag.removeprefix(NS) for each in svg.iter()} <= {"svg", "title", "desc", "g", "text", "line", "rect"}
    assert svg.attrib["fill"] == "currentColor"
    assert not [each for each in svg.iter() if each.tag != f"{NS}rect" and each is not svg and "fill" in each.attrib]
    assert {each.attrib["stroke"] for each in svg.iter(f"{NS}line")} <= {"currentColor"}
    assert not [name for each in svg.iter() for name in each.attrib if name.startswith("on") or "href" in name]


@given(st.text(), st.text(), st.text())
def test_any_text_is_escaped(title: str, unit: str, name: str) -> None:
    svg = parsed(Histogram.log2({(name, 1): 1}).svg(title=title, unit=unit))
    assert len(charts(svg)) == 1
    assert "".join(one if one.isprintable() else "\ufffd" for one in title) in [*texts(svg), ""]


@pytest.mark.parametrize("name", ["</svg><script>x</script>", "a\0b\x1b", "\udcff", "]]>", "&amp;", "\"'"])
def test_a_hostile_name_stays_text(name: str) -> None:
    for text in (LATENCIES.svg(title=name, unit=name), Histogram.log2({(name, 1): 1}).svg(label=name)):
        svg = parsed(text)
        assert {each.tag.removeprefix(NS) for each in svg.iter()} == {
            "svg", "title", "desc", "g", "text", "line", "rect"
        }  # fmt: skip


def test_an_empty_one_says_so() -> None:
    svg = parsed(Histogram.log2({}).svg())
    assert texts(svg) == ["nothing was counted"]
    assert svg[1].text == "nothing was counted."
    assert not list(svg.iter(f"{NS}rect"))


@pytest.mark.parametrize(
    ("width", "error"), [(199, ValueError), (0, ValueError), (640.5, TypeError), (True, TypeError)]
)
def test_a_width_is_of_200_pixels_or_more(width: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="width: expected"):
        LATENCIES.svg(width)


def test_it_is_as_wide_as_wished_and_what_notebooks_show() -> None:
    svg = parsed(LATENCIES.svg(300))
    assert (svg.attrib["width"], svg.attrib["viewBox"]) == ("300", f"0 0 300 {svg.attrib['height']}")
    assert LATENCIES._repr_svg_() == LATENCIES.svg()


def test_counts_and_powers_of_two_are_written_in_few_letters() -> None:
    counts = {
        0: "0",
        9999: "9999",
        10_000: "10k",
        25_500: "25.5k",
        1_234_567: "1.23M",
        999_499: "999k",
        999_500: "1M",
        2**64: "18.4E",
        10**12: "1T",
    }
    assert {count: compact(count) for count in counts} == counts
    powers = {0: "0", 2: "2", 512: "512", 1024: "1Ki", 2**21: "2Mi", 2**64: "16Ei"}
    assert {power: binary(power) for power in powers} == powers
