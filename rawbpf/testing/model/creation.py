"""Which specs BPF_MAP_CREATE refuses, and with which errno: the constraints of each type on sizes, flags and entries.

Of a spec that breaks several rules the first is told that the kernel comes to: the flags that exclude each other, the
type's own check, then its allocation. What is only too much memory is not judged. Source:
kernel/bpf/syscall.c:map_create, `map_alloc_check` of each type (v6.18).
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from rawbpf.testing.spec import PER_CPU, MapSpec
from rawbpf.uapi import constants as c

_ACCESS = c.BPF_F_RDONLY | c.BPF_F_WRONLY
_PROGRAM_ACCESS = c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG
_ALL_ACCESS = _ACCESS | _PROGRAM_ACCESS
_NODE = c.BPF_F_NUMA_NODE
_LAZY = c.BPF_F_NO_PREALLOC
_NO_NODE = 0xFFFFFFFF  # NUMA_NO_NODE
_NODES = (0, _NO_NODE)  # the first is everywhere; of others only the machine knows
_NODELESS = frozenset({"percpu_hash", "lru_percpu_hash", "percpu_array"})
_PER_CPU_LIMIT = 32768  # PCPU_MIN_UNIT_SIZE
_STACKS = range(8, 1017, 8)  # the sysctl kernel.perf_event_max_stack is 127 by default

_NONE = (0,)
_SOME = range(1, 1 << 32)
_INDEX = (4,)
_OBJECT = (4, 8)


class Rule(NamedTuple):
    """What a type takes: `flags`, and those that it cannot do without; the sizes; the number of entries."""

    flags: int
    keys: Container[int]
    values: Container[int]
    entries: Container[int] = _SOME
    needed: int = 0
    extra: Container[int] = _NONE


_DESCRIPTORS = Rule(_NODE | _ACCESS, _INDEX, (4,))
_REDIRECT = Rule(_NODE | _ACCESS, _INDEX, _OBJECT)
_QUEUE = Rule(_NODE | _ALL_ACCESS, _NONE, _SOME)
_CGROUP_STORAGE = Rule(_NODE | _ALL_ACCESS, (8, 16), _SOME, _NONE)
_STORAGE = Rule(_LAZY | c.BPF_F_CLONE, _INDEX, _SOME, _NONE, _LAZY)
_RING = Rule(_NODE, _NONE, _NONE, {1 << bit for bit in range(12, 31)})

RULES: dict[str, Rule] = {
    "hash": Rule(_LAZY | _NODE | c.BPF_F_ZERO_SEED | _ALL_ACCESS, _SOME, _SOME),
    "percpu_hash": Rule(_LAZY | _NODE | c.BPF_F_ZERO_SEED | _ALL_ACCESS, _SOME, _SOME),
    "lru_hash": Rule(c.BPF_F_NO_COMMON_LRU | _NODE | c.BPF_F_ZERO_SEED | _ALL_ACCESS, _SOME, _SOME),
    "lru_percpu_hash": Rule(c.BPF_F_NO_COMMON_LRU | _NODE | c.BPF_F_ZERO_SEED | _ALL_ACCESS, _SOME, _SOME),
    "array": Rule(_NODE | _ALL_ACCESS | c.BPF_F_MMAPABLE | c.BPF_F_INNER_MAP, _INDEX, _SOME),
    "percpu_array": Rule(_NODE | _ALL_ACCESS, _INDEX, _SOME),
    "prog_array": _DESCRIPTORS,
    "perf_event_array": _DESCRIPTORS._replace(flags=_NODE | _ACCESS | c.BPF_F_PRESERVE_ELEMS),
    "cgroup_array": _DESCRIPTORS,
    "stack_trace": Rule(_NODE | _ACCESS | c.BPF_F_STACK_BUILD_ID, _INDEX, _STACKS),
    "lpm_trie": Rule(_LAZY | _NODE | _ALL_ACCESS, range(5, 261), _SOME, needed=_LAZY),
    "array_of_maps": _DESCRIPTORS,
    "hash_of_maps": Rule(_LAZY | _NODE | c.BPF_F_ZERO_SEED | _ALL_ACCESS, _SOME, (4,)),
    "devmap": _REDIRECT,
    "devmap_hash": _REDIRECT,
    "cpumap": _REDIRECT._replace(flags=_NODE),
    "xskmap": _DESCRIPTORS,
    "sockmap": _REDIRECT,
    "sockhash": _REDIRECT._replace(keys=range(1, 513)),
    "reuseport_sockarray": _REDIRECT._replace(flags=_NODE | _ALL_ACCESS),
    "cgroup_storage": _CGROUP_STORAGE,
    "percpu_cgroup_storage": _CGROUP_STORAGE,
    "queue": _QUEUE,
    "stack": _QUEUE,
    "bloom_filter": _QUEUE._replace(flags=_QUEUE.flags | c.BPF_F_ZERO_SEED, extra=range(16)),
    "sk_storage": _STORAGE,
    "inode_storage": _STORAGE,
    "task_storage": _STORAGE,
    "cgrp_storage": _STORAGE,
    "ringbuf": _RING,
    "user_ringbuf": _RING,
    "arena": Rule(
        c.BPF_F_MMAPABLE | c.BPF_F_SEGV_ON_FAULT | c.BPF_F_NO_USER_CONV, _NONE, _NONE, needed=c.BPF_F_MMAPABLE
    ),
}
"""What each type takes."""


class Refusal(NamedTuple):
    """What is wrong with a spec: the errno's name, and why."""

    error: str
    why: str


