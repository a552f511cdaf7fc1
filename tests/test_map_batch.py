"""Whole maps go by batch, whatever the chunk, and one by one where there is no batch."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

BATCHES = (
    c.BPF_MAP_LOOKUP_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    c.BPF_MAP_UPDATE_BATCH,
    c.BPF_MAP_DELETE_BATCH,
)


def _without_batches(backend: Backend, errno: int) -> FaultBackend:
    return FaultBackend(backend, {cmd: [(n, errno) for n in range(1, 100)] for cmd in BATCHES})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 16384])
def test_every_chunk_size_yields_each_element_once(backend: Backend, size: int) -> None:
    content = {random.Random(size).getrandbits(32) ^ i: i for i in range(64)}
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=64) as m:
        m.update(content)
        found = [pair for keys, values in m.batches(size) for pair in zip(keys, values, strict=True)]
        assert sorted(found) == sorted(content.items())


def test_a_chunk_has_at_least_one_element(backend: Backend) -> None:
    with (
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m,
        pytest.raises(ValueError, match="at least one"),
    ):
        list(m.batches(0))


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


def test_syscalls_per_operation_are_counted(backend: Backend) -> None:
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1000, backend=traced) as m:

        def count(operation: Callable[[], object]) -> int:
            calls.clear()
            operation()
            return len(calls)

        assert count(lambda: m.update({i: i for i in range(1000)})) == 1
        assert count(lambda: m[1]) == 1
        assert count(lambda: m.get(10**6)) == 1
        assert count(lambda: 5 in m) == 1
        assert count(lambda: m.__setitem__(5, 5)) == 1
        assert count(lambda: m.put(5, 5, 2)) == 1
        assert count(lambda: m.__delitem__(5)) == 1
        assert count(m.snapshot) <= 2
        assert count(lambda: m.delete_many(range(6, 500))) == 1
        assert count(m.clear) <= 2


def test_a_closed_map_ends_an_iteration_with_closed(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=100) as m:
        m.update({i: i for i in range(100)})
        batches = m.batches(10)
        next(batches)
        m.close()
        with pytest.raises(rawbpf.Closed):
            list(batches)
