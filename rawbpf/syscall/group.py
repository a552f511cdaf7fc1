"""Map types that the kernel treats alike in one respect or another, each group in one place.

Which errno means what (`error`), what is accepted (`rule`), what it takes (`footprint`) and how it is
said (`hint`) are told by these. Source: the map types' own files in kernel/bpf (v6.12).
"""

from __future__ import annotations

from rawbpf.uapi import constants as c

PLAIN_ARRAYS = (c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_PERCPU_ARRAY, c.BPF_MAP_TYPE_INSN_ARRAY)
# Arrays of pointers to objects of the kernel, and hashes of such.
SLOT_ARRAYS = (
    c.BPF_MAP_TYPE_PROG_ARRAY,
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    c.BPF_MAP_TYPE_CGROUP_ARRAY,
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    c.BPF_MAP_TYPE_DEVMAP,
    c.BPF_MAP_TYPE_SOCKMAP,
    c.BPF_MAP_TYPE_CPUMAP,
    c.BPF_MAP_TYPE_XSKMAP,
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
)
SLOT_HASHES = (c.BPF_MAP_TYPE_HASH_OF_MAPS, c.BPF_MAP_TYPE_DEVMAP_HASH, c.BPF_MAP_TYPE_SOCKHASH)
# Whose values are descriptors, or have some in them.
OF_DESCRIPTORS = (*SLOT_ARRAYS, *SLOT_HASHES, c.BPF_MAP_TYPE_STRUCT_OPS)
NESTED = (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)

LRU_HASHES = (c.BPF_MAP_TYPE_LRU_HASH, c.BPF_MAP_TYPE_LRU_PERCPU_HASH)
HASHES = (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_PERCPU_HASH, *LRU_HASHES)

QUEUES = (c.BPF_MAP_TYPE_QUEUE, c.BPF_MAP_TYPE_STACK)
RINGS = (c.BPF_MAP_TYPE_RINGBUF, c.BPF_MAP_TYPE_USER_RINGBUF)

CGROUP_STORAGES = (c.BPF_MAP_TYPE_CGROUP_STORAGE, c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE)
LOCAL_STORAGES = (
    c.BPF_MAP_TYPE_SK_STORAGE,
    c.BPF_MAP_TYPE_INODE_STORAGE,
    c.BPF_MAP_TYPE_TASK_STORAGE,
    c.BPF_MAP_TYPE_CGRP_STORAGE,
)
# Whose values belong to something else, whose number nobody says beforehand.
STORAGES = (*LOCAL_STORAGES, *CGROUP_STORAGES)

PERCPU = (
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
)
