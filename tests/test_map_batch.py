"""Whole maps go by batch, whatever the chunk, and one by one where there is no batch."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.map.batch import DEFAULT_CHUNK
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

BATCHES = (
    c.BPF_MAP_LOOKUP_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    c.BPF_MAP_UPDATE_BATCH,
    c.BPF_MAP_DELETE_BATCH,
)


def _without_batches(backend: Backend, errno: int) -> FaultBackend:
    return FaultBackend(backend, {cmd: [(n, errno) for n in range(1, 100)] for cmd in BATCHES})


@pytest.mark.guest
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 16384])
def test_every_chunk_size_yields_each_element_once(backend: Backend, size: int) -> None:
    content = {random.Random(size).getrandbits(32) ^ i: i for i in range(64)}
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=64) as m:
        m.update(content)
        found = [pair for keys, values in m.batches(size) for pair in zip(keys, values, strict=True)]
        assert sorted(found) == sorted(content.items())


@pytest.mark.guest
@pytest.mark.parametrize(
    ("n", "error", "words"),
    [(0, ValueError, "at least one"), ("5", TypeError, "not '5'"), (1.5, TypeError, "not 1.5")],
)
def test_a_chunk_has_at_least_one_element(backend: Backend, n: Any, error: type[Exception], words: str) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        with pytest.raises(error, match=words):
            list(m.batches(n))
        with pytest.raises(error, match=words):
            m.drain(n)


@pytest.mark.guest
@pytest.mark.parametrize("errno", [22, 524], ids=["kernel without batches", "type without batches"])
def test_without_batches_the_results_are_the_same(backend: Backend, errno: int) -> None:
    old = _without_batches(backend, errno)
    with rawbpf.HashMap.create(key="u16", value="u64", max_entries=40, backend=old) as m:
        content = {i: i * i for i in range(40)}
        m.update(content)
        assert m.snapshot() == content
        with pytest.raises(rawbpf.MapFull) as caught:
            m.update({1: 5, 1000: 6, 2: 7})
        assert caught.value.applied == 1
        assert m[1] == 5
        assert m.delete_many([0, 777, 1]) == 2
        assert len(m) == 38
        m.clear()
        assert m.snapshot() == {}
    assert old.calls[c.BPF_MAP_GET_NEXT_KEY] > 40


@pytest.mark.guest
def test_a_walk_by_keys_survives_deletions_under_it(backend: Backend) -> None:
    old = _without_batches(backend, 22)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=100, backend=old) as m:
        m.update({i: i for i in range(100)})
        seen = []
        for keys, _ in m.batches(1):
            seen += keys
            m.delete_many(keys)  # the walk stands on what is deleted, and restarts
        assert sorted(seen) == list(range(100))
        assert len(m) == 0


@pytest.mark.guest
def test_a_walk_that_never_ends_is_given_up(backend: Backend) -> None:
    old = _without_batches(backend, 22)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, backend=old) as m:
        fresh = iter(range(1, 10**6))

        def replace_all_under_the_walk() -> None:
            m[0] = 0
            for keys, _ in m.batches(1):
                m.delete_many(keys)
                m[next(fresh)] = 0

        with pytest.raises(rawbpf.IterationAborted, match="steps"):
            replace_all_under_the_walk()


@pytest.mark.guest
def test_syscalls_per_operation_are_counted(backend: Backend) -> None:
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1000, backend=traced) as m:

        def count(operation: Callable[[], object]) -> int:
            calls.clear()
            operation()
            return len(calls)

        assert m.many_path  # which loads programs, where there are any
        one_or_two = (1, 2)  # in two the first key by a system call of its own, and the others by one program
        assert count(lambda: m.update({i: i for i in range(1000)})) in one_or_two
        assert count(lambda: m[1]) == 1
        assert count(lambda: m.get(10**6)) == 1
        assert count(lambda: 5 in m) == 1
        assert count(lambda: m.__setitem__(5, 5)) == 1
        assert count(lambda: m.put(5, 5, 2)) == 1
        assert count(lambda: m.__delitem__(5)) == 1
        assert count(m.snapshot) <= 2
        assert count(lambda: m.delete_many(range(6, 500))) in one_or_two
        assert count(m.clear) <= 2


@pytest.mark.guest
def test_a_closed_map_ends_an_iteration_with_closed(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=100) as m:
        m.update({i: i for i in range(100)})
        batches = m.batches(10)
        next(batches)
        m.close()
        with pytest.raises(rawbpf.Closed):
            list(batches)


@pytest.mark.guest
@pytest.mark.parametrize("key", ["u8", "u16", "u32", 40])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_buckets_larger_than_a_chunk_are_read_with_more_room_from_where_they_stand(
    backend: Backend, key: Any, n: int
) -> None:
    # Without a random seed the elements lie in the buckets in one way: some of them hold three of 64.
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    with rawbpf.HashMap.create(key=key, value="u32", max_entries=64, flags=c.BPF_F_ZERO_SEED, backend=traced) as m:
        keys = [i.to_bytes(40, "big") if key == 40 else i for i in range(64)]
        m.update((each, i) for i, each in enumerate(keys))
        for remove in (False, True):
            calls.clear()
            found = (
                list(m.drain(n)) if remove else list(zip(*map(_joined, zip(*m.batches(n), strict=True)), strict=True))
            )
            assert sorted(found) == [(each, i) for i, each in enumerate(keys)]
            if n == 1:
                grown = [call for call in calls if call.errno == 28]
                assert grown
                assert all(call.fields["count"] == n for call in grown[:1])
        assert len(m) == 0


def _joined(lists: tuple[list[Any], ...]) -> list[Any]:
    return [each for some in lists for each in some]


@pytest.mark.guest
def test_many_elements_are_handed_over_in_portions_of_bounded_size(backend: Backend) -> None:
    calls: list[Call] = []
    count = 2 * DEFAULT_CHUNK + 10
    with rawbpf.HashMap.create(
        key="u32",
        value="u32",
        max_entries=count,
        flags=c.BPF_F_RDONLY_PROG,  # so that no program does it
        backend=TraceBackend(backend, calls.append),
    ) as m:
        read_ahead = []

        def produced() -> Iterator[tuple[int, int]]:
            for i in range(count):
                yield i, i
                if i % DEFAULT_CHUNK == 0:
                    read_ahead.append(len(m))

        calls.clear()
        m.update(produced())
        assert read_ahead == [0, DEFAULT_CHUNK, 2 * DEFAULT_CHUNK]
        stored = [call.fields["count"] for call in calls if str(call).startswith("bpf(map_update_batch")]
        assert stored == [DEFAULT_CHUNK, DEFAULT_CHUNK, 10]
        calls.clear()
        assert m.delete_many(iter(range(count))) == count
        assert len(calls) == 3


@pytest.mark.guest
def test_wide_values_go_in_smaller_portions(backend: Backend) -> None:
    calls: list[Call] = []
    width = 1 << 20
    with rawbpf.Map.create(
        "hash", key="u32", value=width, max_entries=20, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.update({i: bytes(width) for i in range(20)})
        assert m.count() == 20
        written = [call.fields["count"] for call in calls if str(call).startswith("bpf(map_update_batch")]
        assert written == [15, 5]
        asked = [call.fields["count"] for call in calls if str(call).startswith("bpf(map_lookup_batch")]
        assert max(int(count) for count in asked) == 15


def test_a_full_map_counts_the_elements_of_all_portions(backend: Backend) -> None:
    room = DEFAULT_CHUNK + 100
    for one_by_one in (False, True):
        inner: Backend = _without_batches(backend, 22) if one_by_one else backend
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=room, backend=inner) as m:
            with pytest.raises(rawbpf.MapFull) as caught:
                m.put_many((i, i) for i in range(2 * DEFAULT_CHUNK))
            assert caught.value.applied == room
            assert m.count() == room


@pytest.mark.guest
def test_what_cannot_be_encoded_in_a_later_portion_of_an_iterator_tells_what_was_stored(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=2 * DEFAULT_CHUNK) as m:
        pairs = [(i, i) for i in range(DEFAULT_CHUNK)] + [(-1, 0)]
        with pytest.raises(OverflowError, match=r"\[0\]: expected"):
            m.update(pairs)
        assert m.count() == 0  # a list is encoded before the first is stored
        with pytest.raises(OverflowError) as caught:
            m.update(iter(pairs))
        assert caught.value.__notes__ == [f"{DEFAULT_CHUNK} elements before it were applied"]
        assert vars(caught.value)["applied"] == m.count() == DEFAULT_CHUNK


@pytest.mark.guest
def test_an_iterator_that_raises_tells_what_was_stored_before(backend: Backend) -> None:
    def pairs(count: int) -> Iterator[tuple[int, int]]:
        for i in range(count):
            yield i, i
        raise ConnectionError("no more")

    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=2 * DEFAULT_CHUNK) as m:
        with pytest.raises(ConnectionError) as caught:
            m.update(pairs(DEFAULT_CHUNK - 1))
        assert "applied" not in vars(caught.value)
        assert m.count() == 0
        with pytest.raises(ConnectionError) as caught:
            m.update(pairs(DEFAULT_CHUNK + 1))
        assert vars(caught.value)["applied"] == m.count() == DEFAULT_CHUNK


@pytest.mark.guest
@pytest.mark.parametrize("pairs", [[1, 2], [(1, 2, 3)], 5, [(1,)]])
def test_what_is_no_pair_is_refused(backend: Backend, pairs: Any) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=2) as m:
        with pytest.raises(TypeError):
            m.update(pairs)
        assert m.count() == 0


def test_a_dict_that_changes_while_it_is_read_is_refused(backend: Backend) -> None:
    class Changing(dict[int, int]):
        def values(self) -> Any:
            self[len(self)] = 0
            return super().values()

    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8, backend=backend) as m:
        with pytest.raises(RuntimeError, match="changed by another thread"):
            m.update(Changing({0: 1}))
        assert m.snapshot() == {}


@pytest.mark.guest
@pytest.mark.parametrize("kind", ["hash", "lru_hash", "array"])
def test_noexist_and_exist_are_minded_in_batches(backend: Backend, kind: str) -> None:
    with rawbpf.Map.create(kind, key="u32", value="u32", max_entries=16) as m:
        m.update({1: 1, 2: 2})
        with pytest.raises(rawbpf.KeyExists) as caught:
            m.update([(5, 5), (2, 22), (6, 6)], c.BPF_NOEXIST)
        assert caught.value.applied == (0 if kind == "array" else 1)  # an array has every index
        assert caught.value.key == (5 if kind == "array" else 2)
        m.update({1: 11, 2: 22}, flags=c.BPF_EXIST)
        assert (m[1], m[2]) == (11, 22)
        if kind != "array":
            with pytest.raises(rawbpf.KeyNotFound) as missing:
                m.put_many({1: 111, 9: 9}, c.BPF_EXIST)
            assert (missing.value.applied, missing.value.key) == (1, 9)
            assert m.snapshot() == {1: 111, 2: 22, 5: 5}


@pytest.mark.guest
def test_flags_that_no_batch_takes_are_refused_with_the_reason(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        with pytest.raises(rawbpf.BpfError, match="BPF_F_LOCK needs a bpf_spin_lock") as caught:
            m.update({1: 1}, c.BPF_F_LOCK)
        assert caught.value.applied == 0
        with pytest.raises(rawbpf.BpfError, match="one of BPF_ANY"):
            m.update({1: 1}, 3)
        m[1] = 1
        with pytest.raises(rawbpf.BpfError, match="BPF_F_LOCK needs"):
            list(m.batches(flags=c.BPF_F_LOCK))
        assert m.snapshot() == {1: 1}


@pytest.mark.guest
@pytest.mark.parametrize("kind", ["hash", "array"])
def test_locked_values_are_read_and_stored_under_their_lock(backend: Backend, kind: str) -> None:
    calls: list[Call] = []
    value = _locked_pair()
    with rawbpf.Map.create(
        kind, key="u32", value=value, max_entries=4, backend=TraceBackend(backend, calls.append)
    ) as m:
        raw: Any = m.raw
        keys = range(4) if kind == "array" else [struct.pack("I", i) for i in range(4)]
        stored = {key: struct.pack("3I", 0, i, i * 10) for i, key in enumerate(keys)}
        raw.update(stored, c.BPF_F_LOCK)
        read = [zip(keys, values, strict=True) for keys, values in raw.batches(2, flags=c.BPF_F_LOCK)]
        assert dict(chain(*read)) == stored
        batches = [call for call in calls if "batch" in str(call)]
        assert batches
        assert all(call.fields["elem_flags"] == c.BPF_F_LOCK and call.errno in (0, 2, 28) for call in batches)


def _locked_pair() -> Any:
    builder = Builder()
    u32 = builder.int("unsigned int", 4)
    lock = builder.struct("bpf_spin_lock", 4, [("val", u32, 0)])
    builder.struct("pair", 12, [("lock", lock, 0), ("a", u32, 32), ("b", u32, 64)])
    return Btf.from_bytes(builder.to_bytes())["pair"]


@pytest.mark.guest
def test_an_element_that_a_batch_refuses_is_named_by_the_error_of_the_element(backend: Backend) -> None:
    key = {"bits": "u32", "address": "ipv4"}
    with rawbpf.Map.create("lpm_trie", key=key, value="u32", max_entries=8) as m:
        good, bad = struct.pack("I", 8), struct.pack("I", 33)
        with pytest.raises(rawbpf.BpfError, match="map_update_elem") as caught:
            m.raw.update([(good + bytes([10, 0, 0, 0]), bytes(4)), (bad + bytes(4), bytes(4))])
        assert (caught.value.applied, caught.value.errno) == (1, 22)
        assert m.count() == 1
        with pytest.raises(rawbpf.BpfError, match="map_delete_elem") as caught:
            m.raw.delete_many([good + bytes([10, 0, 0, 0]), bad + bytes(4)])
        assert caught.value.applied == 1


@pytest.mark.guest
def test_delete_many_counts_missing_and_repeated_keys_exactly(backend: Backend) -> None:
    for inner in (backend, _without_batches(backend, 524)):
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=64, backend=inner) as m:
            m.update({i: i for i in range(10)})
            assert m.delete_many([3, 3, 100, 4, 100, 3, 9]) == 3
            assert m.delete_many([3, 4, 9]) == 0
            assert m.delete_many(iter([0, 0])) == 1
            assert sorted(m) == [1, 2, 5, 6, 7, 8]
            with pytest.raises(OverflowError):
                m.delete_many([1, -1])
            assert 1 in m


class _Busy(FaultBackend):
    # A bucket in the middle of a batch is busy; the kernel says how many elements it had read by then.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_MAP_LOOKUP_BATCH and self.calls[cmd] == 2 and result == 0:
            ctypes.set_errno(16)
            return -1
        return result


@pytest.mark.guest
def test_reading_goes_on_behind_a_busy_bucket_and_gives_up_at_one(backend: Backend) -> None:
    busy = _Busy(backend, {})
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=64, backend=busy) as m:
        m.update({i: i for i in range(64)})
        assert sorted(key for keys, _ in m.batches(16) for key in keys) == list(range(64))
        busy.fail(c.BPF_MAP_LOOKUP_BATCH, [(busy.calls[c.BPF_MAP_LOOKUP_BATCH] + 1, 16)])
        with pytest.raises(rawbpf.BpfError, match="try again"):
            list(m)


class _Vanishing(FaultBackend):
    # Before 6.14: keys vanish under the walk, which ends in EINTR with no element read; asked again for 0, it gives 0.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_MAP_LOOKUP_BATCH and self.calls[cmd] < 3:
            self.calls[cmd] += 1
            ctypes.c_uint32.from_address(ctypes.addressof(attr._obj) + 32).value = 0  # type: ignore[attr-defined]  # of byref()
            return 0
        return super().intercept(call, cmd, attr, size)


@pytest.mark.guest
def test_a_walk_under_which_keys_vanish_is_repeated_from_where_it_stood(backend: Backend) -> None:
    key = {"bits": "u32", "address": "ipv4"}
    with rawbpf.Map.create("lpm_trie", key=key, value="u32", max_entries=8, backend=_Vanishing(backend, {})) as m:
        m.raw.update([(struct.pack("I", 32) + bytes([10, 0, 0, i]), bytes(4)) for i in range(8)])
        assert m.count() == 8
