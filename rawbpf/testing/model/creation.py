"""Which specs BPF_MAP_CREATE refuses, and with which errno: the constraints of each type on sizes, flags and entries.

Of a spec that breaks several rules the first is told that the kernel comes to: the flags that exclude each other, the
type's own check, then its allocation. Source: kernel/bpf/syscall.c:map_create, `map_alloc_check` of each type (v6.18).
"""

from __future__ import annotations

from typing import NamedTuple

from rawbpf.testing.cells import KEYLESS
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi import constants as c

_ACCESS = c.BPF_F_RDONLY | c.BPF_F_WRONLY
_PROGRAM_ACCESS = c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG
_NODE = c.BPF_F_NUMA_NODE
_PER_CPU_LIMIT = 32768  # PCPU_MIN_UNIT_SIZE
_FLAGS = {
    "hash": c.BPF_F_NO_PREALLOC | _NODE | _ACCESS | c.BPF_F_ZERO_SEED | _PROGRAM_ACCESS,
    "percpu_hash": c.BPF_F_NO_PREALLOC | _ACCESS | c.BPF_F_ZERO_SEED | _PROGRAM_ACCESS,
    "lru_hash": c.BPF_F_NO_COMMON_LRU | _NODE | _ACCESS | c.BPF_F_ZERO_SEED | _PROGRAM_ACCESS,
    "lru_percpu_hash": c.BPF_F_NO_COMMON_LRU | _ACCESS | c.BPF_F_ZERO_SEED | _PROGRAM_ACCESS,
    "array": _NODE | _ACCESS | _PROGRAM_ACCESS | c.BPF_F_MMAPABLE | c.BPF_F_INNER_MAP,
    "percpu_array": _ACCESS | _PROGRAM_ACCESS,
    "lpm_trie": c.BPF_F_NO_PREALLOC | _NODE | _ACCESS | _PROGRAM_ACCESS,
    "reuseport_sockarray": _NODE | _ACCESS | _PROGRAM_ACCESS,
    "queue": _NODE | _ACCESS | _PROGRAM_ACCESS,
    "stack": _NODE | _ACCESS | _PROGRAM_ACCESS,
    "bloom_filter": _NODE | _ACCESS | c.BPF_F_ZERO_SEED | _PROGRAM_ACCESS,
}
"""The flags that a type takes, where it is known to this module; specs of other types are not judged."""


class Refusal(NamedTuple):
    """What is wrong with a spec: the errno's name, and why."""

    error: str
    why: str


def refusal(spec: MapSpec) -> Refusal | None:
    """Return why the kernel refuses `spec`, None if it makes the map. For the types of `JUDGED`."""
    flags, map_type = spec.flags, spec.map_type
    if spec.map_extra and map_type not in {"bloom_filter", "arena"}:
        return Refusal("EINVAL", "map_extra is for bloom filters and arenas")
    if flags & _ACCESS == _ACCESS:
        return Refusal("EINVAL", "no descriptor is both read-only and write-only")
    return _lru(spec) or _general(spec) or _sizes(spec) or _name(spec) or _lock(spec)


def _lru(spec: MapSpec) -> Refusal | None:
    if spec.map_type in {"lru_hash", "lru_percpu_hash"} and spec.flags & c.BPF_F_NO_PREALLOC:
        return Refusal("ENOTSUPP", "an LRU table is preallocated")
    return None


def _general(spec: MapSpec) -> Refusal | None:
    if spec.flags & ~_FLAGS[spec.map_type]:
        return Refusal("EINVAL", "a flag that the type has not")
    if spec.flags & _PROGRAM_ACCESS == _PROGRAM_ACCESS:
        return Refusal("EINVAL", "programs are not both read-only and write-only")
    if not spec.max_entries or not spec.value_size:
        return Refusal("EINVAL", "max_entries and value_size are at least 1")
    if spec.map_type in KEYLESS and spec.key_size:
        return Refusal("EINVAL", "the type has no keys")
    if spec.map_type in {"array", "percpu_array", "reuseport_sockarray"} and spec.key_size != 4:
        return Refusal("EINVAL", "the key is an index of 4 bytes")
    if spec.map_type == "lpm_trie":
        if not spec.flags & c.BPF_F_NO_PREALLOC:
            return Refusal("EINVAL", "a trie is not preallocated")
        if not 5 <= spec.key_size <= 260:
            return Refusal("EINVAL", "a prefix is of 5 to 260 bytes")
    elif spec.map_type not in KEYLESS and not spec.key_size:
        return Refusal("EINVAL", "key_size is at least 1")
    if spec.map_type == "bloom_filter" and spec.map_extra > 15:
        return Refusal("EINVAL", "a bloom filter has at most 15 hashes")
    if spec.map_type == "reuseport_sockarray" and spec.value_size not in {4, 8}:
        return Refusal("EINVAL", "a value is a descriptor of 4 bytes or 8")
    return None


def _sizes(spec: MapSpec) -> Refusal | None:
    if spec.map_type in {"percpu_hash", "lru_percpu_hash", "percpu_array"} and (
        spec.value_size + 7 & ~7 > _PER_CPU_LIMIT
    ):
        return Refusal("E2BIG", f"a CPU's slot is of at most {_PER_CPU_LIMIT} bytes")
    if spec.map_type in {"hash", "percpu_hash", "lru_hash", "lru_percpu_hash"} and spec.max_entries > 1 << 31:
        return Refusal("E2BIG", "more entries than buckets can be")
    return None


def _name(spec: MapSpec) -> Refusal | None:
    legal = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."
    if len(spec.name) > 15 or any(byte not in legal for byte in spec.name):
        return Refusal("EINVAL", "a name is of at most 15 letters, digits, _ and .")
    return None


def _lock(spec: MapSpec) -> Refusal | None:
    if spec.btf == "lock" and spec.flags & _PROGRAM_ACCESS:
        return Refusal("EACCES", "programs must be able to read and write a lock")
    return None


JUDGED = tuple(_FLAGS)
"""The types whose specs `refusal` knows."""
