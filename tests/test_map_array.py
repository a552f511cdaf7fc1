"""Arrays behave as sequences of a fixed length."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support.backends import said

import rawbpf
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi.constants import BPF_F_LOCK, BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_MAP_CREATE

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest


@pytest.fixture(params=[{}, {"numa_node": 0}], ids=["in memory", "by system calls"])
def array(backend: Backend, request: pytest.FixtureRequest) -> Iterator[rawbpf.ArrayMap[Any]]:
    with rawbpf.Map.create("array", value="u32", max_entries=10, name="numbers", **request.param) as m:
        m.update({i: i * i for i in range(10)})
        yield m


def test_indices_and_slices_are_those_of_a_list(array: rawbpf.ArrayMap[int]) -> None:
    model = [i * i for i in range(10)]
    assert list(array) == list(array.values()) == model
    assert list(reversed(array)) == model[::-1]
    for index in (0, 3, 9, -1, -10):
        assert array[index] == model[index]
    for part in (slice(None), slice(2, 5), slice(None, None, 3), slice(-3, None), slice(20, 30)):
        assert array[part] == model[part]
    assert len(array) == 10
    assert 81 in array
    assert 82 not in array
    assert dict(array.items()) == array.snapshot() == dict(enumerate(model))


def test_writing_takes_negative_indices(array: rawbpf.ArrayMap[int]) -> None:
    array[-1] = 5
    array[0] = 6
    assert (array[9], array[0]) == (5, 6)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m[10], id="read behind the end"),
        pytest.param(lambda m: m[-11], id="read before the start"),
        pytest.param(lambda m: m[2**40], id="read beyond u32"),
        pytest.param(lambda m: m.__setitem__(10, 1), id="write behind the end"),
        pytest.param(lambda m: m.__setitem__(-11, 1), id="write before the start"),
        pytest.param(lambda m: m.update({3: 1, 10: 1}), id="batch behind the end"),
    ],
)
def test_an_index_out_of_range_is_an_index_error(
    array: rawbpf.ArrayMap[int], operation: Callable[[Any], object]
) -> None:
    with pytest.raises(rawbpf.IndexOutOfRange) as caught:
        operation(array)
    assert isinstance(caught.value, IndexError)
    assert "numbers" in str(caught.value)


@pytest.mark.parametrize("index", [10, -11, 2**32 - 1])
def test_the_message_names_the_index_and_how_many_there_are(array: rawbpf.ArrayMap[int], index: int) -> None:
    with pytest.raises(IndexError) as caught:
        array[index]
    assert said(caught.value) == f"map_lookup_elem 'numbers' (array): ENOENT: no index {index}: max_entries is 10"
    assert "memoryview" not in "".join(traceback.format_exception(caught.value))


def test_a_map_without_a_name_has_no_empty_quotes_in_messages(backend: Backend) -> None:
    with rawbpf.Map.create("array", value="u32", max_entries=1) as m, pytest.raises(IndexError) as caught:
        m[1] = 0
    assert said(caught.value) == "map_update_elem (array): E2BIG: no index 1: max_entries is 1"


def test_a_batch_behind_the_end_says_how_much_was_stored(array: rawbpf.ArrayMap[int]) -> None:
    with pytest.raises(rawbpf.IndexOutOfRange) as caught:
        array.update({0: 100, 1: 101, 10: 0, 2: 102})
    assert caught.value.applied == 2
    assert array[:3] == [100, 101, 4]


def test_lookup_passes_its_flags(array: rawbpf.ArrayMap[int]) -> None:
    assert array.lookup(3) == array.lookup(-7) == 9
    with pytest.raises(rawbpf.IndexOutOfRange):
        array.lookup(10)
    with pytest.raises(rawbpf.BpfError, match="bpf_spin_lock") as caught:
        array.lookup(3, BPF_F_LOCK)
    assert caught.value.errno == 22


def test_what_is_no_index_is_a_type_error(array: rawbpf.ArrayMap[int]) -> None:
    for wrong in ("1", 1.0, None):
        with pytest.raises(TypeError):
            array[wrong]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="update"):
        array[0:2] = 5  # type: ignore[index]
    with pytest.raises(OverflowError):
        array[0] = -1
    assert not hasattr(array, "pop")
    assert not hasattr(array, "__delitem__")


def test_get_many_has_a_default_for_indices_out_of_range(array: rawbpf.ArrayMap[int]) -> None:
    assert array.get_many([2, 50, 3], default=-1) == [4, -1, 9]


def test_memory_of_a_frozen_array_is_refused(backend: Backend) -> None:
    with rawbpf.Map.create("array", value="u64", max_entries=5, name="done", flags=BPF_F_MMAPABLE) as m:
        m.freeze()
        with pytest.raises(
            rawbpf.PermissionDenied, match=r"mmap 'done' \(array\)( \[sim\])?: EPERM: the map is frozen"
        ):
            m.memory()


def test_memory_needs_the_flag_and_outlives_close(backend: Backend) -> None:
    with (
        rawbpf.Map.create("array", value="u64", max_entries=5, flags=BPF_F_RDONLY_PROG) as plain,
        pytest.raises(rawbpf.NotSupported, match="BPF_F_MMAPABLE"),
    ):
        plain.memory()
    m = rawbpf.Map.create("array", value="u64", max_entries=5)
    memory = m.memory()
    m.close()
    memory[1] = 3
    assert memory[1] == 3


def test_an_array_without_flags_can_be_mapped_and_one_with_flags_is_as_asked(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value="u64", max_entries=3) as m:
        assert m.info.map_flags == BPF_F_MMAPABLE
        m.memory()[1] = 7
        assert list(m) == [0, 7, 0]
    for flags in (0, BPF_F_RDONLY_PROG):
        with rawbpf.ArrayMap.create(value="u64", max_entries=3, flags=flags) as m:
            assert m.info.map_flags == flags


def test_a_kernel_that_cannot_map_arrays_makes_plain_ones(backend: Backend) -> None:
    old = FaultBackend(backend, {BPF_MAP_CREATE: [(1, 22)]})
    with rawbpf.ArrayMap.create(value="u64", max_entries=3, backend=old) as m:
        assert m.info.map_flags == 0
        m[1] = 5
        assert m[1] == 5
