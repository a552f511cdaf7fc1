"""Histograms: which bucket a value is in, how they are made, asked, combined and drawn, what is refused. No kernel."""

from __future__ import annotations

import copy
import ctypes
import ipaddress
import pickle
import subprocess
import sys
from collections.abc import Mapping
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rawbpf
from rawbpf import Histogram, PerCpu, codec_for

values = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 100), max_size=50)
slots = st.dictionaries(st.integers(0, 64), st.integers(0, 2**64 - 1))


def test_importing_rawbpf_does_not_import_it() -> None:
    code = "import sys, rawbpf; print([name for name in sys.modules if name.startswith('rawbpf.histogram')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Buckets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0, (0, 1)),
        (1, (0, 1)),
        (2, (2, 3)),
        (3, (2, 3)),
        (4, (4, 7)),
        (3.99, (2, 3)),
        (1023, (512, 1023)),
        (1024, (1024, 2047)),
        (2**32, (2**32, 2**33 - 1)),
        (2**64 - 1, (2**63, 2**64 - 1)),
    ],
)
def test_a_value_is_in_the_bucket_of_its_power_of_two(value: float, bounds: tuple[int, int]) -> None:
    assert Histogram.log2_of([value]).buckets[-1] == (*bounds, 1)


@given(values)
def test_numbers_are_counted_as_a_program_counts_them(numbers: list[int]) -> None:
    counted: dict[int, int] = {}
    for number in numbers:
        slot = max(1, number.bit_length())
        counted[slot] = counted.get(slot, 0) + 1
    histogram = Histogram.log2_of(numbers)
    assert histogram == Histogram.log2(counted) == Histogram.log2(list(counted.items()))
    assert histogram == Histogram.log2({slot - 1: n for slot, n in counted.items()}, first=0)
    assert histogram.count == len(numbers)
    for number in numbers:
        assert sum(low <= number <= high for low, high, _ in histogram.buckets) == 1


def test_buckets_go_from_the_first_to_the_last_that_is_not_empty() -> None:
    assert Histogram.log2({4: 2}).buckets == ((0, 1, 0), (2, 3, 0), (4, 7, 0), (8, 15, 2))
    assert Histogram.linear({2: 5, 3: 0}, step=10).buckets == ((0, 9, 0), (10, 19, 0), (20, 29, 5))
    assert Histogram.linear_of([0, 9, 10, 25.5], step=10).buckets == ((0, 9, 2), (10, 19, 1), (20, 29, 1))
    assert Histogram.linear_of([1024]).buckets[-1] == (1024, 1024, 1)


def test_a_slot_before_the_first_is_the_value_zero() -> None:
    histogram = Histogram.log2({0: 3, 1: 4})
    assert histogram.buckets == ((0, 0, 3), (0, 1, 4))
    assert histogram.count == 7


def test_kind_and_step_tell_what_the_buckets_are() -> None:
    log2, linear = Histogram.log2({}), Histogram.linear({}, step=5)
    assert (log2.kind, log2.step, linear.kind, linear.step) == ("log2", None, "linear", 5)
    assert (repr(log2), repr(linear)) == ("<Histogram log2: 0 counted>", "<Histogram linear by 5: 0 counted>")
    assert repr(Histogram.log2({("a", 1): 2, ("b", 1): 1})) == "<Histogram log2: 3 counted in 2 sections>"


# Sources ---------------------------------------------------------------------------

KEY = codec_for({"comm": "char[16]", "slot": "u32"}, name="key")
WIDE_KEY = codec_for({"slot": "u32", "uid": "u32", "comm": "char[16]"}, name="wide")
VALUE = codec_for({"count": "u64", "last_ns": "u64"}, name="value")


class Pair(NamedTuple):
    first: int
    last: int


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({1: 5, 3: 2}, id="dict"),
        pytest.param([(1, 5), (3, 2)], id="pairs"),
        pytest.param([[1, 5], [3, 2]], id="lists"),
        pytest.param(iter([(3, 1), (1, 5), (3, 1)]), id="repeated"),
        pytest.param(enumerate([0, 5, 0, 2]), id="enumerate"),
        pytest.param({1: PerCpu([2, 3]), 3: PerCpu([0, 2])}, id="per-cpu"),
        pytest.param({1: 5, 2: 0, 3: 2, 65: 0, -1: 0}, id="zero"),
    ],
)
def test_slots_and_counts_come_from_what_has_them(source: Any) -> None:
    assert Histogram.log2(source).buckets == ((0, 1, 5), (2, 3, 0), (4, 7, 2))


