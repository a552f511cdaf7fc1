"""How many system calls an operation makes: what it costs, whatever the machine."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.testing import Trace
from rawbpf.uapi.constants import BPF_F_LOCK, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_NOEXIST

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


N = 100


class _Counter:
    """A backend, and how many calls `operation` makes of it."""

    def __init__(self, backend: Backend) -> None:
        self.calls = Trace(backend)
        self.backend = self.calls.backend

    def __call__(self, operation: Callable[[], object]) -> int:
        before = len(self.calls)
        operation()
        return len(self.calls) - before


@pytest.fixture
def calls(backend: Backend) -> _Counter:
    return _Counter(backend)


FLOW = {"source": "u64", "port": "u16", "more": "u8[6]"}
WIDE = dict.fromkeys("abcdefgh", "u64")


@pytest.fixture(
    params=[("hash", "u32", "u64"), ("lru_hash", "u32", "u64"), ("percpu_hash", "u32", "u64"), ("hash", FLOW, WIDE)],
    ids=["hash", "lru_hash", "percpu_hash", "structs"],
)
def table(calls: _Counter, request: pytest.FixtureRequest) -> Iterator[Any]:
    kind, key, value = request.param
    with rawbpf.Map.create(kind, key=key, value=value, max_entries=N, backend=calls.backend) as m:
        yield m


def _keys(m: Any, start: int, end: int) -> list[Any]:
    return [m.key_type.unpack(i.to_bytes(m.key_type.size, "little")) for i in range(start, end)]


def _refused(error: type[Exception], operation: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(error):
        operation(*arguments)


def _zero(m: Any) -> Any:
    return m.value_type.unpack(bytes(m.value_type.size))


def test_a_call_on_one_element_is_one_system_call(table: Any, calls: _Counter) -> None:
    (present, missing, new), value = _keys(table, 0, 3), _zero(table)
    table[present] = value
    counts = {
        "m[k]": calls(lambda: table[present]),
        "m[k], missing": calls(lambda: _refused(KeyError, table.__getitem__, missing)),
        "get": calls(lambda: table.get(present)),
        "get, missing": calls(lambda: table.get(missing)),
        "in": calls(lambda: present in table),
        "not in": calls(lambda: missing in table),
        "m[k] = v": calls(lambda: table.__setitem__(present, value)),
        "put": calls(lambda: table.put(new, value, BPF_NOEXIST)),
        "del": calls(lambda: table.__delitem__(new)),
        "pop": calls(lambda: table.pop(present)),
        "lookup": calls(lambda: _refused(KeyError, table.lookup, present)),
    }
    assert counts == dict.fromkeys(counts, 1)


def test_wrong_arguments_make_none(table: Any, calls: _Counter) -> None:
    value = _zero(table)

    def wrong() -> None:
        for operation, arguments in (
            (table.__getitem__, ("no key",)),
            (table.get, (-1,)),
            (table.__contains__, (2**300,)),
            (table.__setitem__, (_keys(table, 0, 1)[0], "no value")),
            (table.put, (_keys(table, 0, 1)[0], value, -1)),
            (table.__delitem__, (None,)),
        ):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                operation(*arguments)

    assert calls(wrong) == 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("hash", {}, id="hash"),
        pytest.param("hash", {"flags": BPF_F_NO_PREALLOC}, id="hash, not preallocated"),
        pytest.param("percpu_hash", {}, id="percpu_hash"),
        pytest.param("array", {"numa_node": 0}, id="array"),
        pytest.param("percpu_array", {}, id="percpu_array"),
    ],
)
def test_whole_maps_are_read_in_as_few_calls_as_their_batches(
    calls: _Counter, kind: str, options: dict[str, Any]
) -> None:
    chunk, n = 32, N
    key = None if "array" in kind else "u32"
    with rawbpf.Map.create(kind, key=key, value="u64", max_entries=n, backend=calls.backend, **options) as m:
        rows = {i: rawbpf.PerCpu.filled(i) if m._per_cpu else i for i in range(n)}
        assert calls(lambda: m.update(rows)) == 1
        # A hash hands out whole buckets: a batch may be less than full, and one that is never is asked for again.
        most = 2 * -(-n // chunk) + 1 if "hash" in kind else -(-n // chunk) + 1
        assert calls(lambda: list(m.batches(chunk))) in range(2, most + 1)
        once = calls(m.snapshot)
        assert once in (1, 2)
        # Were there a length, list() would ask for it.
        assert [calls(partial(list, view)) for view in (m.keys(), m.values(), m.items())] == [once] * 3
        assert calls(m.columns) in (1, 2)


def test_nothing_to_do_makes_no_call(calls: _Counter) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=N, backend=calls.backend) as m:
        assert calls(lambda: m.update({})) == 0
        assert calls(lambda: m.put_many([])) == 0
        assert calls(lambda: m.delete_many([])) == 0
        assert calls(lambda: m.get_many([])) == 0


@pytest.fixture(params=["u8", "u16", "u32", "u64", "s32", "f64"])
def array(calls: _Counter, request: pytest.FixtureRequest) -> Iterator[rawbpf.ArrayMap[Any]]:
    with rawbpf.ArrayMap.create(value=request.param, max_entries=N, backend=calls.backend) as m:
        yield m


def test_an_array_in_memory_makes_none(array: rawbpf.ArrayMap[Any], calls: _Counter) -> None:
    counts = {
        "m[i]": calls(lambda: array[3]),
        "m[-1]": calls(lambda: array[-1]),
        "m[i] = v": calls(lambda: array.__setitem__(3, 7)),
        "m[-1] = v": calls(lambda: array.__setitem__(-1, 7)),
        "put": calls(lambda: array.put(4, 8)),
        "slice": calls(lambda: array[2:90:3]),
        "iteration": calls(lambda: list(array)),
        "reversed": calls(lambda: list(reversed(array))),
        "in": calls(lambda: 7 in array),
        "items": calls(lambda: list(array.items())),
        "snapshot": calls(array.snapshot),
        "sum": calls(array.sum),
        "count": calls(array.count),
        "batches": calls(lambda: list(array.batches(7))),
        "get_many": calls(lambda: array.get_many([1, 2, 3])),
    }
    assert counts == dict.fromkeys(counts, 0)
    assert [array[3], array[-1], array[4]] == [7, 7, 8]


def test_an_array_that_is_read_and_written_by_calls_makes_one_for_each(calls: _Counter) -> None:
    with rawbpf.ArrayMap.create(value="u64", max_entries=N, flags=BPF_F_RDONLY_PROG, backend=calls.backend) as m:
        assert calls(lambda: m[3]) == 1
        assert calls(lambda: m[-1]) == 1
        assert calls(lambda: m.__setitem__(3, 7)) == 1
        assert calls(lambda: m[2:6]) == 4


def test_what_needs_the_kernel_is_still_a_call(array: rawbpf.ArrayMap[Any], calls: _Counter) -> None:
    array[3] = 7
    assert calls(lambda: array.lookup(3)) == 1
    assert calls(lambda: _refused(rawbpf.BpfError, array.lookup, 3, BPF_F_LOCK)) == 1
    assert calls(lambda: _refused(rawbpf.KeyExists, array.put, 3, 8, BPF_NOEXIST)) == 1
    assert calls(lambda: array.update({1: 1, 2: 2})) == 1
    assert array[1:4] == [1, 2, 7]


@pytest.mark.parametrize("value", [{"a": "u64"}, "be32", "char[8]", 8], ids=["struct", "be32", "char", "bytes"])
def test_values_that_are_more_than_a_number_are_in_memory_too(calls: _Counter, value: Any) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=N, backend=calls.backend) as m:
        value = m[3]
        assert calls(lambda: m[2:6]) == 0
        assert calls(lambda: m.raw[3]) == 0
        assert calls(lambda: m.__setitem__(3, value)) == 0


def _allocated(operation: Callable[[], object]) -> int:
    """Return how many bytes a call takes at its peak, once all is compiled and leased."""
    for _ in range(30):
        operation()
    gc.disable()
    tracemalloc.start()
    try:
        operation()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        operation()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.real_kernel("a simulated call is made in Python, which allocates")
@pytest.mark.parametrize("kind", ["hash", "lru_hash", "array"])
def test_a_call_on_a_number_allocates_nothing(backend: Backend, kind: str) -> None:
    with rawbpf.Map.create(kind, key="u32", value="u64", max_entries=N, flags=0) as m:
        m[1] = 2  # of numbers as small as these there is one object only
        assert _allocated(lambda: m[1]) == 0
        assert _allocated(lambda: m.put(1, 2)) == 0
        if kind != "array":
            assert _allocated(lambda: m.get(1)) == 0
            assert _allocated(lambda: m.get(3)) == 0
            assert _allocated(lambda: 1 in m) == 0


@pytest.mark.real_kernel("a simulated call is made in Python, which allocates")
def test_a_call_on_a_struct_allocates_the_packed_bytes_and_the_result(backend: Backend) -> None:
    with rawbpf.HashMap.create(key=FLOW, value=WIDE, max_entries=N) as m:
        key, value = m.key_type.unpack(bytes(16)), m.value_type.unpack(bytes(64))
        m[key] = value
        packed, stored = m.key_type.pack(key), m.value_type.pack(value)
        size = sys.getsizeof(packed)
        result = _allocated(lambda: m.value_type.unpack(stored))
        assert _allocated(lambda: m.put(key, value)) <= size + sys.getsizeof(stored)
        assert _allocated(lambda: m[key]) <= size + result
        assert _allocated(lambda: m.get(key)) <= size + result
        assert _allocated(lambda: key in m) <= _allocated(lambda: m.key_type.pack(key))
