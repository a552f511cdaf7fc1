"""A smallest map of each type that the kernel takes by numbers alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from rawbpf.uapi import constants as c

PAGE = os.sysconf("SC_PAGESIZE")
# By type: (key_size, value_size, max_entries, map_flags)
SMALLEST = {
    "hash": (4, 4, 1, 0),
    "array": (4, 4, 1, 0),
    "prog_array": (4, 4, 1, 0),
    "perf_event_array": (4, 4, 1, 0),
    "percpu_hash": (4, 4, 1, 0),
    "percpu_array": (4, 4, 1, 0),
    "stack_trace": (4, 32, 1, 0),
    "cgroup_array": (4, 4, 1, 0),
    "lru_hash": (4, 4, 8, 0),
    "lru_percpu_hash": (4, 4, 8, 0),
    "lpm_trie": (8, 4, 1, c.BPF_F_NO_PREALLOC),
    "array_of_maps": (4, 4, 1, 0),
    "hash_of_maps": (4, 4, 1, 0),
    "devmap": (4, 4, 1, 0),
    "sockmap": (4, 4, 1, 0),
    "cpumap": (4, 4, 1, 0),
    "xskmap": (4, 4, 1, 0),
    "sockhash": (4, 4, 1, 0),
    "cgroup_storage": (8, 4, 0, 0),
    "reuseport_sockarray": (4, 4, 1, 0),
    "percpu_cgroup_storage": (8, 4, 0, 0),
    "queue": (0, 4, 1, 0),
    "stack": (0, 4, 1, 0),
    "devmap_hash": (4, 4, 1, 0),
    "ringbuf": (0, 0, PAGE, 0),
    "bloom_filter": (0, 4, 1, 0),
    "user_ringbuf": (0, 0, PAGE, 0),
    "arena": (0, 0, 1, c.BPF_F_MMAPABLE),
    "insn_array": (4, 16, 1, 0),
    "sk_storage": (4, 4, 0, c.BPF_F_NO_PREALLOC),
    "inode_storage": (4, 4, 0, c.BPF_F_NO_PREALLOC),
    "task_storage": (4, 4, 0, c.BPF_F_NO_PREALLOC),
    "cgrp_storage": (4, 4, 0, c.BPF_F_NO_PREALLOC),
}


def each(words: Iterable[str] = SMALLEST) -> list[object]:
    """Return a parameter of a test for each of these types, which needs the kernel to have it."""
    return [pytest.param(word, marks=needed(word)) for word in words]


def needed(word: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs this type."""
    return pytest.mark.needs(f"map_type:{word}")
