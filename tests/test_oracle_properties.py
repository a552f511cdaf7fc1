"""Laws of maps that hold whatever is in them: what fails changes nothing, and every way to read tells the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st
from support import oracle
from support.affinity import on_one_cpu

from rawbpf.testing import pool
from rawbpf.testing.cells import CELLS, KEYLESS, TABLES, Cell
from rawbpf.testing.operation import LAST, VERBS, Operation, Outcome, Value
from rawbpf.testing.party import Meeting, Party
from rawbpf.testing.spec import MapSpec
from rawbpf.testing.stage import Stage
from rawbpf.testing.strategies import MAP_TYPES, map_specs
from rawbpf.uapi import constants as c

_LRU = ("lru_hash", "lru_percpu_hash")
_GONE = Outcome("ENOENT")
_BATCHED = [each for each in MAP_TYPES if Cell(each, "lookup_batch", "always") not in CELLS]


@contextmanager
def _party(stage: Stage, spec: MapSpec) -> Iterator[Party]:
    stage.renew()
    party = Party(stage.backend, spec, stage.objects)
    try:
        yield party
    finally:
        party.close()


def _contents(party: Party) -> list[Outcome]:
    # What can be read of a map: every key that is tried, or what comes out of a queue next.
    keys = pool.keys(party.spec) or (None,)
    return [party.perform(Operation("lookup", key)) for key in keys]


def _may_change(operation: Operation, outcome: Outcome) -> bool:
    # A failed command that has had an effect: an element is gone that could not be handed over, or a batch came to some
    # of its elements.
    if operation.verb in {"lookup_and_delete", "lookup_and_delete_batch"}:
        return outcome.error == "EFAULT" or bool(outcome.count)
    return operation.verb in {"update_batch", "delete_batch"} and bool(outcome.count)


def _unchanged(operation: Operation, before: list[Outcome], after: list[Outcome], map_type: str) -> bool:
    # An LRU table evicts before it looks at flags. Source: kernel/bpf/hashtab.c:htab_lru_map_update_elem (v6.18)
    if map_type in _LRU and operation.verb in {"update", "update_batch"}:
        return all(now in (was, _GONE) for was, now in zip(before, after, strict=True))
    return after == before


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_a_command_that_fails_changes_nothing(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:

        @oracle.for_all(oracle.cases(map_type, stages[0].backend.host.possible_cpus, 40))
        def frame(case: tuple[MapSpec, list[Operation]]) -> None:
            spec, program = case
            for stage in stages:
                with _party(stage, spec) as party:
                    before = _contents(party)
                    for operation in program:
                        outcome = party.perform(operation)
                        after = _contents(party)
                        if outcome.error and not _may_change(operation, outcome):
                            assert _unchanged(operation, before, after, map_type), (operation, outcome)
                        if operation.verb in {"lookup", "next_key", "lookup_batch", "info"}:
                            assert after == before, (operation, outcome)
                        before = after


def _walk(party: Party) -> list[Value]:
    found: list[Value] = []
    key: Value | None = None
    while True:
        outcome = party.perform(Operation("next_key", key))
        if outcome.value is None:
            return found
        found.append(key := outcome.value)
        assert len(found) <= 100


def _batches(party: Party, size: int, verb: str = "lookup_batch") -> list[tuple[Value, Value]]:
    found: list[tuple[Value, Value]] = []
    cursor: Value | None = None
    while True:
        outcome = party.perform(Operation(verb, count=size, cursor=cursor))
        if outcome.error == "ENOSPC":
            size += 1  # a bucket that is larger: the same cursor goes on with more room
        else:
            found += zip(outcome.keys, outcome.values, strict=True)
            if outcome.error:
                assert outcome.error == "ENOENT"
                return found
        cursor = LAST if outcome.cursor is not None else cursor
        assert len(found) <= 100


def _filled(party: Party, program: list[Operation]) -> None:
    for operation in program:
        if operation.verb != "freeze":
            party.perform(operation)


@pytest.mark.parametrize("map_type", _BATCHED)
def test_a_walk_and_batches_of_every_size_and_lookups_tell_the_same(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:

        @oracle.for_all(oracle.cases(map_type, stages[0].backend.host.possible_cpus, 20))
        def agreement(case: tuple[MapSpec, list[Operation]]) -> None:
            spec, program = case
            for stage in stages:
                with _party(stage, spec) as party:
                    _filled(party, program)
                    looked_up = [(key, party.perform(Operation("lookup", key))) for key in _walk(party)]
                    expected = Counter((key, each.value) for key, each in looked_up if not each.error)
                    for size in range(1, 2 * len(looked_up) + 2):
                        assert Counter(_batches(party, size)) == expected, size
                    if Cell(map_type, "lookup_and_delete_batch", "always") not in CELLS:
                        assert Counter(_batches(party, 2, "lookup_and_delete_batch")) == expected
                        assert _walk(party) == []


def _same(one: list[Outcome], other: list[Outcome], map_type: str) -> bool:
    # Two LRU tables may have evicted different elements; those that both have are the same.
    if map_type in _LRU:
        return all(mine == yours or _GONE in (mine, yours) for mine, yours in zip(one, other, strict=True))
    return one == other


@pytest.mark.parametrize("map_type", _BATCHED)
def test_a_batch_is_its_elements_one_after_another_up_to_the_first_that_fails(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:
        cpus = stages[0].backend.host.possible_cpus

        @oracle.for_all(st.data(), examples=oracle.examples(map_type))
        def fold(data: st.DataObject) -> None:
            spec = data.draw(map_specs(map_type))
            rows = st.tuples(st.sampled_from(pool.keys(spec)), st.sampled_from(pool.values(spec, cpus)))
            elements = data.draw(st.lists(rows, max_size=8))
            gone = data.draw(st.lists(st.sampled_from(pool.keys(spec)), max_size=4))
            for stage in stages:
                with _party(stage, spec) as one, _party(stage, spec) as other:
                    keys, values = tuple(key for key, _ in elements), tuple(value for _, value in elements)
                    _compare(
                        one.perform(Operation("update_batch", keys=keys, values=values)),
                        (other.perform(Operation("update", key, value)) for key, value in elements),
                    )
                    assert _same(_contents(one), _contents(other), map_type)
                    if Cell(map_type, "delete_batch", "always") not in CELLS and _walk(one) == _walk(other):
                        _compare(
                            one.perform(Operation("delete_batch", keys=tuple(gone))),
                            (other.perform(Operation("delete", key)) for key in gone),
                        )
                        assert _same(_contents(one), _contents(other), map_type)


def _compare(batch: Outcome, singly: Iterator[Outcome]) -> None:
    count, error = 0, ""
    for outcome in singly:
        error = outcome.error
        if error:
            break
        count += 1
    assert (batch.error, batch.count) == (error, count)


def _permitted(verb: str, mode: str, frozen: bool) -> bool:
    reads = verb not in {"update", "delete", "update_batch", "delete_batch", "freeze", "info"}
    writes = verb not in {"lookup", "next_key", "lookup_batch", "info"}
    return not (reads and mode == "w") and not (writes and (mode == "r" or frozen))


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_what_a_descriptor_and_a_frozen_map_forbid_is_forbidden_before_anything_else(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:
        for stage in stages:
            cpus = stage.backend.host.possible_cpus
            spec = next(iter(_plain_specs(map_type)))
            keys: tuple[Value | None, ...] = pool.keys(spec) or (None,)
            rows = pool.keys(spec)[:1] or (b"",)
            for frozen in (False, True):
                with _party(stage, spec) as party:
                    assert not frozen or not party.perform(Operation("freeze")).error
                    for verb in VERBS:
                        if verb == "freeze" and not frozen:
                            continue  # it would freeze it
                        for mode in ("", "r", "w"):
                            operation = Operation(
                                verb, keys[0], pool.values(spec, cpus)[0] if verb == "update" else b"", mode=mode
                            )
                            if verb.endswith("batch"):
                                operation = Operation(verb, keys=rows, values=pool.values(spec, cpus)[:1], mode=mode)
                            refused = party.perform(operation).error == "EPERM"
                            assert refused == (not _permitted(verb, mode, frozen)), (operation, frozen)


def _plain_specs(map_type: str) -> Iterator[MapSpec]:
    found: list[MapSpec] = []

    @oracle.for_all(map_specs(map_type), examples=30)
    def draw(spec: MapSpec) -> None:
        found.append(spec)

    return (spec for spec in found if spec.btf != "lock")


@pytest.mark.parametrize("map_type", _LRU)
def test_an_lru_table_keeps_the_last_and_never_more_than_it_has_room_for(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:
        cpus = stages[0].backend.host.possible_cpus

        @oracle.for_all(map_specs(map_type), st.lists(st.integers(0, 200), max_size=60))
        def invariants(spec: MapSpec, numbers: list[int]) -> None:
            room = spec.max_entries if not spec.flags & c.BPF_F_NO_COMMON_LRU else -(-spec.max_entries // cpus) * cpus
            for stage in stages:
                with _party(stage, spec) as party:
                    value = pool.values(spec, cpus)[1]
                    for number in numbers:
                        key = bytes([number]) + bytes(spec.key_size - 1)
                        assert not party.perform(Operation("update", key, value)).error
                        assert not party.perform(Operation("lookup", key)).error
                    there = _walk(party)
                    assert len(there) == len(set(there)) <= room
                    assert set(there) <= {bytes([number]) + bytes(spec.key_size - 1) for number in numbers}


# Source: kernel/bpf/bpf_lru_list.c: elements that were put once go from the tail of a list that they come to in order;
# those that were put again have the reference bit, and another list. The simulator chooses among the oldest quarter.
@pytest.mark.parametrize("map_type", _LRU)
def test_what_goes_from_an_lru_table_was_put_before_what_was_put_once_and_stays(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages, on_one_cpu():
        cpus = stages[0].backend.host.possible_cpus

        @oracle.for_all(map_specs(map_type), st.binary(min_size=100, max_size=100))
        def ages(spec: MapSpec, numbers: bytes) -> None:
            room = spec.max_entries if not spec.flags & c.BPF_F_NO_COMMON_LRU else -(-spec.max_entries // cpus)
            value = pool.values(spec, cpus)[1]
            for stage in stages:
                with _party(stage, spec) as party:
                    put: dict[bytes, bool] = {}  # in this order; whether it was there before
                    for number in numbers:
                        key = bytes([number]) + bytes(spec.key_size - 1)
                        there = not party.perform(Operation("lookup", key)).error
                        assert not party.perform(Operation("update", key, value)).error
                        put.pop(key, None)
                        put[key] = there
                    stays = set(_walk(party))
                    older = 0
                    for key, again in put.items():
                        assert key in stays or older < max(1, room // 4), (key, numbers)
                        older += key in stays and not again


@pytest.mark.parametrize("map_type", ["hash", "percpu_hash", "devmap_hash", "sockhash"])
def test_the_order_of_a_table_is_that_in_which_its_elements_came(map_type: str) -> None:
    # What is put again comes anew, but for values of CPUs, which change in place.
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:
        cpus = stages[0].backend.host.possible_cpus

        @oracle.for_all(map_specs(map_type), st.binary(min_size=40, max_size=40))
        def order(spec: MapSpec, steps: bytes) -> None:
            value = pool.values(spec, cpus)[0]
            for stage in stages:
                with _party(stage, spec) as one, _party(stage, spec) as other:
                    came: dict[bytes, None] = {}
                    for step in steps:
                        key = bytes([step // 4]) + bytes(spec.key_size - 1)
                        verb = "delete" if step % 4 == 3 else "update"
                        if one.perform(Operation(verb, key, value if verb == "update" else b"")).error:
                            continue
                        if verb == "delete" or map_type != "percpu_hash":
                            came.pop(key, None)
                        if verb == "update":
                            came[key] = None
                    for key in came:
                        assert not other.perform(Operation("update", key, value)).error
                    assert _walk(one) == _walk(other), steps


@pytest.mark.parametrize("map_type", ["bloom_filter"])
def test_a_bloom_filter_denies_nothing_that_was_added(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:

        @oracle.for_all(map_specs(map_type), st.lists(st.integers(0, 1 << 31), max_size=40))
        def invariants(spec: MapSpec, numbers: list[int]) -> None:
            values = [number.to_bytes(4, "little").ljust(spec.value_size, b"\1") for number in numbers]
            for stage in stages:
                with _party(stage, spec) as party:
                    for at, value in enumerate(values):
                        assert not party.perform(Operation("update", None, value)).error
                        assert not any(
                            party.perform(Operation("lookup", None, each)).error for each in values[: at + 1]
                        )


@pytest.mark.parametrize("map_type", [each for each in TABLES if each not in KEYLESS])
def test_two_kernels_of_the_same_make_agree_in_everything(map_type: str) -> None:
    # What two parties are compared in is what does not depend on chance: walks, cursors and info too.
    oracle.require(map_type)
    with oracle.stages(map_type) as stages, oracle.stages(map_type) as others:

        @oracle.for_all(
            oracle.cases(map_type, stages[0].backend.host.possible_cpus), examples=oracle.examples(map_type)
        )
        def agreement(case: tuple[MapSpec, list[Operation]]) -> None:
            with Meeting(case[0], [*stages, *others]) as meeting:
                for operation in case[1]:
                    meeting.perform(operation)
                meeting.walk()
