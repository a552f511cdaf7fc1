"""Maps as tables: what columns are called and mean, how rows are ordered, what CPUs come to. No kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.cli.leaf import COUNT, KTIME, NUMBER, OTHER, PID, SIGNAL, UID, heading_of, kind_of, leaves
from rawbpf.cli.table import Layout, is_zero, shares
from rawbpf.codec import Codec, PerCpu, PerCpuCodec, codec_for

if TYPE_CHECKING:
    from collections.abc import Callable


def codec_of(make: Callable[[Builder], int]) -> Codec[object]:
    builder = Builder()
    number = make(builder)
    return codec_for(Btf.from_bytes(builder.to_bytes())[number])


def typedef(*names: str, size: int = 8) -> Codec[object]:
    """Return the codec of an unsigned integer behind typedefs, the outermost first."""

    def make(builder: Builder) -> int:
        number = builder.int("unsigned", size)
        for name in reversed(names):
            number = builder.typedef(name, number)
        return number

    return codec_of(make)


def details(builder: Builder) -> int:
    u64 = builder.int("unsigned long long", 8)
    count, ktime = builder.typedef("count_t", u64), builder.typedef("ktime_ns", u64)
    comm = builder.array(builder.int("char", 1, signed=True), 16)
    return builder.struct("details", 32, [("count", count, 0, 0), ("last_ns", ktime, 64, 0), ("comm", comm, 128, 0)])


@pytest.mark.parametrize(
    ("names", "heading", "kind"),
    [
        pytest.param(("uid_t", "__u32"), "uid", UID, id="uid"),
        pytest.param(("count_t", "__u64"), "count", COUNT, id="count"),
        pytest.param(("last_seen_t", "ktime_ns", "__u64"), "last_seen", KTIME, id="meaning-inside"),
        pytest.param(("signal_t", "__u32"), "signal", SIGNAL, id="signal"),
        pytest.param(("pid_t", "__kernel_pid_t"), "pid", PID, id="pid"),
        pytest.param(("volume", "__u64"), "volume", NUMBER, id="own-name"),
        pytest.param(("__u64",), "", NUMBER, id="width-only"),
        pytest.param(("u32", "__u32"), "", NUMBER, id="two-widths"),
        pytest.param(("uint64_t", "__uint64_t"), "", NUMBER, id="stdint"),
        pytest.param(("size_t",), "", NUMBER, id="size"),
        pytest.param((), "", NUMBER, id="no-typedef"),
    ],
)
def test_a_typedef_says_what_a_number_is_called_and_means(names: tuple[str, ...], heading: str, kind: str) -> None:
    codec = typedef(*names)
    assert (heading_of(codec), kind_of(codec)) == (heading, kind)


def test_what_has_no_name_is_headed_by_its_place() -> None:
    assert [leaf.heading for leaf in leaves(codec_for("u32"), "key")] == ["key"]


def test_a_struct_has_a_column_for_each_field_also_of_structs_inside() -> None:
    codec = codec_for({"pos": {"x": "u32", "y": "u32"}, "name": "char[8]", "seen": "bool"})
    found = leaves(codec, "value")
    assert [(leaf.heading, leaf.kind) for leaf in found] == [
        ("pos.x", NUMBER),
        ("pos.y", NUMBER),
        ("name", OTHER),
        ("seen", OTHER),
    ]
    value = codec({"pos": {"x": 1, "y": 2}, "name": "n", "seen": True})
    assert [leaf.of(value) for leaf in found] == [1, 2, "n", True]


def test_an_enumeration_is_headed_by_its_tag_and_is_no_number() -> None:
    codec = codec_of(lambda builder: builder.enum("state", [("OFF", 0), ("ON", 1)]))
    assert [(leaf.heading, leaf.kind) for leaf in leaves(codec, "value")] == [("state", OTHER)]


def layout(key: Codec[object], value: Codec[object], *, is_array: bool = False) -> Layout:
    return Layout("m", key, value, words="hash", max_entries=8, is_array=is_array)


@pytest.mark.parametrize(
    ("value", "items", "keys"),
    [
        pytest.param(typedef("count_t"), [(1, 5), (2, 9), (3, 5)], [2, 1, 3], id="greatest-count-first"),
        pytest.param(typedef("ktime_ns"), [(1, 5), (2, 9)], [2, 1], id="latest-first"),
        pytest.param(codec_for("u64"), [(2, 1), (1, 5)], [1, 2], id="greatest-number-first"),
        pytest.param(codec_for("bool"), [(2, True), (1, False)], [1, 2], id="by-key-otherwise"),
        pytest.param(codec_for("char[4]"), [(2, "a"), (1, "b")], [1, 2], id="text-by-key"),
        pytest.param(codec_of(details), [(1, (1, 9, "a")), (2, (2, 1, "b"))], [2, 1], id="count-before-time"),
    ],
)
def test_rows_are_sorted_by_what_matters_most(
    value: Codec[object], items: list[tuple[object, object]], keys: list[object]
) -> None:
    assert [row.key for row in layout(codec_for("u32"), value).read(items).rows] == keys


def test_an_array_stays_in_order_unless_it_counts() -> None:
    items: list[tuple[object, object]] = [(1, 1), (0, 0), (2, 7)]
    plain = layout(codec_for("u32"), codec_for("u64"), is_array=True).read(items)
    counts = layout(codec_for("u32"), typedef("count_t"), is_array=True).read(items)
    assert [row.key for row in plain.rows] == [0, 1, 2]
    assert [row.key for row in counts.rows] == [2, 1, 0]


def test_elements_of_zeros_are_shown_of_hashes_and_of_arrays_of_one() -> None:
    zero: list[tuple[object, object]] = [(0, 0), (1, 0), (2, 3)]
    key, value = codec_for("u32"), codec_for("u64")
    assert len(layout(key, value).read(zero).shown) == 3
    assert [row.key for row in layout(key, value, is_array=True).read(zero).shown] == [2]
    assert len(layout(key, value, is_array=True).read(zero[:1]).shown) == 1


@pytest.mark.parametrize(
    ("keys", "ordered"),
    [
        pytest.param([b"\0b\0", "a"], ["a", b"\0b\0"][::-1], id="text-and-bytes"),
        pytest.param([(2, "a"), (1, "b")], [(1, "b"), (2, "a")], id="records"),
        pytest.param(["\udcff", "b"], ["b", "\udcff"], id="no-utf-8"),
    ],
)
def test_keys_of_any_kind_have_an_order(keys: list[object], ordered: list[object]) -> None:
    table = layout(codec_for("u32"), codec_for("bool")).read([(key, True) for key in keys])
    assert [row.key for row in table.rows] == ordered


def test_cpus_come_to_the_sum_of_numbers_the_latest_time_and_the_first_name() -> None:
    inner = codec_of(details)
    codec = PerCpuCodec(inner, 3)
    cpus = PerCpu([inner(0, 0, ""), inner(2, 50, "b"), inner(3, 40, "c")])
    (row,) = layout(codec_for("u32"), codec).read([(1, cpus)]).rows
    assert row.value == (5, 50, "b")
    assert row.cpus == cpus


@pytest.mark.parametrize(
    ("value", "cpus", "headings"),
    [
        pytest.param(typedef("count_t"), 2, ["key", "count", "cpu0", "cpu1"], id="one-number"),
        pytest.param(
            codec_for({"a": "u64", "b": "u64"}), 2, ["key", "a", "b", "a@0", "a@1", "b@0", "b@1"], id="two-numbers"
        ),
        pytest.param(typedef("count_t"), 9, ["key", "count"], id="too-many"),
        pytest.param(typedef("count_t"), 1, ["key", "count"], id="only-one"),
        pytest.param(codec_for("char[4]"), 2, ["key", "value"], id="no-number"),
    ],
)
def test_few_cpus_have_columns_of_their_own(value: Codec[object], cpus: int, headings: list[str]) -> None:
    codec: Codec[object] = PerCpuCodec(value, cpus)
    assert [column.heading for column in layout(codec_for("u32"), codec).columns] == headings


def test_a_column_of_a_cpu_shows_what_that_cpu_has() -> None:
    whole = layout(codec_for("u32"), PerCpuCodec(typedef("count_t"), 2))
    (row,) = whole.read([(7, PerCpu([3, 4]))]).rows
    assert [column.cell(row) for column in whole.columns] == [7, 7, 3, 4]


@pytest.mark.parametrize(
    ("needs", "room", "given"),
    [
        pytest.param([3, 4], 10, [3, 4], id="enough"),
        pytest.param([100, 2], 10, [8, 2], id="small-ones-are-whole"),
        pytest.param([100, 100], 10, [5, 5], id="halves"),
        pytest.param([5, 5], 0, [0, 0], id="nothing"),
        pytest.param([5, 5], -3, [0, 0], id="less-than-nothing"),
        pytest.param([], 5, [], id="no-tables"),
    ],
)
def test_room_is_shared_fairly(needs: list[int], room: int, given: list[int]) -> None:
    assert shares(needs, room) == given


@pytest.mark.parametrize("value", [0, False, 0.0, "", b"\0\0", (0, "", b"\0")], ids=repr)
def test_nothing_is_zero(value: object) -> None:
    assert is_zero(value)


@pytest.mark.parametrize("value", [1, True, "a", b"\0\1", (0, 0, 1)], ids=repr)
def test_something_is_not_zero(value: object) -> None:
    assert not is_zero(value)
