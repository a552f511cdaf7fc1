"""Arrays of structs, texts and whatever else is no number are read and written in memory, as system calls would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import mappings
from support.codec_types import buffers, described

import rawbpf
from rawbpf.codec import codec_for
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi.constants import BPF_F_LOCK, BPF_F_MMAPABLE

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

PAIR = {"low": "u32", "high": "u64", "name": "char[6]"}  # 24 bytes
ODD = {"low": "u32", "name": "char[6]"}  # 12 bytes, 16 apart
VALUES: list[Any] = [
    pytest.param(PAIR, [(1, 2**40, "one"), (2, 0, "")], id="struct"),
    pytest.param(ODD, [(1, "one"), (2**32 - 1, "123456")], id="struct with a gap behind"),
    pytest.param("char[16]", ["text", ""], id="text"),
    pytest.param(3, [b"abc", b"\0\1\2"], id="bytes"),
    pytest.param("be32", [1, 2**31], id="be32"),
    pytest.param("f32", [0.5, -1.0], id="f32"),
    pytest.param("bool", [True, False], id="bool"),
    pytest.param("u32[3]", [(1, 2, 3), (0, 0, 2**32 - 1)], id="array"),
    pytest.param("mac", ["02:00:00:00:00:01", "00:00:00:00:00:00"], id="mac"),
    pytest.param(5000, [b"x" * 5000, b"y" * 5000], id="more than a page"),
]


@pytest.fixture
def trace() -> list[Call]:
    return []


@pytest.fixture
def traced(backend: Backend, trace: list[Call]) -> Backend:
    return TraceBackend(backend, trace.append)


@pytest.fixture
def array(traced: Backend) -> Iterator[rawbpf.ArrayMap[Any]]:
    with rawbpf.ArrayMap.create(value=PAIR, max_entries=4, name="mapped", backend=traced) as m:
        m.update({i: (i, i * 10, f"n{i}") for i in range(4)})
        yield m


@pytest.mark.parametrize(("value", "values"), VALUES)
def test_values_are_stored_and_loaded_without_a_system_call(
    traced: Backend, trace: list[Call], value: Any, values: list[Any]
) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=5, backend=traced) as m:
        empty = m.value_type.unpack(bytes(m.value_type.size))
        before = len(trace)
        for i, one in enumerate(values):
            m[i] = one
        m.put(-1, values[0])
        expected = [*values, empty, empty, values[0]]
        assert [m[i] for i in range(5)] == [m[i] for i in range(-5, 0)] == expected
        assert m[:] == [*m] == [*m.values()] == expected
        assert m[::-2] == expected[::-2]
        assert m[1:3] == expected[1:3]
        assert m[3:3] == []
        assert len(trace) == before
        assert [m.lookup(i) for i in range(5)] == expected
        m.update({1: values[0]})
        assert m[1] == values[0]


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m[4], id="read behind the end"),
        pytest.param(lambda m: m[-5], id="read before the start"),
        pytest.param(lambda m: m[2**70], id="read far away"),
        pytest.param(lambda m: m[1.0], id="float"),
        pytest.param(lambda m: m["1"], id="str"),
        pytest.param(lambda m: m[(1,)], id="tuple"),
        pytest.param(lambda m: m[1:3:0], id="step of 0"),
        pytest.param(lambda m: m.__setitem__(4, (1, 2, "x")), id="write behind the end"),
        pytest.param(lambda m: m.__setitem__(-5, (1, 2, "x")), id="write before the start"),
        pytest.param(lambda m: m.__setitem__(slice(0, 2), (1, 2, "x")), id="write a slice"),
        pytest.param(lambda m: m.__setitem__(1, (1, 2)), id="too few fields"),
        pytest.param(lambda m: m.__setitem__(1, (-1, 2, "x")), id="field out of range"),
        pytest.param(lambda m: m.__setitem__(1, (1, 2, "too long")), id="text too long"),
        pytest.param(lambda m: m.__setitem__(1, {"low": 1, "high": 2, "name": "x", "more": 3}), id="unknown field"),
        pytest.param(lambda m: m.__setitem__(1, 5), id="a number"),
        pytest.param(lambda m: m.put(1, (1, 2, "x"), 1), id="put with BPF_NOEXIST"),
    ],
)
def test_what_is_refused_is_refused_in_the_words_of_the_system_calls(
    backend: Backend, operation: Callable[[Any], object]
) -> None:
    def refusal(options: dict[str, Any]) -> tuple[type[BaseException], str, list[Any]]:
        with rawbpf.ArrayMap.create(value=PAIR, max_entries=4, name="both", **options) as m:
            m[2] = m[3] = (1, 2, "x")
            with pytest.raises((TypeError, ValueError, OverflowError, LookupError, OSError)) as caught:
                operation(m)
            return caught.type, str(caught.value), list(m)

    assert refusal({}) == refusal({"numa_node": 0})  # which asks for an array without memory to map


@given(one=described(), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_as_the_system_call_reads_them(backend: Backend, one: Any, data: st.DataObject) -> None:
    codec: Any = codec_for(one[0])
    with rawbpf.ArrayMap.create(value=codec, max_entries=3) as m:
        raws = [data.draw(buffers(codec)) for _ in range(3)]
        m.update({i: codec.unpack(raw) for i, raw in enumerate(raws)})
        called = [m.lookup(i) for i in range(3)]
        assert repr([m[i] for i in range(3)]) == repr(m[:]) == repr(called) == repr([codec.decode(raw) for raw in raws])
        m[0], m[1] = m[1], m[0]
        assert [m.raw.lookup(i) for i in range(3)] == [m.raw[i] for i in range(3)] == [raws[1], raws[0], raws[2]]


def test_values_with_what_the_kernel_keeps_stay_with_system_calls(traced: Backend, trace: list[Call]) -> None:
    value = {"lock": "bpf_spin_lock", "n": "u64"}
    with rawbpf.ArrayMap.create(value=value, max_entries=2, flags=BPF_F_MMAPABLE, backend=traced) as m:
        for _ in range(2):
            before = len(trace)
            m[1] = (5,)
            assert m[1] == (5,)
            assert len(trace) == before + 2
        assert m.lookup(1, BPF_F_LOCK) == (5,)
        assert m[:] == [(0,), (5,)]
        uses: list[Callable[[], object]] = [m.memory, m.as_numpy]
        for use in uses:
            with pytest.raises(rawbpf.NotSupported, match="locks"):
                use()


def test_freezing_lets_go_of_the_memory_for_writing(array: rawbpf.ArrayMap[Any], trace: list[Call]) -> None:
    array[1] = array[2]
    assert sorted(mappings.of_maps()) == ["r--s", "rw-s"]
    array.freeze()
    assert mappings.of_maps() == ["r--s"]
    before = len(trace)
    assert array[1] == array[2] == (2, 20, "n2")
    assert len(trace) == before
    refusals: list[Callable[[], object]] = [
        lambda: array.__setitem__(1, (0, 0, "")),
        lambda: array.put(1, (0, 0, "")),
    ]
    for refused in refusals:
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            refused()


def test_closing_unmaps_and_what_was_under_way_says_closed(array: rawbpf.ArrayMap[Any]) -> None:
    array[1] = array[2]
    read, write, put = type(array).__getitem__, type(array).__setitem__, type(array).put
    array.close()
    assert mappings.of_maps() == []
    value = (0, 0, "")
    for use in (
        lambda: array[1],
        lambda: array[1:3],
        lambda: array.__setitem__(1, value),
        lambda: list(array),
        # Functions that a thread had begun with, and would go on in.
        lambda: read(array, 1),
        lambda: write(array, 1, value),
        lambda: put(array, 1, value),
    ):
        with pytest.raises(rawbpf.Closed):
            use()
