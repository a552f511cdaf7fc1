"""From a compiled object to live counts on the real kernel."""

from __future__ import annotations

import os

import pytest
from support.execs import execute_as
from support.objects import native

import rawbpf

# Of this process alone: two suites may run at once.
UID = 100_000 + 2 * os.getpid()
OTHER = UID + 1

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs("kernel", "capability:CAP_SETUID", "capability:CAP_PERFMON", "module:elftools"),
]


def test_a_hundred_executions_are_counted_as_exactly_a_hundred() -> None:
    with rawbpf.load(native("execcount")) as obj:
        links = obj.attach()
        assert len(links) == 1
        assert links.skipped == []
        execute_as(UID, 100)
        assert obj.maps["exec_count"][UID] == 100
        assert OTHER not in obj.maps["exec_count"]
        assert obj.variables["dropped"].value == 0


@pytest.mark.guest
def test_nothing_is_counted_before_attaching_and_after_detaching() -> None:
    with rawbpf.load(native("execcount")) as obj:
        execute_as(UID, 2)
        with obj.attach():
            execute_as(UID, 3)
        execute_as(UID, 5)
        assert obj.maps["exec_count"].snapshot()[UID] == 3


@pytest.mark.guest
def test_the_uid_filter_switches_counting_on_and_off_while_attached() -> None:
    with rawbpf.load(native("uid_filter")) as obj:
        counted, counts = obj.maps["counted_uids"], obj.maps["exec_count"]
        obj.attach()
        execute_as(UID, 2)
        assert UID not in counts
        counted[UID] = True
        execute_as(UID, 3)
        execute_as(OTHER, 4)
        assert counts.get(UID) == 3
        counted[UID] = False
        execute_as(UID, 5)
        assert counts.snapshot() == {UID: 3}


@pytest.mark.guest
def test_a_map_filled_before_attaching_is_read_by_the_program() -> None:
    with rawbpf.load(native("uid_filter")) as obj:
        obj.maps["counted_uids"].update({UID: True, OTHER: False})
        obj.attach()
        execute_as(UID, 7)
        execute_as(OTHER, 7)
        assert obj.maps["exec_count"].snapshot() == {UID: 7}


@pytest.mark.guest
def test_exec_details_returns_a_record_with_the_name_of_the_program() -> None:
    with rawbpf.load(native("exec_details")) as obj:
        obj.attach()
        before = rawbpf.clock.wall(0)
        execute_as(UID, 3, "/bin/true")
        execute_as(UID, 1, "/bin/echo")
        record = obj.maps["exec_details"][UID]
        assert record.comm == "echo"
        assert record.count == 4
        assert rawbpf.clock.wall(record.last_ns) > before
        assert record.asdict().keys() == {"count", "last_ns", "comm"}


@pytest.mark.guest
def test_per_cpu_statistics_are_summed() -> None:
    with rawbpf.load(native("percpu_stats")) as obj:
        obj.attach()
        execute_as(UID, 3, "/bin/pwd")
        stats = obj.maps["write_stats"][UID]
        assert len(stats) == obj.backend.host.possible_cpus
        assert stats.sum().calls == 3


@pytest.mark.guest
def test_an_edited_variable_changes_what_is_counted() -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.variables["min_uid"].value = OTHER
    with spec.load() as obj:
        obj.attach()
        execute_as(UID, 2)
        execute_as(OTHER, 3)
        counts = obj.maps["exec_count"].snapshot()
        assert UID not in counts
        assert counts[OTHER] == 3


@pytest.mark.guest
def test_a_full_map_is_told_by_the_variable_of_the_program() -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.maps["exec_count"].max_entries = 1
    # Above every other user, so that nobody else is counted or dropped.
    highest = 4_000_000_000 + UID
    spec.variables["min_uid"].value = highest
    with spec.load() as obj:
        obj.attach()
        execute_as(highest, 1)
        execute_as(highest + 1, 2)
        assert obj.maps["exec_count"].snapshot() == {highest: 1}
        assert obj.variables["dropped"].value == 2
        obj.variables["dropped"].value = 0
        execute_as(highest + 1, 1)
        assert obj.variables["dropped"].value == 1
