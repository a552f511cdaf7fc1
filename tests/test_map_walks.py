"""What is asked of a whole map comes to the same by a walk in the kernel as element by element."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.codec.base import Codec
from rawbpf.codec.percpu import PerCpu
from rawbpf.map import walk
from rawbpf.map.whole import _OPERATORS, FEW
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

NUMBERS = ["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64"]
STRUCT: dict[str, Any] = {"a": "u8", "b": "s64", "c": "u16", "name": "char[5]"}


def _edges(kind: str, rng: random.Random) -> int:
    bits = int(kind[1:])
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    return rng.choice([least, most, 0, rng.randint(least, most), rng.randint(least, most)])


def _same(m: rawbpf.HashMap[Any, Any], model: dict[Any, Any], number: Callable[[Any], int], field: str | None) -> None:
    # `number` is what the verbs look at in a value.
    numbers = [number(value) for value in model.values()]
    assert m.count() == len(m) == len(model)
    assert m.sum(field) == sum(numbers)
    assert m.min(field) == min(numbers)
    assert m.max(field) == max(numbers)
    assert m.snapshot() == model == dict(m.items())
    keys, values = m.columns()
    assert len(keys) == len(values) == len(model)
    filtered: Callable[..., Any] = m.filter
    for limit in (min(numbers), max(numbers), 0, sorted(numbers)[len(numbers) // 2], -(1 << 70), 1 << 70, 0.5):
        for operator, compare in _OPERATORS.items():
            expected = {key: value for key, value in model.items() if compare(number(value), limit)}
            assert filtered(operator, limit, field) == expected, (operator, limit)
    greatest = [number(value) for _, value in m.top(7, field)]
    assert greatest == sorted(numbers, reverse=True)[:7]
    assert all(model[key] == value for key, value in m.top(7, field))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("map_type", ["hash", "lru_hash", "percpu_hash"])
def test_numbers_of_every_size_and_sign(backend: Backend, map_type: str, kind: str) -> None:
    rng = random.Random(f"{map_type} {kind}")
    cpus = backend.host.possible_cpus
    with rawbpf.Map.create(map_type, key="u32", value=kind, max_entries=3 * FEW) as m:
        per_cpu = "percpu" in map_type
        for key in range(500):
            m[key * 77] = [_edges(kind, rng) for _ in range(cpus)] if per_cpu else _edges(kind, rng)
        model = dict(m.items())
        _same(m, model, (lambda value: value.sum()) if per_cpu else (lambda value: value), None)


@pytest.mark.parametrize("field", ["a", "b", "c"])
@pytest.mark.parametrize("map_type", ["hash", "percpu_hash"])
def test_fields_of_structs(backend: Backend, map_type: str, field: str) -> None:
    rng = random.Random(f"{map_type} {field}")

    def some() -> dict[str, Any]:
        return {
            "a": _edges("u8", rng),
            "b": _edges("s64", rng),
            "c": _edges("u16", rng),
            "name": rng.choice(["x", "yz"]),
        }

    cpus = backend.host.possible_cpus
    with rawbpf.Map.create(map_type, key=7, value=STRUCT, max_entries=FEW) as m:
        for key in range(300):
            value = [some() for _ in range(cpus)] if map_type == "percpu_hash" else some()
            m[(key * 2**40).to_bytes(7, "big")] = value

        def number(value: Any) -> int:
            total: int = getattr(value.sum() if isinstance(value, PerCpu) else value, field)
            return total

        _same(m, dict(m.items()), number, field)
        with pytest.raises(ValueError, match="no field 'd'"):
            m.sum("d")
        assert m.max("name") if map_type == "hash" else True  # no number: Python compares


@pytest.mark.guest
@pytest.mark.parametrize("size", [1, 3, 8, 13, 64, 500, 1000])
@pytest.mark.parametrize("map_type", ["hash", "array", "percpu_array"])
def test_bytes_of_every_size_are_copied_whole(backend: Backend, map_type: str, size: int) -> None:
    rng = random.Random(size)
    options: dict[str, Any] = {"flags": 0} if "array" in map_type else {"key": 5}
    with rawbpf.Map.create(map_type, value=size, max_entries=FEW, **options) as m:
        keys: list[Any] = list(range(FEW)) if "array" in map_type else [rng.randbytes(5) for _ in range(100)]
        cpus = backend.host.possible_cpus
        for key in keys[:100]:
            m[key] = [rng.randbytes(size) for _ in range(cpus)] if "percpu" in map_type else rng.randbytes(size)
        assert m.snapshot() == dict(m.items())
        assert m.count() == (FEW if "array" in map_type else len(set(keys)))


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:syscall:for_each_map_elem")
def test_a_walk_is_one_system_call_and_leaves_nothing(backend: Backend) -> None:
    calls: list[Call] = []
    with rawbpf.HashMap.create(
        key="u32", value="u64", max_entries=100_000, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.update({key: key for key in range(50_000)})
        assert (m.sum(), m.max(), m.count()) == (sum(range(50_000)), 49_999, 50_000)
        calls.clear()
        assert (m.sum(), m.max(), m.count()) == (sum(range(50_000)), 49_999, 50_000)
        assert [str(call).partition(",")[0].partition("(")[2].partition("(")[0] for call in calls] == [
            "prog_test_run"
        ] * 3
        calls.clear()
        keys, values = m.columns()
        assert not [call for call in calls if "batch" in str(call)]
        assert dict(zip(keys, values, strict=True)) == {key: key for key in range(50_000)}
        m.close()
        assert sum(values) == sum(range(50_000))  # memory of its own


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:syscall:for_each_map_elem")
def test_a_map_that_outgrew_the_room_is_walked_again_with_more(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_AT_ONCE", 0)
    monkeypatch.setattr(walk, "_FIRST_MATCHES", 10)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=100_000) as m:
        m[0] = 0
        assert m.snapshot() == {0: 0}
        m.update({key: key for key in range(60_000)})
        assert m.snapshot() == {key: key for key in range(60_000)}
        assert m.filter(">=", 100) == {key: key for key in range(100, 60_000)}


def test_an_empty_map_has_no_least_and_no_greatest(backend: Backend) -> None:
    for room in (10, FEW):
        with rawbpf.HashMap.create(key="u32", value="s32", max_entries=room) as m:
            assert (m.count(), m.sum(), m.snapshot(), m.filter("<", 0), m.top(3)) == (0, 0, {}, {}, [])
            assert [len(column) for column in m.columns()] == [0, 0]
            for best in (m.min, m.max):
                with pytest.raises(ValueError, match="is empty"):
                    best()


def test_the_least_may_be_above_0_and_the_greatest_below(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="s32", max_entries=FEW) as m:
        m.update({1: 9, 2: 5, 3: 7})
        assert (m.min(), m.max()) == (5, 9)
        m.update({1: -9, 2: -5, 3: -7})
        assert (m.min(), m.max()) == (-9, -5)


@pytest.mark.parametrize("test", ["=", "=>", "", "lt"])
def test_what_is_no_test_is_refused(backend: Backend, test: Any) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=FEW) as m:
        with pytest.raises(TypeError, match="filter"):
            m.filter(test, 1)
        with pytest.raises(TypeError, match="filter"):
            m.filter("<")  # type: ignore[call-overload]  # which is the point


@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_descriptor_for_reading_walks_and_one_for_writing_does_not(backend: Backend, mode: str) -> None:
    flag = c.BPF_F_RDONLY if mode == "r" else c.BPF_F_WRONLY
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=FEW, flags=flag) as m:
        verbs: list[Callable[[], object]] = [m.count, m.sum, m.snapshot, m.columns, lambda: m.filter("<", 1)]
        for verb in verbs:
            if mode == "w":
                with pytest.raises(rawbpf.PermissionDenied):
                    verb()
            else:
                verb()


def test_a_value_with_a_lock_is_read_by_system_calls(backend: Backend) -> None:
    value: dict[str, Any] = {"lock": "bpf_spin_lock", "n": "u32"}
    with rawbpf.HashMap.create(key="u32", value=value, max_entries=FEW) as m:
        m.put_many({key: {"n": key} for key in range(300)})
        assert m.sum("n") == sum(range(300))
        assert len(m.filter(">=", 200, field="n")) == 100
        assert len(m.snapshot()) == 300


def test_a_closed_map_is_not_walked(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=FEW) as m:
        m[1] = 1
        m.sum()
    for verb in (m.count, m.sum, m.min, m.snapshot, m.columns):
        with pytest.raises(rawbpf.Closed):
            verb()


def test_where_programs_are_refused_batches_say_the_same(backend: Backend) -> None:
    faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: ((n, 1) for n in range(1, 100))})
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=FEW, backend=faulty) as m:
        m.update({key: key for key in range(100)})
        _same(m, {key: key for key in range(100)}, lambda value: value, None)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:syscall:for_each_map_elem")
@pytest.mark.parametrize("map_type", ["hash", "lru_hash"])
def test_beside_writers_nothing_is_made_up(backend: Backend, map_type: str) -> None:
    # The halves of each value agree, and tell the key.
    def value_of(key: int, count: int) -> int:
        half = key << 16 | count & 0xFFFF
        return half << 32 | half

    with rawbpf.Map.create(map_type, key="u32", value="u64", max_entries=2 * FEW) as m:
        m.update({key: value_of(key, 0) for key in range(1000)})
        stop = threading.Event()

        def write() -> None:
            with m.dup() as other:
                count = 0
                while not stop.is_set():
                    count += 1
                    other.put_many({key: value_of(key, count) for key in range(0, 2000, 3)})
                    other.delete_many(range(1000, 2000, 3))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(50):
                found = m.snapshot()
                assert found.keys() <= set(range(2000))
                for key, value in found.items():
                    assert value >> 32 == value & 0xFFFFFFFF
                    assert value >> 48 == key
        finally:
            stop.set()
            writer.join()


class _Blind(Wrapper):
    # A process without /proc, or without a descriptor left.
    def __init__(self, inner: Backend, number: int) -> None:
        super().__init__(inner)
        self._number = number

    def fdinfo(self, fd: int) -> str:
        raise OSError(self._number, f"/proc/self/fdinfo/{fd}")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE])
def test_where_nothing_tells_what_the_descriptor_is_open_for_system_calls_do_it(backend: Backend, number: int) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=FEW, backend=_Blind(backend, number)) as m:
        m.update({key: key for key in range(200)})
        assert m.get_many(range(200)) == list(range(200))
        assert (m.count(), m.sum(), len(m.snapshot()), m.delete_many(range(200))) == (200, 19900, 200, 200)


def test_a_frozen_array_that_programs_only_read_is_read_without_a_complaint(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value="u64", max_entries=FEW, flags=c.BPF_F_RDONLY_PROG) as m:
        m[3] = 7
        m.freeze()
        assert (m.get_many(range(200))[3], m.sum(), m.max()) == (7, 7, 7)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:syscall:for_each_map_elem")
def test_a_few_programs_are_kept_and_used_again(backend: Backend) -> None:
    calls: list[Call] = []
    fields = {f"f{i}": "u32" for i in range(12)}
    traced = TraceBackend(backend, calls.append)
    with rawbpf.HashMap.create(key="u32", value=fields, max_entries=FEW, backend=traced) as m:
        for field in (*fields, "f0", "f1"):
            m.sum(field)
        calls.clear()
        assert m.sum("f0") == m.sum("f1") == 0
        assert len(calls) == 2


@pytest.mark.parametrize("room", [10, FEW])
@pytest.mark.parametrize("field", ["typo", "count", "index", "_fields", "real"])
def test_a_field_that_is_none_is_refused_of_an_empty_map_as_well(backend: Backend, room: int, field: str) -> None:
    with rawbpf.HashMap.create(key="u32", value={"a": "u32", "b": "u64"}, max_entries=room) as m:
        verbs: list[Callable[[], object]] = [
            lambda: m.sum(field),
            lambda: m.min(field),
            lambda: m.filter(">", 1, field),
            lambda: m.top(3, field),
        ]
        for verb in verbs:
            with pytest.raises(ValueError, match=f"no field '{field}': the fields of the values are a, b"):
                verb()
    with (
        rawbpf.HashMap.create(key="u32", max_entries=room, value="u64") as m,
        pytest.raises(ValueError, match="no structs"),
    ):
        m.sum(field)


@pytest.mark.parametrize("room", [10, FEW])
def test_a_codec_of_ones_own_says_what_may_be_asked_for(backend: Backend, room: int) -> None:
    class Own(Codec[complex]):
        name, size, field_names = "complex", 2, ("real", "imag")

        def pack(self, value: Any, /) -> bytes:
            return bytes([int(value.real), int(value.imag)])

        def unpack(self, buffer: Any, /) -> complex:
            return complex(buffer[0], buffer[1])

    with rawbpf.HashMap.create(key="u32", value=Own(), max_entries=room) as m:
        m.update({1: 3 + 4j, 2: 5 + 6j})
        assert (m.sum("imag"), m.max("real"), m.top(1, "real")) == (10, 5, [(2, 5 + 6j)])


@pytest.mark.parametrize("n", [None, 1.5, "1"])
@pytest.mark.parametrize("room", [10, FEW])
def test_how_many_are_the_greatest_is_an_int(backend: Backend, room: int, n: Any) -> None:
    with (
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=room) as m,
        pytest.raises(TypeError, match="integer"),
    ):
        m.top(n)


def test_a_few_elements_load_nothing_and_import_nothing() -> None:
    script = """if True:
        import sys, rawbpf
        with rawbpf.using(rawbpf.sim.Simulator()), rawbpf.HashMap.create(key="u32", value="u64", max_entries=10) as m:
            m.update({1: 1, 2: 2}), m.get_many([1]), m.snapshot(), m.sum(), m.top(1)
        print([name for name in ("many", "walk", "runner") if f"rawbpf.map.{name}" in sys.modules])
    """
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
