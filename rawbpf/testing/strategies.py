"""Hypothesis strategies for maps: specs, keys, values, and operations as `rawbpf.testing.operation` has them.

What is drawn is small on purpose: few keys, few entries, and sizes that no kernel suffers from.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from rawbpf.testing import pool
from rawbpf.testing.cells import TABLES
from rawbpf.testing.named import Named
from rawbpf.testing.operation import Operation, Value
from rawbpf.testing.spec import MapSpec
from rawbpf.testing.stage import TEMPLATE
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_number

PAGE = 4096
MAP_TYPES = tuple(TABLES)
"""The map types that can be drawn."""

_FEW = (1, 2, 3, 4, 6, 17, 64)
_HASHES = frozenset({"hash", "percpu_hash", "lru_hash", "lru_percpu_hash"})
_OPTIONAL_FLAGS: dict[str, tuple[int, ...]] = {
    "hash": (0, c.BPF_F_NO_PREALLOC),
    "percpu_hash": (0, c.BPF_F_NO_PREALLOC),
    "lru_hash": (0, c.BPF_F_NO_COMMON_LRU),
    "lru_percpu_hash": (0, c.BPF_F_NO_COMMON_LRU),
    "hash_of_maps": (0, c.BPF_F_NO_PREALLOC),
    "array": (0, c.BPF_F_MMAPABLE),
    "bloom_filter": (c.BPF_F_ZERO_SEED, 0),
}


@st.composite
def map_specs(draw: st.DrawFn, types: str | Iterable[str] = MAP_TYPES) -> MapSpec:
    """Draw the spec of a map that can be made, of one of `types`.

    Hash tables have BPF_F_ZERO_SEED where that exists, so that two kernels walk them in the same order. Bloom filters
    have it or not; with it two kernels give the same false answers.
    Raises: ValueError for an unknown type, and for one of which no maps are drawn (struct_ops).
    """
    wanted = (types,) if isinstance(types, str) else tuple(types)
    for map_type in wanted:
        if map_type not in _SPECS:
            map_type_number(map_type)
            raise ValueError(f"maps of type {map_type} are not drawn; those of {', '.join(MAP_TYPES)} are")
    # Built here and not by the strategy: Hypothesis would show the call of a function of this module.
    return _spec(*draw(_SPECS[draw(st.sampled_from(wanted))]))


def keys(spec: MapSpec) -> st.SearchStrategy[Value]:
    """Draw a key of a map of `spec`, present ones, absent ones and impossible ones."""
    return st.sampled_from(pool.keys(spec))


def values(spec: MapSpec, cpus: int = 1) -> st.SearchStrategy[Value]:
    """Draw a value for a map of `spec`, as long as the kernel reads it on a machine of `cpus` possible CPUs."""
    return st.sampled_from(pool.values(spec, cpus))


def operations(spec: MapSpec, cpus: int = 1) -> st.SearchStrategy[Operation]:
    """Draw one operation on a map of `spec`."""
    return st.sampled_from(pool.operations(spec, cpus))


def programs(spec: MapSpec, cpus: int = 1, length: int = 100) -> st.SearchStrategy[list[Operation]]:
    """Draw up to `length` operations on a map of `spec`: nearly that many, and few where few show a failure.

    All of them are one choice of bytes, two for each operation: a list of choices takes ten times the time, is short,
    and prefers its first elements.
    """
    choices = pool.operations(spec, cpus)

    # No map() of the bytes, which is what Hypothesis would show.
    @st.composite
    def read(draw: st.DrawFn) -> list[Operation]:
        numbers = struct.unpack(f">{length}H", draw(st.binary(min_size=2 * length, max_size=2 * length)))
        return [choices[number % len(choices)] for number in numbers if number]

    return read()


def _specs(map_type: str) -> st.SearchStrategy[tuple[Any, ...]]:
    # The arguments of _spec.
    key_size, value_size, flags, inner = 4, 4, 0, None
    key_sizes: tuple[int, ...] = (4,)
    value_sizes: tuple[int, ...] = (4,)
    entries: tuple[int, ...] = _FEW
    btf: tuple[str, ...] = ("",)
    extra: tuple[int, ...] = (0,)
    if map_type in _HASHES:
        key_sizes, value_sizes, flags = (4, 1, 8, 13), (4, 8, 3, 12), c.BPF_F_ZERO_SEED
        btf = ("", "plain", "lock") if map_type == "hash" else ("", "plain")
    elif map_type in {"array", "percpu_array"}:
        value_sizes = (4, 8, 3, 12)
        btf = ("", "plain", "lock") if map_type == "array" else ("", "plain")
    elif map_type == "stack_trace":
        value_sizes = (8, 64, 1016)
    elif map_type == "lpm_trie":
        key_sizes, value_sizes, flags, btf = (8, 5, 20), (4, 3), c.BPF_F_NO_PREALLOC, ("", "prefix")
    elif map_type in {"array_of_maps", "hash_of_maps"}:
        inner = TEMPLATE
        flags = c.BPF_F_ZERO_SEED if map_type == "hash_of_maps" else 0
        key_sizes = (4, 8) if map_type == "hash_of_maps" else (4,)
    elif map_type in {"devmap", "devmap_hash", "cpumap", "reuseport_sockarray", "sockmap", "sockhash"}:
        value_sizes = (4, 8)
        key_sizes = (4, 8) if map_type == "sockhash" else (4,)
    elif map_type in {"cgroup_storage", "percpu_cgroup_storage"}:
        key_sizes, value_sizes, entries = (8, 16), (4, 8, 3), (0,)
    elif map_type.endswith("_storage"):
        value_sizes, entries, flags, btf = (4, 8, 3), (0,), c.BPF_F_NO_PREALLOC, ("storage",)
    elif map_type in {"queue", "stack"}:
        key_sizes, value_sizes = (0,), (4, 8, 3)
    elif map_type == "bloom_filter":
        key_sizes, value_sizes, extra = (0,), (4, 8), (0, 1, 15)
    elif map_type in {"ringbuf", "user_ringbuf"}:
        key_sizes, value_sizes, entries = (0,), (0,), (PAGE, 2 * PAGE)
    elif map_type == "arena":
        key_sizes, value_sizes, entries, flags = (0,), (0,), (1, 4), c.BPF_F_MMAPABLE
    assert key_size
    assert value_size
    return st.tuples(
        st.just(map_type),
        st.sampled_from(key_sizes),
        st.sampled_from(value_sizes),
        st.sampled_from(entries),
        st.sampled_from(_OPTIONAL_FLAGS.get(map_type, (0,))).map(lambda more: flags | more),
        st.sampled_from(extra),
        st.just(inner),
        st.sampled_from(btf),
        st.sampled_from((b"", b"map", b"a.name_of_15.by")),
    )


def _spec(
    map_type: str,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int,
    map_extra: int,
    inner: Named | None,
    btf: str,
    name: bytes,
) -> MapSpec:
    if btf == "lock":
        value_size = 12
    return MapSpec(map_type, key_size, value_size, max_entries, flags, map_extra, inner, btf, name)


_SPECS = {map_type: _specs(map_type) for map_type in MAP_TYPES}


@st.composite
def odd_map_specs(draw: st.DrawFn, types: str | Iterable[str] = MAP_TYPES) -> MapSpec:
    """Draw the spec of a map of one of `types` that a kernel may refuse: one field, or two, are unusual."""
    spec = draw(map_specs(types))
    for _ in range(draw(st.integers(1, 2))):
        fields = spec._asdict()
        fields |= draw(st.sampled_from(_ODD_FIELDS).flatmap(lambda row: st.fixed_dictionaries({row[0]: row[1]})))
        if (fields["key_size"], fields["value_size"]) != (spec.key_size, spec.value_size):
            fields["btf"] = ""  # types of other sizes are another mistake
        spec = MapSpec(**fields)
    return spec


# Nothing here makes a big map: what is large is refused.
_ODD_FIELDS: tuple[tuple[str, st.SearchStrategy[int | bytes]], ...] = (
    ("key_size", st.sampled_from((0, 1, 3, 4, 5, 8, 16, 260, 261, 512))),
    ("value_size", st.sampled_from((0, 1, 4, 8, 12, 4096, 32768, 32769))),
    ("max_entries", st.sampled_from((0, 1, 2, 3, 64))),
    ("flags", st.integers(0, 19).map(lambda bit: 1 << bit)),
    ("flags", st.sampled_from((c.BPF_F_RDONLY | c.BPF_F_WRONLY, c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG, 0))),
    ("map_extra", st.sampled_from((0, 1, 15, 16))),
    ("flags", st.sampled_from((c.BPF_F_NUMA_NODE, c.BPF_F_NUMA_NODE | c.BPF_F_NO_COMMON_LRU))),
    ("numa_node", st.sampled_from((0, 0x7FFFFFFF, 0xFFFFFFFF))),
    ("name", st.sampled_from((b"", b"a b", b"a-b", b"sixteen_letters_", b"fifteen_letters"))),
)
