"""A snapshot of a simulator brings back maps, programs, ids and pins, however often it is restored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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


def _tree(sim: Simulator) -> dict[str, tuple[str, int, str]]:
    """What lies in the bpf file system: the name of the map that each pin leads to, links and mode; "" for no pin."""
    found = {}
    for path in sorted(each for each in Path(sim.bpffs).rglob("*") if not each.is_dir()):
        try:
            with rawbpf.Map.from_pin(path) as m:
                name = m.name
        except rawbpf.BpfError:
            name = ""
        status = path.stat()
        found[str(path.relative_to(sim.bpffs))] = (name, status.st_nlink, oct(status.st_mode & 0o777))
    return found


def _rename(root: Path) -> None:
    (root / "d" / "p").rename(root / "q")


def _rename_the_directory(root: Path) -> None:
    (root / "d").rename(root / "e")


def _swap(root: Path) -> None:
    (root / "o").rename(root / "x")
    (root / "d" / "p").rename(root / "o")
    (root / "x").rename(root / "d" / "p")


def _link(root: Path) -> None:
    (root / "more").hardlink_to(root / "d" / "p")


def _unlink_one_of_two(root: Path) -> None:
    (root / "linked").unlink()


def _remove(root: Path) -> None:
    (root / "linked").unlink()
    (root / "o").unlink()
    (root / "d" / "p").unlink()
    (root / "d").rmdir()


def _rename_over(root: Path) -> None:
    (root / "o").rename(root / "d" / "p")


def _change_the_mode(root: Path) -> None:
    (root / "o").chmod(0o640)


@pytest.mark.parametrize(
    "change",
    [_rename, _rename_the_directory, _swap, _link, _unlink_one_of_two, _remove, _rename_over, _change_the_mode],
    ids=lambda change: change.__name__.strip("_"),
)
def test_pins_get_their_names_back(sim: Simulator, change: Callable[[Path], None]) -> None:
    root = Path(sim.bpffs)
    (root / "d").mkdir()
    with (
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="one") as one,
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="other") as other,
    ):
        one.pin(root / "d" / "p")
        (root / "linked").hardlink_to(root / "d" / "p")
        (root / "linked").chmod(0o644)
        other.pin(root / "o")
        (root / "file").touch()
        expected, before = _tree(sim), sim.snapshot()
        assert expected["d/p"] == expected["linked"] == ("one", 2, "0o644")
        for _ in range(2):
            change(root)
            assert _tree(sim) != expected
            sim.restore(before)
            assert _tree(sim) == expected


def test_a_pin_made_since_loses_all_its_names_and_other_files_stay(sim: Simulator) -> None:
    root, before = Path(sim.bpffs), sim.snapshot()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m.pin(root / "a")
        (root / "b").hardlink_to(root / "a")
        (root / "file").touch()
        sim.restore(before)
    assert os.listdir(root) == ["file"]


def test_where_a_pin_cannot_be_made_again_nothing_changes(sim: Simulator) -> None:
    root = Path(sim.bpffs)
    (root / "d").mkdir()
    with (
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="old") as old,
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="gone") as gone,
    ):
        old.pin(root / "old")
        (root / "new").mkdir()
        gone.pin(root / "new" / "gone")
        gone.pin(root / "d" / "p")
        before = sim.snapshot()
        for name in ("new/gone", "d/p"):
            (root / name).unlink()
        (root / "new").rmdir()
        (root / "d").rmdir()
        (root / "d").touch()
        (root / "old").rename(root / "renamed")
        with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="later") as later:
            later.pin(root / "later")
            later[1] = 1
            expected = _tree(sim)
            descriptors = set(os.listdir("/proc/self/fd"))
            for _ in range(2):
                with pytest.raises(FileExistsError):
                    sim.restore(before)
                assert set(os.listdir("/proc/self/fd")) == descriptors
                assert later[1] == 1
                assert _tree(sim) == expected
        (root / "d").unlink()
        sim.restore(before)
        assert set(_tree(sim)) == {"old", "new/gone", "d/p"}
        with rawbpf.Map.from_pin(root / "d" / "p") as found:
            assert found.name == "gone"
    # None that it closed on the way: the simulator's end closes nothing of ours.
    mine = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(8)]
    sim.shut_down()
    for fd in mine:
        os.close(fd)


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
