"""An array's memory as typed views and numpy arrays, and the columns of any map as numpy arrays."""

from __future__ import annotations

import enum
import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import mappings
from support.arrays import differences
from support.codec_types import described

import rawbpf
from rawbpf.asm import Instruction, Label, resolve
from rawbpf.asm.build import alu_imm as alu
from rawbpf.asm.build import atomic_add, call, exit_, jump_imm, ld_map_fd, mov_imm, mov_reg, store_imm
from rawbpf.codec import codec_for

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

needs_numpy = pytest.mark.needs("module:numpy")
PACKET = {"source": "ipv4", "port": "be16", "proto": "u8", "hits": "u64", "name": "char[5]"}
ROWS: list[Any] = [
    ("10.0.0.1", 80, 6, 1, "one"),
    ("10.0.0.2", 443, 6, 2**40, ""),
    ("192.168.0.1", 53, 17, 3, "five5"),
]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("value", "numbers", "stored"),
    [
        ("u64", [1, 2**64 - 1], [1, 2**64 - 1]),
        ("s64", [-1, 2], [-1, 2]),
        ("f64", [0.5, -1.0], [0.5, -1.0]),
        ("u32", [1, 2**32 - 1], [1, 2**32 - 1]),
        ("s16", [-1, 2], [-1, 2]),
        ("u8", [1, 255], [1, 255]),
        ("f32", [0.5, -1.0], [0.5, -1.0]),
        ("bool", [1, 0], [True, False]),
        (Level, [1, 2], [Level.LOW, Level.HIGH]),
    ],
)
def test_the_memory_of_an_array_of_numbers_is_a_view_of_numbers(
    backend: Backend, value: Any, numbers: list[float], stored: list[Any]
) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=3) as m:
        view: Any = m.memory()
        assert (view.ndim, len(view), view.readonly) == (1, 3, False)
        view[0], view[2] = numbers
        assert [m.lookup(0), m.lookup(2)] == [m[0], m[2]] == stored
        m.raw[1] = m.raw.lookup(2)
        assert view.tolist() == [numbers[0], numbers[1], numbers[1]]
        assert view[1:].tolist() == [numbers[1]] * 2


def test_the_memory_of_an_array_of_arrays_has_a_dimension_more(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value="u32[4]", max_entries=3) as m:
        view: Any = m.memory()
        view[2, 3] = 7
        assert m.lookup(2) == (0, 0, 0, 7)
        assert view.shape == (3, 4)
    with rawbpf.ArrayMap.create(value="u32[3]", max_entries=3) as m:
        # There is a gap behind each, so that it is rows of bytes.
        assert m.memory().shape == (3, 16)


