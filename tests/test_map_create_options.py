"""Options of creating that only some types take: the NUMA node, and map_extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs
from support.map_shapes import PAGE
from support.objects import native

import rawbpf
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

EXECCOUNT = native("execcount")
NO_NODE = 1 << 20
"""More than any kernel is built for."""

HASH: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": 8}
WITH_NODE = [
    pytest.param("hash", HASH, id="hash"),
    pytest.param("lru_hash", HASH, id="lru_hash"),
    pytest.param("array", {"value": "u64", "max_entries": 8}, id="array"),
    pytest.param("lpm_trie", {"key": {"prefixlen": "u32", "data": "u32"}, "value": 4, "max_entries": 8}, id="lpm_trie"),
    pytest.param("queue", {"value": 4, "max_entries": 8}, id="queue"),
    pytest.param("ringbuf", {"max_entries": PAGE}, id="ringbuf"),
    pytest.param("perf_event_array", {}, id="perf_event_array"),
]
WITHOUT_NODE = [
    pytest.param("percpu_hash", HASH, id="percpu_hash"),
    pytest.param("percpu_array", {"value": "u64", "max_entries": 8}, id="percpu_array"),
    pytest.param("arena", {"max_entries": 1}, id="arena"),
]
WITHOUT_EXTRA = [each for each in (*WITH_NODE, *WITHOUT_NODE) if each.id != "arena"]


@pytest.mark.parametrize(("kind", "options"), WITH_NODE)
def test_a_numa_node_is_taken_and_shown(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    with rawbpf.Map.create(kind, **options) as plain, rawbpf.Map.create(kind, numa_node=0, **options) as placed:
        # The kernel tells that there is a node, and not which.
        assert not plain.info.map_flags & c.BPF_F_NUMA_NODE
        assert placed.info.map_flags & c.BPF_F_NUMA_NODE


@pytest.mark.parametrize(("kind", "options"), WITH_NODE)
def test_a_numa_node_that_does_not_exist_is_said(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(rawbpf.BpfError, match=rf"EINVAL: NUMA node {NO_NODE} may not be online; /sys/.*/online"):
        rawbpf.Map.create(kind, numa_node=NO_NODE, **options)


@pytest.mark.parametrize(("kind", "options"), WITHOUT_NODE)
def test_a_type_that_has_no_numa_node_says_so(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(rawbpf.BpfError, match=rf"an? {kind} map does not take the flag BPF_F_NUMA_NODE"):
        rawbpf.Map.create(kind, numa_node=0, **options)


def test_the_numa_node_of_a_specification_is_taken(backend: Backend) -> None:
    spec = MapSpec("placed", c.BPF_MAP_TYPE_HASH, 4, 4, 8, numa_node=0)
    with create_from_spec(backend, spec, name="placed") as placed:
        assert placed.info.map_flags == c.BPF_F_NUMA_NODE
    spec.numa_node = NO_NODE
    with pytest.raises(rawbpf.BpfError, match=f"NUMA node {NO_NODE} may not be online"):
        create_from_spec(backend, spec, name="placed")


@pytest.mark.parametrize("node", [-1, 1 << 32], ids=["negative", "too large"])
def test_a_numa_node_that_is_no_u32_is_refused_before_the_kernel_is_asked(backend: Backend, node: int) -> None:
    with pytest.raises(OverflowError, match=f"numa_node={node}: expected an int in 0"):
        rawbpf.HashMap.create(numa_node=node, **HASH)


@pytest.mark.parametrize(("kind", "options"), WITHOUT_EXTRA)
def test_map_extra_is_refused_by_types_that_have_none(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(rawbpf.BpfError, match=rf"EINVAL: map_extra must be 0 for an? {kind} map$"):
        rawbpf.Map.create(kind, map_extra=1, **options)


@pytest.mark.needs("map_type:bloom_filter", "map_type:arena")
def test_map_extra_is_shown(backend: Backend) -> None:
    # Linux 6.18 has two types that take it.
    with rawbpf.Map.create("bloom_filter", value="u32", max_entries=8, map_extra=3) as bloom:
        assert bloom.info.map_extra == 3
    with rawbpf.ArenaMap.create(max_entries=1, map_extra=0x5EED_0000_0000) as arena:
        assert arena.info.map_extra == 0x5EED_0000_0000


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize(
    ("field", "value", "difference"),
    [
        pytest.param("map_extra", 7, "map_extra 0 instead of 7", id="map_extra"),
        pytest.param("numa_node", 0, "flags 0x0 instead of 0x4", id="numa_node"),
    ],
)
def test_a_pin_that_was_made_without_an_option_does_not_fit(
    backend: Backend, field: str, value: int, difference: str
) -> None:
    spec = rawbpf.ObjectSpec.from_file(EXECCOUNT)
    spec.maps["exec_count"].pinning = 1
    with bpffs(backend) as pins, spec.load(pin_dir=pins):
        setattr(spec.maps["exec_count"], field, value)
        with pytest.raises(rawbpf.SpecError, match=difference):
            spec.load(pin_dir=pins)
