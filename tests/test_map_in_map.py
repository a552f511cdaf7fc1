"""Maps of maps: inner maps exchanged under running programs, and why one that is unlike the template is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import tracers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.errors import ENOTSUPP
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

DEADLINE = 10.0
NOTHING = 99
EMPTY = 98

OUTERS = [
    pytest.param("array_of_maps", id="array", marks=pytest.mark.needs("map_type:array_of_maps")),
    pytest.param("hash_of_maps", id="hash", marks=pytest.mark.needs("map_type:hash_of_maps")),
]
each = pytest.mark.parametrize("word", OUTERS)


# By types and options that are known only at run time.
create: Any = rawbpf.Map.create


def _outer(word: str, inner: rawbpf.Map, max_entries: int = 2) -> Any:
    options = {"key": "u32"} if word == "hash_of_maps" else {}
    return create(word, max_entries=max_entries, inner=inner, name="outer", **options)


def _array(value: int = 0, **options: Any) -> rawbpf.ArrayMap[int]:
    array: rawbpf.ArrayMap[int] = create("array", **{"value": "u64", "max_entries": 2} | options)
    array[0] = value
    return array


def _read_through(outer_fd: int) -> list[Instruction]:
    # Returns element 0 of the map under key 1, NOTHING where there is no map, EMPTY where that lacks the element.
    lookup = helper_number("map_lookup_elem")
    return [
        b.store_imm(b.R10, -4, 1, 4),
        b.store_imm(b.R10, -8, 0, 4),
        b.ld_map_fd(b.R1, outer_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -4),
        b.call(lookup),
        b.jump_imm(b.R0, "!=", 0, 2),
        *tracers.returning(NOTHING),
        b.mov_reg(b.R1, b.R0),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -8),
        b.call(lookup),
        b.jump_imm(b.R0, "!=", 0, 2),
        *tracers.returning(EMPTY),
        b.load_mem(b.R0, b.R0, 0),
        b.exit_(),
    ]


@pytest.fixture
def pair(backend: Backend) -> Iterator[tuple[rawbpf.ArrayMap[int], rawbpf.ArrayMap[int]]]:
    with _array(1) as one, _array(2) as two:
        yield one, two


@pytest.mark.real_kernel("programs run there only")
@each
@pytest.mark.needs("prog_type:syscall")
def test_inner_maps_are_exchanged_under_a_running_program(
    word: str, pair: tuple[rawbpf.ArrayMap[int], rawbpf.ArrayMap[int]]
) -> None:
    one, two = pair
    seen: set[int] = set()
    running, done = threading.Event(), threading.Event()
    with _outer(word, one) as outer, rawbpf.Program.load("syscall", _read_through(outer.fileno())) as program:
        assert program.run().retval == NOTHING
        outer[1] = two

        def keep_reading() -> None:
            while not done.is_set():
                seen.add(program.run().retval)
                running.set()

        thread = threading.Thread(target=keep_reading)
        thread.start()
        try:
            assert running.wait(DEADLINE)
            for _ in range(10):  # each waits until no program uses the old map
                for value, inner in ((1, one), (2, two)):
                    outer[1] = inner
                    assert program.run().retval == value
        finally:
            done.set()
            thread.join()
        assert seen
        assert seen <= {1, 2}
        two[0] = 55
        assert program.run().retval == 55
        del outer[1]
        assert program.run().retval == NOTHING


@each
def test_an_inner_map_lives_on_in_its_slot_and_is_opened_with_its_own_types(backend: Backend, word: str) -> None:
    point = {"x": "s32", "y": "s32"}
    with rawbpf.Map.create("array", value=point, max_entries=2) as inner:
        inner[1] = {"x": 5, "y": -6}
        outer = _outer(word, inner)
        outer[1] = inner
    with outer, outer.open(1) as opened:
        assert isinstance(opened, rawbpf.ArrayMap)
        assert opened.id == outer[1]
        assert opened[1].asdict() == {"x": 5, "y": -6}
        with pytest.raises(rawbpf.KeyNotFound):
            outer.open(0)


DIFFERENCES = [
    pytest.param(
        "hash",
        {"key": "u64", "value": "u64"},
        "type hash instead of array, key_size 8 instead of 4, map_flags 0x0 instead of 0x400$",
        id="type",
    ),
    pytest.param("array", {"value": "u32"}, "value_size 4 instead of 8$", id="value size"),
    pytest.param(
        "array",
        {"max_entries": 3},
        "max_entries 3 instead of 2; arrays may differ in max_entries if all are made with flags=BPF_F_INNER_MAP",
        id="length",
    ),
    pytest.param(
        "array",
        {"flags": c.BPF_F_RDONLY_PROG},
        r"map_flags 0x80 instead of 0x400; Map\.create makes arrays BPF_F_MMAPABLE \(0x400\) unless flags= is given",
        id="flags",
    ),
]


@each
@pytest.mark.parametrize(("kind", "options", "text"), DIFFERENCES)
def test_what_is_unlike_the_template_is_refused_with_the_differences(
    pair: tuple[rawbpf.ArrayMap[int], rawbpf.ArrayMap[int]], word: str, kind: str, options: dict[str, Any], text: str
) -> None:
    template = pair[0]
    options = {"value": "u64", "max_entries": 2} | options
    with _outer(word, template) as outer, create(kind, **options) as unlike:
        verbs: list[Callable[[], None]] = [
            lambda: outer.put(0, unlike),
            lambda: outer.update({1: template, 0: unlike}),
        ]
        for verb in verbs:
            with pytest.raises(rawbpf.BpfError, match=rf"\(inner=\): {text}") as caught:
                verb()
            assert caught.value.errno == 22
        assert outer.snapshot() == {1: template.id}
        # Others hold the same map, and what they are told depends on who made it.
        with outer.dup() as copied, pytest.raises(rawbpf.BpfError, match=text):
            copied[0] = unlike
        with rawbpf.Map.from_id(outer.id) as stranger:
            key = 0 if word == "array_of_maps" else bytes(4)
            with pytest.raises(rawbpf.BpfError, match="EINVAL: the value is no descriptor of a map like the template"):
                stranger[key] = unlike


@each
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.needs("btf_name:btf_record")  # with which Linux 6.2 compares them
def test_special_fields_of_values_must_be_those_of_the_template(backend: Backend, word: str) -> None:
    types = Builder()
    number = types.int("unsigned int", 4)
    lock = types.struct("bpf_spin_lock", 4, [("val", number, 0)])
    types.struct("guarded", 8, [("lock", lock, 0), ("count", number, 32)])
    guarded = Btf(types.to_bytes())["guarded"]
    with (
        rawbpf.Map.create("array", value=guarded, max_entries=1) as template,
        rawbpf.Map.create("array", value={"lock": "u32", "count": "u32"}, max_entries=1) as lockless,
        _outer(word, template) as outer,
    ):
        outer[0] = template
        with pytest.raises(rawbpf.BpfError, match=r"special fields of the values \(locks, timers, kptrs\) must be"):
            outer[0] = lockless


@each
def test_a_kernel_that_takes_no_locks_into_maps_of_maps_is_told_as_such(backend: Backend, word: str) -> None:
    old = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, ENOTSUPP)]})
    with (
        rawbpf.HashMap.create(key="u32", value={"lock": "bpf_spin_lock"}, max_entries=1) as template,
        rawbpf.using(old),
        pytest.raises(rawbpf.NotSupported, match=r"values have a lock or timer \(since Linux 6\.2\)"),
    ):
        _outer(word, template)


@each
def test_arrays_of_any_length_share_a_map_if_all_say_so(backend: Backend, word: str) -> None:
    flags = c.BPF_F_INNER_MAP
    with _array(flags=flags) as template, _array(flags=flags, max_entries=7) as longer, _outer(word, template) as outer:
        outer[0] = longer
        assert outer[0] == longer.id
        with (
            _array(max_entries=7) as plain,
            pytest.raises(rawbpf.BpfError, match="map_flags 0x400 instead of 0x1000; Map"),
        ):
            outer[0] = plain


@each
def test_hashes_of_any_size_share_a_map(backend: Backend, word: str) -> None:
    with (
        rawbpf.Map.create("hash", key="u32", value="u64", max_entries=1) as template,
        rawbpf.Map.create("hash", key="u32", value="u64", max_entries=100) as larger,
        _outer(word, template) as outer,
    ):
        outer[0] = larger
        assert outer[0] == larger.id
        # Nor is the size named where something else is not alike.
        with (
            rawbpf.Map.create("hash", key="u32", value="u32", max_entries=100) as unlike,
            pytest.raises(rawbpf.BpfError, match=r"not like the template \(inner=\): value_size 4 instead of 8$"),
        ):
            outer[0] = unlike


REFUSED = [
    pytest.param(
        "prog_array", {}, rawbpf.NotSupported, "the kernel takes no prog_array map into a map of maps", id="programs"
    ),
    pytest.param(
        "nested",
        {},
        rawbpf.BpfError,
        "EINVAL: inner= is an array_of_maps map itself, and maps of maps hold no",
        id="nested",
    ),
]


@each
@pytest.mark.parametrize(("kind", "options", "error", "text"), REFUSED)
def test_templates_that_cannot_be_are_named(
    pair: tuple[rawbpf.ArrayMap[int], rawbpf.ArrayMap[int]],
    word: str,
    kind: str,
    options: dict[str, Any],
    error: type[rawbpf.BpfError],
    text: str,
) -> None:
    made = _outer("array_of_maps", pair[0]) if kind == "nested" else create(kind, max_entries=1)
    with made as template, pytest.raises(error, match=text):
        _outer(word, template)


@each
def test_a_template_is_an_open_map(pair: tuple[rawbpf.ArrayMap[int], rawbpf.ArrayMap[int]], word: str) -> None:
    with pytest.raises((ValueError, rawbpf.BpfError), match=r"needs inner(=|_map_fd), a map"):
        rawbpf.Map.create(word, key="u32", max_entries=1)
    with rawbpf.Program.load("xdp", tracers.returning(2)) as program:
        for thing in (program, 5):
            with pytest.raises(TypeError, match="an open map, like those to be held"):
                _outer(word, thing)  # type: ignore[arg-type]
    with _array() as gone:
        pass
    with pytest.raises(rawbpf.Closed):
        _outer(word, gone)


@each
@pytest.mark.parametrize("count", [1, 3])
def test_many_maps_are_stored_and_read_in_batches(backend: Backend, word: str, count: int) -> None:
    with ExitStack() as stack:
        arrays = [stack.enter_context(_array(number)) for number in range(count)]
        outer = stack.enter_context(_outer(word, arrays[0], max_entries=8))
        outer.update({number * 2: array for number, array in enumerate(arrays)})
        assert outer.snapshot() == {number * 2: array.id for number, array in enumerate(arrays)}
        found = [pair for keys, ids in outer.batches(2) for pair in zip(keys, ids, strict=True)]
        assert dict(found) == outer.snapshot()
        assert len(found) == len(outer) == count