@pytest.mark.parametrize("value", [PACKET, {"a": "u32", "hits": "u32", "c": "u8"}], ids=["24 bytes", "12 bytes"])
def test_the_memory_of_an_array_of_structs_has_rows_and_columns(backend: Backend, value: Any) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=4) as m:
        codec = m.value_type
        rows: Any = m.memory()
        assert rows.shape == (4, (codec.size + 7) // 8 * 8)
        m.raw[2] = bytes(range(1, codec.size + 1))
        assert bytes(rows[2:3])[: codec.size] == m.raw.lookup(2)
        assert list(codec.iter_unpack(rows)) == list(m)
        hits = codec.column(rows, "hits")
        hits[3] = 99
        assert m.lookup(3).hits == m[3].hits == 99
        assert hits.tolist() == [each.hits for each in m]


@pytest.mark.real_kernel("programs run there only")
def test_a_column_shows_what_a_program_counts(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value={"a": "u32", "hits": "u64"}, max_entries=2) as m:
        hits = m.value_type.column(m.memory(), "hits")
        count: list[Instruction | Label] = [
            store_imm(10, -4, 1, 4),
            ld_map_fd(1, m.fileno()),
            mov_reg(2, 10),
            alu(2, "+=", -4),
            call(1),
            jump_imm(0, "==", 0, "end"),
            mov_imm(1, 5),
            atomic_add(0, 8, 1),
            Label("end"),
            mov_imm(0, 0),
            exit_(),
        ]
        with rawbpf.Program.load("socket_filter", resolve(count).instructions) as program:
            program.run(data=bytes(64), repeat=4)
            assert hits.tolist() == [0, 20]
            hits[1] = 100
            program.run(data=bytes(64))
            assert hits[1] == 105


@needs_numpy
@given(one=described(), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_memory_of_any_array_is_a_numpy_array(backend: Backend, one: Any, data: st.DataObject) -> None:
    description, values = one
    codec: Any = codec_for(description)
    stored = [data.draw(values) for _ in range(3)]
    with rawbpf.ArrayMap.create(value=codec, max_entries=3) as m:
        array = m.as_numpy()
        m.update(dict(enumerate(stored)))
        assert len(array) == 3
        for i, item in enumerate(array):
            assert differences(codec, codec.pack(stored[i]), item) == []
        # The other way: what is written in the array is in the map.
        array[0], array[2] = array[2].copy(), array[0].copy()
        assert [m.lookup(0), m.lookup(1), m.lookup(2)] == [stored[2], stored[1], stored[0]]


@needs_numpy
def test_an_array_over_memory_prevents_freezing_and_outlives_closing(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value=PACKET, max_entries=3) as m:
        array = m.as_numpy()
        hits = array["hits"]
        del array
        with pytest.raises(rawbpf.BpfError, match=r"a view from memory\(\) or as_numpy\(\) can still"):
            m.freeze()
        del hits
        m.freeze()
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            m.as_numpy()
    with rawbpf.ArrayMap.create(value=PACKET, max_entries=3) as m:
        array = m.as_numpy()
        m[1] = ROWS[0]
    array["hits"] += 1
    assert array["hits"].tolist() == [1, 2, 1]
    del array
    gc.collect()
    assert mappings.of_maps() == []


@needs_numpy
@pytest.mark.parametrize("kind", ["hash", "array", "lru_hash"])
def test_columns_are_structured_arrays(backend: Backend, kind: Any) -> None:
    with rawbpf.Map.create(kind, key="u32", value=PACKET, max_entries=3) as m:
        m.update(dict(enumerate(ROWS)))
        keys, values = m.to_numpy()
        assert values.dtype == m.value_type.dtype
        order = keys.argsort()
        assert keys[order].tolist() == [0, 1, 2]
        assert values["hits"][order].tolist() == [1, 2**40, 3]
        assert values["port"][order].tolist() == [80, 443, 53]
        assert values["name"][order].tolist() == [b"one", b"", b"five5"]
        assert int(values[values["proto"] == 17]["source"][0]) == 0xC0A80001
        for key, value in zip(keys.tolist(), values, strict=True):
            assert (
                differences(m.value_type, m.raw.lookup(m.key_type.pack(key) if kind != "array" else key), value) == []
            )
        column = values["hits"]
        assert column.base is not None  # a view: no element became a Python object


@needs_numpy
def test_keys_that_are_structs_and_empty_maps_are_arrays_as_well(backend: Backend) -> None:
    key = {"address": "ipv4", "port": "be16"}
    with rawbpf.HashMap.create(key=key, value="be32", max_entries=3) as m:
        keys, values = m.to_numpy()
        assert (keys.shape, values.shape) == ((0,), (0,))
        assert (keys.dtype, values.dtype.str) == (m.key_type.dtype, ">u4")
        m["10.0.0.1", 80] = 5
        keys, values = m.to_numpy()
        assert (keys["port"].tolist(), values.tolist()) == ([80], [5])
    with rawbpf.HashMap.create(key="u64", value="char[8]", max_entries=3) as texts:
        texts[2**40] = "abc"
        numbers, names = texts.to_numpy()
        assert (numbers.tolist(), names.tolist()) == ([2**40], [b"abc"])


@needs_numpy
@pytest.mark.parametrize(
    ("value", "filled", "number"),
    [("u64", 7, 7), ("u32", 7, 7), ({"calls": "u32", "ns": "u64"}, (7, 8), (7, 8)), ({"calls": "u32"}, (7,), (7,))],
    ids=["u64", "u32", "struct", "struct with a gap behind"],
)
def test_per_cpu_values_have_a_dimension_for_the_cpus(backend: Backend, value: Any, filled: Any, number: Any) -> None:
    cpus = backend.host.possible_cpus
    for kind in (rawbpf.PerCpuHashMap, rawbpf.PerCpuArrayMap):
        with kind.create(key="u32", value=value, max_entries=2) as m:
            m[0] = m[1] = rawbpf.PerCpu.filled(filled)
            _, values = m.to_numpy()
            assert values.shape == (2, cpus)
            assert values.tolist() == [[number] * cpus] * 2
            if isinstance(value, dict):
                assert values["calls"].sum() == 7 * 2 * cpus
                _, rows = m.columns()
                assert m.value_type.column(rows, "calls").tolist() == [7] * 2 * cpus


def test_columns_are_read_as_records_and_by_field(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value=PACKET, max_entries=3) as m:
        m.update(dict(enumerate(ROWS)))
        keys, values = m.columns()
        assert dict(zip(keys, m.value_type.iter_unpack(values), strict=True)) == m.snapshot()
        hits = dict(zip(keys, m.value_type.column(values, "hits"), strict=True))
        assert hits == {0: 1, 1: 2**40, 2: 3}


def test_without_numpy_arrays_are_refused_and_nothing_is_left_mapped(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "rawbpf.codec.dtype", raising=False)
    with rawbpf.ArrayMap.create(value="u64", max_entries=3) as m:
        uses: list[Callable[[], object]] = [m.as_numpy, m.to_numpy]
        for use in uses:
            with pytest.raises(ImportError, match="pip install numpy"):
                use()
        assert mappings.of_maps() == []
        m.freeze()
