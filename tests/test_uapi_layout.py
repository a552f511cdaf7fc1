"""A layout fills a C struct in and reads it back, and says which field was wrong."""

from __future__ import annotations

import sys

import pytest

from rawbpf.uapi.attr import ATTR_SIZE, LAYOUTS, LINK_CREATE, MAP_CREATE, PROG_LOAD
from rawbpf.uapi.info import MAP_INFO
from rawbpf.uapi.layout import Layout
from rawbpf.uapi.perf import PERF_EVENT_ATTR, flag_word, perf_event_attr


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_every_field_reads_back_as_it_was_packed(layout: Layout) -> None:
    for field, _, form in layout.fields:
        value = b"x" * int(form[:-1]) if form.endswith("s") else (-1 if form.islower() else 0x7F)
        attr = layout.pack(**{field: value})
        assert layout.get(attr, field) == value
        assert len(attr) == ATTR_SIZE
        assert sum(map(bool, attr.raw)) <= layout.end(field)


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        pytest.param({"map_typ": 1}, TypeError, "map_create has no field 'map_typ'; it has map_type", id="unknown"),
        pytest.param({"map_type": b"hash"}, TypeError, "map_create.map_type takes an int", id="bytes for a number"),
        pytest.param({"map_name": 1}, TypeError, "map_create.map_name takes bytes", id="a number for a name"),
        pytest.param(
            {"map_type": 1 << 32}, OverflowError, "map_create.map_type: 4294967296 does not fit 4", id="too large"
        ),
        pytest.param({"map_extra": 1 << 64}, OverflowError, "map_create.map_extra", id="larger than 64 bits"),
        pytest.param({"map_type": -1}, OverflowError, "map_create.map_type: -1", id="negative"),
    ],
)
def test_a_wrong_value_names_its_field(values: dict[str, int | bytes], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        MAP_CREATE.pack(**values)


def test_the_size_that_is_used_ends_with_the_last_field_that_is_not_zero() -> None:
    assert MAP_CREATE.used({"map_type": 1, "btf_fd": 0, "map_name": bytes(16)}) == MAP_CREATE.end("max_entries")
    assert MAP_CREATE.used({"map_type": 1, "map_name": b"a"}) == MAP_CREATE.end("map_name")
    assert PROG_LOAD.used({"fd_array_cnt": 1}) == PROG_LOAD.end("fd_array_cnt")


def test_fields_of_a_named_inner_struct_carry_its_name() -> None:
    attr = LINK_CREATE.pack(flags=1, kprobe_multi_flags=2)
    assert (LINK_CREATE.integer(attr, "flags"), LINK_CREATE.integer(attr, "kprobe_multi_flags")) == (1, 2)


def test_what_an_older_kernel_did_not_fill_in_reads_as_zero() -> None:
    short = MAP_INFO.pack(id=7, map_extra=9).raw[: MAP_INFO.end("name")]
    assert MAP_INFO.integer(short, "id") == 7
    assert MAP_INFO.integer(short, "map_extra") == 0
    assert MAP_INFO.unpack(short)["map_extra"] == 0
    assert MAP_INFO.unpack(short)["name"] == bytes(16)


def test_a_name_is_no_integer() -> None:
    with pytest.raises(TypeError, match=r"bpf_map_info\.name is a name"):
        MAP_INFO.integer(bytes(MAP_INFO.size), "name")


@pytest.mark.guest_byte_order
def test_a_perf_event_attr_is_as_short_as_its_values_allow_and_knows_its_size() -> None:
    short = perf_event_attr(type=1, config=10, flags=flag_word(disabled=1))
    assert len(short) == 64
    assert PERF_EVENT_ATTR.integer(short, "size") == 64
    assert len(perf_event_attr(type=1, config2=1)) == 72


@pytest.mark.parametrize(
    ("bits", "kind"),
    [({"enabled": 1}, TypeError), ({"precise_ip": 4}, OverflowError), ({"disabled": 2}, OverflowError)],
)
def test_wrong_bit_fields_of_a_perf_event_are_refused(bits: dict[str, int], kind: type[Exception]) -> None:
    with pytest.raises(kind, match="perf_event_attr"):
        flag_word(sys.byteorder, **bits)