def refusal(spec: MapSpec) -> Refusal | None:
    """Return why the kernel refuses `spec`, None if it makes the map."""
    if spec.flags & _ACCESS == _ACCESS:
        return Refusal("EINVAL", "no descriptor is both read-only and write-only")
    return _early(spec) or _general(spec) or _sizes(spec) or _name(spec) or _lock(spec)


def _early(spec: MapSpec) -> Refusal | None:
    # What is looked at before the flags.
    rule = RULES[spec.map_type]
    if spec.map_extra not in rule.extra:
        return Refusal("EINVAL", f"map_extra of {spec.map_type}")
    if _node(spec) not in _NODES:
        return Refusal("EINVAL", "no such NUMA node")
    if spec.map_type in {"lru_hash", "lru_percpu_hash"} and spec.flags & _LAZY:
        return Refusal("ENOTSUPP", "an LRU table is preallocated")
    if spec.map_type == "percpu_cgroup_storage" and spec.key_size in rule.keys:
        return _sizes(spec)
    return None


def _general(spec: MapSpec) -> Refusal | None:
    rule = RULES[spec.map_type]
    if spec.flags & ~rule.flags:
        return Refusal("EINVAL", "a flag that the type has not")
    if spec.flags & _PROGRAM_ACCESS == _PROGRAM_ACCESS:
        return Refusal("EINVAL", "programs are not both read-only and write-only")
    if rule.needed & ~spec.flags:
        return Refusal("EINVAL", "a flag that the type cannot do without")
    if spec.key_size not in rule.keys:
        return Refusal("EINVAL", f"key_size of {spec.map_type}")
    if spec.value_size not in rule.values:
        return Refusal("EINVAL", f"value_size of {spec.map_type}")
    if spec.max_entries not in rule.entries:
        return Refusal("EINVAL", f"max_entries of {spec.map_type}")
    if _node(spec) != _NO_NODE and (spec.map_type in _NODELESS or spec.flags & c.BPF_F_NO_COMMON_LRU):
        return Refusal("EINVAL", "what each CPU has of its own is on that CPU's node")
    if spec.flags & c.BPF_F_STACK_BUILD_ID and spec.map_type == "stack_trace" and spec.value_size % 32:
        return Refusal("EINVAL", "a build id and an offset take 32 bytes")
    if rule is _STORAGE and spec.btf != "storage":
        return Refusal("EINVAL", "local storage is told its types")
    return None


def _node(spec: MapSpec) -> int:
    return spec.numa_node if spec.flags & _NODE else _NO_NODE


def _sizes(spec: MapSpec) -> Refusal | None:
    if spec.map_type in PER_CPU and spec.value_size + 7 & ~7 > _PER_CPU_LIMIT:
        return Refusal("E2BIG", f"a CPU's slot is of at most {_PER_CPU_LIMIT} bytes")
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
