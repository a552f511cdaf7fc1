"""Maps, arenas and variables as numpy arrays: over the memory itself, and columns of any map."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import mappings
from support.arrays import differences
from support.codec_types import described
from support.map_shapes import PAGE

import rawbpf
from rawbpf.codec import codec_for

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

needs_numpy = pytest.mark.needs("module:numpy")

OBJECTS = Path(__file__).parent / "objects"
SUFFIX = "bpf" if sys.byteorder == "little" else "bpfeb"
PACKET = {"source": "ipv4", "port": "be16", "proto": "u8", "hits": "u64", "name": "char[5]"}
ROWS: list[Any] = [
    ("10.0.0.1", 80, 6, 1, "one"),
    ("10.0.0.2", 443, 6, 2**40, ""),
    ("192.168.0.1", 53, 17, 3, "five5"),
]


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


@needs_numpy
@pytest.mark.needs("map_type:arena", "prog_type:syscall", "file:/proc/sys/net/core/bpf_jit_enable")
def test_values_of_a_type_are_an_array_over_the_pages(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=2) as arena:
        nodes = arena.as_numpy({"next": "u64", "value": "u32"}, PAGE, 4)
        nodes["value"] = [1, 2, 3, 4]
        assert arena.view("u32", PAGE)[2:16:4].tolist() == [1, 2, 3, 4]
    nodes["value"][3] = 9
    assert nodes["value"].sum() == 15


@needs_numpy
@pytest.mark.needs("module:elftools")
def test_a_variable_is_a_numpy_array(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(OBJECTS / f"shapes.{SUFFIX}.o")
    spec.maps["shared"].pinning = 0
    spec.maps["jumps"].values.clear()
    with spec.load(only=[]) as obj:
        lost, dropped, least = (obj.variables[name] for name in ("lost", "dropped", "min_uid"))
        array = lost.as_numpy()
        array[1:] += 3
        assert lost.value == (0, 3, 3, 3)
        one = dropped.as_numpy()
        one[0] = 2**40
        assert (one.shape, dropped.value) == ((1,), 2**40)
        constant = least.as_numpy()
        assert constant.tolist() == [1000]
        with pytest.raises(ValueError, match="read-only"):
            constant[0] = 1
    array[0] = 5
    assert array.tolist() == [5, 3, 3, 3]


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
