"""A snapshot of a simulator brings back maps, programs, ids and pins, however often it is restored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import rawbpf
from rawbpf.sim import Simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(cpus=2) as simulator, rawbpf.using(simulator):
        yield simulator


def test_what_a_map_held_comes_back_each_time(sim: Simulator) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m.update({1: 10, 2: 20})
        before = sim.snapshot()
        for value in (5, 6):
            m[1] = value
            del m[2]
            sim.restore(before)
            assert m.snapshot() == {1: 10, 2: 20}


def test_a_mapping_shows_the_restored_bytes(sim: Simulator) -> None:
    with rawbpf.ArrayMap.create(value="u64", max_entries=2) as m:
        view = m.memory()
        view[0] = 7
        before = sim.snapshot()
        view[0] = 8
        sim.restore(before)
        assert (view[0], m[0]) == (7, 7)
        view[1] = 9
        assert m[1] == 9
        del view


def test_a_map_made_since_is_gone_with_its_id(sim: Simulator) -> None:
    before = sim.snapshot()
    later = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4)
    sim.restore(before)
    assert list(rawbpf.maps()) == []
    with pytest.raises(rawbpf.BpfError):
        later.get(1)
    later.close()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as again:
        assert again.id == 1


def test_a_map_closed_since_lives_on_where_it_was_pinned(sim: Simulator) -> None:
    path = Path(sim.bpffs) / "kept"
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m[1] = 2
        m.pin(path)
        before = sim.snapshot()
    path.unlink()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as other:
        other.pin(Path(sim.bpffs) / "later")
        sim.restore(before)
        assert os.listdir(sim.bpffs) == ["kept"]
    with rawbpf.Map.from_pin(path) as found:
        assert found[1] == 2


def test_the_same_chance_comes_again(sim: Simulator) -> None:
    def order() -> list[int]:
        with rawbpf.HashMap.create(key="u32", value="u64", max_entries=64) as m:
            m.update(dict.fromkeys(range(64), 0))
            return list(m.keys())

    before = sim.snapshot()
    first, second = order(), order()
    assert first != second
    sim.restore(before)
    assert order() == first


def test_a_snapshot_of_another_simulator_is_refused(sim: Simulator) -> None:
    with Simulator() as other, pytest.raises(ValueError, match="another simulator"):
        sim.restore(other.snapshot())