def test_a_field_of_a_struct_is_the_count() -> None:
    one, other = VALUE(count=3, last_ns=10**18), VALUE(count=4, last_ns=1)
    assert Histogram.log2({2: one}, field="count").buckets[-1] == (2, 3, 3)
    assert Histogram.log2({2: PerCpu([one, other])}, field="count").buckets[-1] == (2, 3, 7)


def test_sections_are_made_by_the_other_fields_of_the_key() -> None:
    histogram = Histogram.log2({KEY("sh", 1): 5, KEY("cat", 2): 6, KEY("sh", 3): 7, KEY("rm", 3): 0})
    assert list(histogram.sections) == ["cat", "sh"]
    assert histogram.sections["sh"] == Histogram.log2({1: 5, 3: 7})
    assert histogram.sections["sh"].sections == {}
    assert histogram == Histogram.log2([(("sh", 1), 5), (("cat", 2), 6), (("sh", 3), 7)])
    assert histogram.buckets == ((0, 1, 5), (2, 3, 6), (4, 7, 7))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        pytest.param(None, {(0, "sh"): 1, (0, "rm"): 4, (7, "sh"): 2}, id="all-others"),
        pytest.param("comm", {"sh": 3, "rm": 4}, id="one"),
        pytest.param(("comm", "uid"), {("sh", 0): 1, ("rm", 0): 4, ("sh", 7): 2}, id="two-in-another-order"),
        pytest.param((), {}, id="none"),
    ],
)
def test_the_fields_of_the_sections_can_be_chosen(section: Any, expected: dict[Any, int]) -> None:
    elements = {WIDE_KEY(1, 0, "sh"): 1, WIDE_KEY(1, 7, "sh"): 2, WIDE_KEY(2, 0, "rm"): 4}
    histogram = Histogram.log2(elements, section=section)
    assert {key: one.count for key, one in histogram.sections.items()} == expected
    assert histogram.count == 7


def test_the_slot_is_the_field_of_that_name_or_the_last_or_the_one_that_is_told() -> None:
    assert Histogram.log2({WIDE_KEY(2, 0, "sh"): 1}).buckets[-1] == (2, 3, 1)
    assert list(Histogram.log2({Pair(7, 2): 1}).sections) == [7]
    assert list(Histogram.log2({Pair(7, 2): 1}, slot="first").sections) == [2]
    assert Histogram.log2({("a", "b", 2): 1}, section=()).sections == {}
    assert list(Histogram.log2({("a", "b", 2): 1}).sections) == [("a", "b")]


class Inner(ctypes.Union):
    _fields_ = (("disk", ctypes.c_uint32), ("major", ctypes.c_uint16))


class Outer(ctypes.Structure):
    _anonymous_ = ("inner",)
    _fields_ = (("inner", Inner), ("slot", ctypes.c_uint32))


def test_a_member_of_an_anonymous_union_makes_sections_as_any_field() -> None:
    key = codec_for(Outer)
    elements = {key.unpack(bytes([1, 0, disk, 0, 2, 0, 0, 0])): 1 for disk in range(3)}
    assert list(Histogram.log2(elements, section="disk").sections) == [0x1, 0x10001, 0x20001]
    assert Histogram.log2(elements, section="major").sections[1].count == 3


def test_sections_that_cannot_be_sorted_stay_in_their_order() -> None:
    addresses = [ipaddress.ip_address("::1"), ipaddress.ip_address("127.0.0.1")]
    histogram = Histogram.log2({(address, 1): 1 for address in addresses})
    assert list(histogram.sections) == addresses


