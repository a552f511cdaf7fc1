"""Every operation comes to what the model of its map says, on each kernel, and to the same on all of them.

And between them, operations fall into every cell of the tables of answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support import oracle

from rawbpf.testing.cells import CELLS, TABLES, Cell, Seen
from rawbpf.testing.machine import FAMILIES
from rawbpf.testing.model import MODELS
from rawbpf.testing.strategies import MAP_TYPES

# A short run covers these; one of 20,000 operations for each type, all.
_COVERED = ("array", "lpm_trie", "queue")


@pytest.mark.guest
@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_a_map_does_what_its_model_does(map_type: str, record_property: Callable[[str, object], None]) -> None:
    oracle.require(map_type)
    seen = Seen()
    started = time.monotonic()
    with oracle.stages(map_type) as stages:
        count = oracle.explore(map_type, stages, seen, oracle.OPERATIONS)
    each = (time.monotonic() - started) / count * 1e6
    assert count >= oracle.OPERATIONS
    record_property("operations", count)
    record_property("microseconds", round(each))
    record_property("seed", oracle.SEED)
    record_property("cells not seen", "; ".join(map(str, seen.missing(map_type))))


@pytest.mark.parametrize("map_type", MAP_TYPES if oracle.OPERATIONS >= oracle.FULL else _COVERED)
def test_operations_fall_into_every_cell(map_type: str) -> None:
    oracle.require(map_type)
    seen = Seen()
    with oracle.stages(map_type) as stages:
        for number in range(40):
            oracle.explore(map_type, stages, seen, oracle.FULL // 10, oracle.SEED + 100 * number)
            if not seen.missing(map_type):
                break
    assert not [str(cell) for cell in seen.missing(map_type)]


def test_the_tables_the_models_and_the_families_are_of_the_same_types() -> None:
    assert set(TABLES) == set(MODELS) == {each for family in FAMILIES.values() for each in family}
    assert Cell("hash", "update", "NOEXIST, existing") in CELLS
    assert Cell("reuseport_sockarray", "update", "NOEXIST, replaced") not in CELLS
