"""A struct's name is enough to read records: it is looked up in what the map came from, and what is missing is told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from support.bpffs import bpffs
from support.objects import native

import rawbpf
from rawbpf.codec.structure import StructCodec
from rawbpf.errors import Closed, SpecError
from rawbpf.loader.types import ObjectTypes

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.guest_byte_order, pytest.mark.needs("module:elftools", "map_type:ringbuf")]

EVENTS = native("events")
BUILT_IN = (
    "; names that need no object are u8, u16, u32, u64, s8, s16, s32, s64, be16, be32, be64, f32, f64, bool, char[N], "
    "ipv4, ipv6, mac, bpf_spin_lock, bpf_timer, bpf_wq and T[N]"
)
LINE = "struct {0} *unused_{0} __attribute__((unused));"


def fields(codec: object) -> list[str]:
    assert isinstance(codec, StructCodec)
    return [field.name for field in codec.fields]


def from_memory() -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_bytes(EVENTS.read_bytes(), name="memory")


def from_a_view() -> rawbpf.ObjectSpec:
    content = bytearray(EVENTS.read_bytes())
    with memoryview(content) as view:
        spec = rawbpf.ObjectSpec.from_bytes(view)  # type: ignore[arg-type]  # whatever has bytes is taken
    content[:] = bytes(len(content))
    return spec


def pickled() -> rawbpf.ObjectSpec:
    spec: rawbpf.ObjectSpec = pickle.loads(pickle.dumps(rawbpf.ObjectSpec.from_file(EVENTS)))
    return spec


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: rawbpf.ObjectSpec.from_file(EVENTS), id="file"),
        pytest.param(from_memory, id="bytes"),
        pytest.param(from_a_view, id="view"),
        pytest.param(pickled, id="pickled"),
        pytest.param(lambda: rawbpf.ObjectSpec.from_file(EVENTS).copy(), id="copied"),
    ],
)
def test_a_struct_is_found_in_the_types_of_the_object(backend: Backend, make: Callable[[], rawbpf.ObjectSpec]) -> None:
    spec = make()
    with spec.load() as obj:
        del spec
        events = obj.maps["events"]
        assert fields(events._struct("header")) == ["kind", "cpu"]  # in BTF
        started = events._struct("started")  # in DWARF alone
        assert (started.size, fields(started)[:3]) == (128, ["header", "when", "comm"])
        assert fields(events._struct("ended")) == ["header", "code"]  # a typedef
        assert events._struct("struct started").size == events._struct("struct  started").size == 128  # as C has it
        assert events._struct("enum kind").size == 4
        assert events._struct("kind").unpack(b"\x02\0\0\0" if EVENTS.name.endswith("bpf.o") else b"\0\0\0\x02") == 2
        assert events._struct("__u32").size == 4


def test_a_view_a_duplicate_and_a_map_taken_out_of_the_object_know_the_types(backend: Backend) -> None:
    with rawbpf.load(EVENTS) as obj:
        taken = obj.take("events")
    with taken, taken.dup() as other:
        for each in (taken, taken.raw, other, other.raw):
            assert each._struct("started").size == 128


def test_a_map_that_stands_in_for_the_objects_own_knows_the_types_there_only(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(EVENTS)
    with rawbpf.RingBufMap.create(max_entries=4096) as mine, spec.load(only=[], maps={"events": mine}) as obj:
        assert obj.maps["events"]._struct("started").size == 128
        with pytest.raises(SpecError, match="no 'started'"):
            mine._struct("started")


def test_a_map_found_under_its_pin_knows_the_types_of_the_object_that_looked(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(EVENTS)
    spec.maps["events"].pinning = 1
    with bpffs(backend) as path, spec.load(only=[], pin_dir=path), spec.load(only=[], pin_dir=path) as second:
        assert second.maps["events"]._struct("started").size == 128


def test_a_map_opened_by_its_id_is_asked_for_its_own_types(backend: Backend) -> None:
    with rawbpf.ObjectSpec.from_file(EVENTS).load(only=[]) as obj:
        with rawbpf.Map.from_id(obj.maps["headers"].id) as headers:
            assert fields(headers._struct("header")) == ["kind", "cpu"]
        with (
            rawbpf.Map.from_id(obj.maps["events"].id) as events,
            pytest.raises(SpecError, match="describe its records"),
        ):
            events._struct("header")  # a ring carries none


def test_a_ring_opened_by_its_id_has_the_types_of_the_programs_that_use_it(backend: Backend) -> None:
    with rawbpf.load(EVENTS) as obj, rawbpf.Map.from_id(obj.maps["events"].id) as events:
        assert fields(events._struct("header")) == ["kind", "cpu"]
        with pytest.raises(SpecError, match=r"no struct, .* is called 'heder' in its own .*; there is 'header'\. For"):
            events._struct("heder")


@pytest.mark.parametrize(
    ("name", "close"),
    [
        pytest.param("stated", "; there is 'started'", id="near"),
        pytest.param("Started", "; there is 'started'", id="case"),
        pytest.param("nothing_like_it", BUILT_IN, id="nowhere-near"),
        pytest.param("events", BUILT_IN, id="a-map"),
        pytest.param("tell", BUILT_IN, id="a-program"),
        pytest.param("u65", BUILT_IN, id="near-a-name-of-the-librarys-own"),
        pytest.param("_u32", f"; there is '__u32', '__s32'{BUILT_IN}", id="near-names-of-both"),
    ],
)
def test_what_is_not_found_is_told_with_near_names_and_the_line_that_keeps_it(
    backend: Backend, name: str, close: str
) -> None:
    with rawbpf.load(EVENTS) as obj, pytest.raises(SpecError) as error:
        obj.maps["events"]._struct(name)
    assert str(error.value) == (
        f"map 'events' (ringbuf): no struct, union, typedef, enum or number is called {name!r} in {EVENTS.name}{close}"
        f". For a struct that only the inside of a function uses, write outside of it: {LINE.format(name)}"
    )


@pytest.mark.parametrize(
    ("name", "because"),
    [
        pytest.param("union started", "no union is called 'started' in {}: 'started' is a struct there", id="struct"),
        pytest.param("struct kind", "no struct is called 'kind' in {}: 'kind' is an enum there", id="enum"),
        pytest.param("struct ended", "no struct is called 'ended' in {}: 'ended' is a typedef there", id="typedef"),
        pytest.param("enum header", "no enum is called 'header' in {}: 'header' is a struct there", id="struct-in-BTF"),
    ],
)
def test_a_word_before_the_name_finds_that_kind_alone(backend: Backend, name: str, because: str) -> None:
    with rawbpf.load(EVENTS) as obj, pytest.raises(SpecError) as error:
        obj.maps["events"]._struct(name)
    assert str(error.value) == f"map 'events' (ringbuf): {because.format(EVENTS.name)}"


def test_the_line_that_keeps_a_type_has_the_word_that_was_given(backend: Backend) -> None:
    with (
        rawbpf.load(EVENTS) as obj,
        pytest.raises(SpecError, match=r"no union is called 'word' .*: union word \*unused"),
    ):
        obj.maps["events"]._struct("union word")


@pytest.mark.parametrize("name", [" started", "started ", " struct started", " u32", "\n", " " * 5000])
def test_names_with_spaces_around_them_are_refused(backend: Backend, name: str) -> None:
    with rawbpf.load(EVENTS) as obj:
        events = obj.maps["events"]
        assert isinstance(events, rawbpf.RingBufMap)
        for types, tag in ((name, None), ({1: name}, "kind")):
            with pytest.raises(ValueError, match="expected the name of a type, without spaces around it") as error:
                events.reader(types, tag=tag)
            assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", ["x" * 5000, "struct " + "x" * 5000, "x y" * 5000, "u8[" * 5000])
def test_a_very_long_name_is_not_repeated(backend: Backend, name: str) -> None:
    with rawbpf.load(EVENTS) as obj, rawbpf.RingBufMap.create(max_entries=4096) as ring:
        for each in (obj.maps["events"], ring):
            assert isinstance(each, rawbpf.RingBufMap)
            with pytest.raises(SpecError) as error:
                each.reader(name)
            assert len(str(error.value)) < 500


def test_no_line_is_given_for_what_is_no_name_in_c(backend: Backend) -> None:
    with (
        rawbpf.load(EVENTS) as obj,
        pytest.raises(SpecError, match=r"is called 'two words' in events\.\w+\.o; names [^*]*$"),
    ):
        obj.maps["events"]._struct("two words")


def test_a_closed_map_says_so(backend: Backend) -> None:
    events = rawbpf.RingBufMap.create(max_entries=4096)
    events.close()
    with pytest.raises(Closed):
        events._struct("event")


def test_only_what_lookups_need_is_kept(backend: Backend) -> None:
    content = EVENTS.read_bytes()
    spec = rawbpf.ObjectSpec.from_bytes(content)
    assert spec._content.file is content  # and no copy of it
    with spec.load() as obj:
        assert obj.maps["headers"]._types is None
    stripped = rawbpf.ObjectSpec.from_file(native("exec_details"))
    assert ObjectTypes(spec._content)._file is content
    assert ObjectTypes(stripped._content)._file == b""  # nothing to look up in


@pytest.mark.real_kernel("programs run there only")
def test_records_of_a_program_are_told_apart_by_the_names_of_its_structs_and_enumerators(backend: Backend) -> None:
    types = {"STARTED": "started", "ENDED": "ended"}
    with rawbpf.load(EVENTS) as obj, obj.maps["events"].reader(types, tag="header.kind") as reader:
        obj.programs["tell"].run(data=bytes(64))
        started, ended = reader.drain()
    assert (started.header.kind.name, ended.header.kind.name) == ("STARTED", "ENDED")
    assert (started.when, started.comm, started.small, started.known) == (12345678901, "a", -2, True)
    assert (started.mac, started.port) == (bytes(5) + b"\6", 80)
    assert (started.low, started.middle, started.high, started.far) == (5, 0xABCDE, -3, 0x123456789A)
    assert (started.packed.number, started.grid[1][2], started.y, started.either.halves.second) == (9, -7, 8, 0x1234)
    assert (started.wide.name, started.door.name) == ("LARGE", "OPEN")
    assert (ended.header.cpu, ended.code) == (3, -1)