def test_padding_of_a_key_makes_no_section_of_its_own() -> None:
    key = codec_for({"who": "u8", "slot": "u32"})
    elements = {key.unpack(b"\1\xff\xff\xff\2\0\0\0"): 1, key.unpack(b"\1\0\0\0\2\0\0\0"): 2}
    assert len(elements) == 2
    assert Histogram.log2(elements).sections[1].count == 3


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ({-1: 1}, {}, ValueError, "slot -1 is negative"),
    ({65: 1}, {}, ValueError, "slot 65: a log2 histogram ends with 64"),
    ({64: 1}, {"first": 0}, ValueError, "slot 64: a log2 histogram ends with 63"),
    ({1: -1}, {}, ValueError, "count of slot 1 is negative: -1"),
    ({"a": 1}, {}, TypeError, "slot: expected an int, got 'a' (str)"),
    ({1.0: 1}, {}, TypeError, "slot: expected an int, got 1.0 (float)"),
    ({b"\1\0\0\0": 1}, {}, TypeError, "a map without BTF gives bytes: pass pairs"),
    ({1: 1.5}, {}, TypeError, "count of slot 1: expected an int, got 1.5 (float)"),
    ({1: VALUE(1, 2)}, {}, TypeError, "the values are structs: field= says which of count, last_ns is the count"),
    ({1: VALUE(1, 2)}, {"field": "calls"}, ValueError, "the values have no field 'calls': there are count, last_ns"),
    ({1: 1}, {"field": "count"}, ValueError, "field='count': the values are no structs, got 1"),
    ({1: (1, 2)}, {}, TypeError, "count of slot 1: expected an int, got (1, 2) (tuple)"),
    ({KEY("a", 1): 1}, {"section": "uid"}, ValueError, "the keys have no field 'uid': there are comm, slot"),
    ({KEY("a", 1): 1}, {"section": ["comm", "index"]}, ValueError, "the keys have no field 'index'"),
    ({KEY("a", 1): 1}, {"slot": "count"}, ValueError, "the keys have no field 'count': there are comm, slot"),
    ({KEY("a", 1): 1}, {"slot": "comm"}, TypeError, "slot: expected an int, got 'a' (str)"),
    ({1: 1}, {"section": "comm"}, ValueError, "section=('comm',): the keys are no structs, got 1"),
    ({1: 1}, {"slot": "comm"}, ValueError, "slot='comm': the keys are no structs, got 1"),
    ({("a", 1): 1}, {"section": "comm"}, ValueError, "the fields of ('a', 1) have no names"),
    ({(): 1}, {}, ValueError, "expected (..., slot), got ()"),
    ([(1, 1), (("a", 1), 1)], {}, TypeError, "some are a slot, others a slot and more"),
    ([1, 2], {}, TypeError, "expected pairs of slot and count, got 1; enumerate() makes them"),
    (5, {}, TypeError, "expected a map, a mapping, or pairs of slot and count, got 5"),
    ({}, {"first": 2}, ValueError, "first: expected 1 as bpf_log2l() has it, or 0, got 2"),
]


@pytest.mark.parametrize(
    ("source", "options", "error", "message"), REFUSED, ids=[f"{row[0]}-{row[1]}" for row in REFUSED]
)
def test_what_is_no_slot_and_no_count_is_refused(
    source: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        Histogram.log2(source, **options)
    assert message in str(caught.value)


def test_what_has_no_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="slot 1025: a linear histogram ends with 1024: greater steps"):
        Histogram.linear({1025: 1})
    with pytest.raises(ValueError, match="value 10250: this linear histogram ends with 10249: greater steps"):
        Histogram.linear_of([10250], step=10)
    with pytest.raises(
        ValueError, match="value 18446744073709551616: this log2 histogram ends with 18446744073709551615"
    ):
        Histogram.log2_of([2**64])
    for negative in (-1, -0.5):
        with pytest.raises(ValueError, match=f"value {negative} is negative"):
            Histogram.log2_of([negative])
    with pytest.raises(ValueError, match="NaN"):
        Histogram.log2_of([float("nan")])
    with pytest.raises(OverflowError):
        Histogram.log2_of([float("inf")])
    text: Any = ["12"]
    with pytest.raises(TypeError, match="value: expected an int, got '12'"):
        Histogram.log2_of(text)


@pytest.mark.parametrize(("step", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_step_is_a_whole_number_from_one_on(step: Any, error: type[Exception]) -> None:
    for make in (Histogram.linear, Histogram.linear_of):
        with pytest.raises(error, match="step: expected"):
            make([], step=step)


def test_it_is_made_by_its_constructors_only() -> None:
    with pytest.raises(TypeError, match=r"made by log2\(\), linear\(\)"):
        Histogram()


# Numbers ---------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1024), min_size=1), st.integers(0, 100))
def test_a_percentile_is_the_nearest_rank(numbers: list[int], p: int) -> None:
    rank = max(1, -(-len(numbers) * p // 100))
    expected = sorted(numbers)[rank - 1]
    assert Histogram.linear_of(numbers).percentile(p) == (expected, expected)
    low, high = Histogram.log2_of(numbers).percentile(p)
    assert low <= expected <= high


@given(slots.filter(lambda counts: any(counts.values())), st.floats(0, 100))
def test_a_percentile_is_where_that_share_of_the_counts_ends(counts: dict[int, int], p: float) -> None:
    histogram = Histogram.log2(counts)
    below = [sum(counts[slot] for slot in counts if slot < bound) for bound in range(66)]
    low, high = histogram.percentile(p)
    bucket = (high + 1).bit_length() - 1
    tolerance = histogram.count / 2**50
    assert low <= high
    assert counts[bucket]
    assert below[bucket] <= Fraction(p) * histogram.count / 100 + tolerance
    assert below[bucket + 1] >= Fraction(p) * histogram.count / 100 - tolerance
    assert histogram.percentile(100)[1] == histogram.buckets[-1][1]


@pytest.mark.parametrize("p", [-1, 100.5, float("nan")])
def test_a_percentile_is_of_0_to_100(p: float) -> None:
    with pytest.raises(ValueError, match="percentile: expected 0 to 100"):
        Histogram.linear_of([1]).percentile(p)


def test_total_and_mean_take_the_middle_of_each_bucket() -> None:
    linear = Histogram.linear_of([1, 2, 2, 5])
    assert (linear.total, linear.mean) == (10, 2.5)
    assert Histogram.linear({0: 1, 1: 3}, step=10).total == 4.5 + 3 * 14.5
    assert Histogram.log2({1: 2, 4: 2}).mean == (2 * 0.5 + 2 * 11.5) / 4


def test_an_empty_histogram_says_so() -> None:
    for empty in (Histogram.log2({}), Histogram.linear(enumerate([0, 0])), Histogram.log2_of([])):
        assert (empty.count, empty.total, empty.buckets, empty.sections) == (0, 0, (), {})
        assert str(empty) == "nothing was counted"
        with pytest.raises(ValueError, match="nothing was counted"):
            empty.percentile(50)
        with pytest.raises(ValueError, match="nothing was counted"):
            _ = empty.mean


# Algebra ---------------------------------------------------------------------------


@given(values, values)
def test_what_is_added_can_be_subtracted(one: list[int], other: list[int]) -> None:
    for make in (Histogram.log2_of, lambda numbers: Histogram.linear_of([n % 1000 for n in numbers])):
        both = make(one + other)
        assert both == make(one) + make(other)
        assert both - make(one) == make(other)
        assert hash(both) == hash(make(other) + make(one))


def test_sections_are_added_and_subtracted_one_by_one() -> None:
    before = Histogram.log2({KEY("sh", 1): 5, KEY("rm", 2): 1})
    after = Histogram.log2({KEY("sh", 1): 7, KEY("rm", 2): 1, KEY("cat", 3): 2})
    between = after - before
    assert between == Histogram.log2({KEY("sh", 1): 2, KEY("cat", 3): 2})
    assert list(between.sections) == ["cat", "sh"]
    assert before + between == after
    assert before != Histogram.log2({("a", 1): 5, ("b", 2): 1})
    assert after - after == Histogram.log2({})


def test_an_empty_one_goes_with_and_without_sections() -> None:
    nothing, some = Histogram.log2({}), Histogram.log2({KEY("sh", 1): 5})
    assert nothing + some == some + nothing == some - nothing == some
    assert (nothing + some).text(label="comm") == (nothing + some).text() == some.text()


def test_what_does_not_match_is_neither_added_nor_equal() -> None:
    log2, linear, by_two = Histogram.log2_of([1]), Histogram.linear_of([1]), Histogram.linear_of([1], step=2)
    for one, other in ((log2, linear), (linear, by_two), (by_two, log2)):
        assert one != other
        with pytest.raises(ValueError, match="their buckets do not match"):
            one + other
    with pytest.raises(ValueError, match="one has sections and the other has none"):
        log2 + Histogram.log2({KEY("sh", 1): 5})
    number: Any = 1
    with pytest.raises(TypeError):
        log2 + number
    assert log2 != number


def test_an_earlier_one_that_has_more_is_refused() -> None:
    with pytest.raises(ValueError, match="the earlier histogram has more: is it of the same map"):
        Histogram.log2({1: 1}) - Histogram.log2({1: 2})
    with pytest.raises(ValueError, match="section 'sh': the earlier histogram has more"):
        Histogram.log2({("rm", 1): 5}) - Histogram.log2({("sh", 1): 2})


def test_it_cannot_be_changed_and_can_be_kept() -> None:
    counts = {("sh", 1): 5}
    histogram = Histogram.log2(counts)
    counts["sh", 1] = 6
    assert histogram.count == 5
    sections: Any = histogram.sections
    with pytest.raises(TypeError):
        sections["rm"] = histogram
    changed: Any = histogram
    for name in ("count", "buckets", "other"):
        with pytest.raises(AttributeError):
            setattr(changed, name, 1)
    assert pickle.loads(pickle.dumps(histogram)) == histogram == copy.deepcopy(histogram)
    assert {histogram: 1}[Histogram.log2({("sh", 1): 5})] == 1


# Text ------------------------------------------------------------------------------

NARROW = """\
     usecs               : count     distribution
         0 -> 1          : 1        |****                                    |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 10       |****************************************|
         8 -> 15         : 5        |********************                    |"""
WIDE = """\
               ns                            : count     distribution
                   0 -> 1                    : 3        |********************|"""
WIDE_LAST = "          4294967296 -> 8589934591           : 1        |******              |"
LINEAR = """\
     value         : count     distribution
        0          : 0        |                                        |
        1          : 3        |****************************************|
        2          : 1        |*************                           |"""
SECTIONS = """\

comm = cat
     usecs               : count     distribution
         0 -> 1          : 0        |                                        |
         2 -> 3          : 6        |****************************************|

comm = sh
     usecs               : count     distribution
         0 -> 1          : 5        |****************************************|"""


def test_it_is_drawn_in_the_known_layout() -> None:
    assert Histogram.log2({1: 1, 3: 10, 4: 5}).text("usecs") == NARROW
    wide = Histogram.log2({1: 3, 33: 1}).text("ns").splitlines()
    assert "\n".join(wide[:2]) == WIDE
    assert wide[-1] == WIDE_LAST
    assert str(Histogram.linear({1: 3, 2: 1})) == LINEAR
    sections = Histogram.log2({KEY("sh", 1): 5, KEY("cat", 2): 6})
    assert sections.text("usecs") == SECTIONS
    assert str(sections) == SECTIONS.replace("usecs", "value")


def test_the_wide_layout_begins_beyond_32_bits() -> None:
    assert len(Histogram.log2({32: 1}).text().splitlines()[-1]) == len(NARROW.splitlines()[-1])
    assert len(Histogram.log2({33: 1}).text().splitlines()[-1]) == len(WIDE_LAST)


def test_a_step_is_shown_by_the_least_value_of_each_bucket() -> None:
    rows = Histogram.linear({1: 3, 2: 1}, step=50).text().splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["0", "50", "100"]


def test_the_value_zero_alone_has_a_row_where_a_program_counts_it() -> None:
    assert [row.split(" :")[0].strip() for row in str(Histogram.log2({0: 1, 2: 1})).splitlines()[1:]] == [
        "0 -> 0",
        "0 -> 1",
        "2 -> 3",
    ]


def test_leading_empty_rows_can_be_left_out() -> None:
    rows = Histogram.log2({3: 1, 5: 1}).text(strip_leading_zero=True).splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["4", "8", "16"]


def test_a_bar_beyond_the_full_one_ends_with_a_plus() -> None:
    rows = Histogram.linear({0: 10, 1: 20, 2: 21, 3: 200}).text(full=20).splitlines()[1:]
    assert [row.partition("|")[2].rstrip("| ") for row in rows] == ["*" * 20, "*" * 40, "*" * 39 + "+", "*" * 39 + "+"]
    for full in (0, -1):
        with pytest.raises(ValueError, match="full: expected a count of 1 or more"):
            Histogram.log2_of([1]).text(full=full)


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if " = " in line]


def test_headings_can_be_worded_sorted_and_chosen() -> None:
    histogram = Histogram.log2({WIDE_KEY(1, 0, "sh"): 1, WIDE_KEY(1, 7, "sh"): 2, WIDE_KEY(2, 0, "rm"): 4})
    assert headings(str(histogram)) == ["uid, comm = 0, rm", "uid, comm = 0, sh", "uid, comm = 7, sh"]

    def busiest(sections: Mapping[Any, Histogram]) -> list[Any]:
        return sorted(sections, key=lambda key: -sections[key].count)[:2]

    text = histogram.text(label="who", describe=lambda key: f"{key[1]} of {key[0]}", sort=busiest)
    assert headings(text) == ["who = rm of 0", "who = sh of 7"]


class Colour(IntEnum):
    RED = 1


def test_a_heading_says_what_a_section_is_and_obeys_nothing() -> None:
    sections = {(Colour.RED, 1): 1, (b"\1\2", 1): 1, (KEY("sh", 3), 1): 1, ("\x1b[2J\n\udcff", 1): 1}
    shown = headings(Histogram.log2(sections).text(label="x"))
    assert shown == ["x = RED", "x = 0102", "x = sh, 3", r"x = \x1b[2J\n\udcff"]


def test_the_name_is_public() -> None:
    assert rawbpf.Histogram is Histogram
