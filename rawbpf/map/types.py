"""Which class serves which map type: a table of names, so that only the class in use is imported.

The only dynamic import of the package. Types without a row are served by `generic:GenericMap`, with
the verbs that any map has.
"""

from __future__ import annotations

from rawbpf.uapi import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_GENERIC = "generic:GenericMap"
CLASSES = {
    constants.BPF_MAP_TYPE_HASH: "hash:HashMap",
    constants.BPF_MAP_TYPE_ARRAY: "array:ArrayMap",
    constants.BPF_MAP_TYPE_PROG_ARRAY: "prog_array:ProgArrayMap",
    constants.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "perf_event_array:PerfEventArrayMap",
    constants.BPF_MAP_TYPE_PERCPU_HASH: "percpu:PerCpuHashMap",
    constants.BPF_MAP_TYPE_PERCPU_ARRAY: "percpu:PerCpuArrayMap",
    constants.BPF_MAP_TYPE_STACK_TRACE: "stack_trace:StackTraceMap",
    constants.BPF_MAP_TYPE_CGROUP_ARRAY: "cgroup_array:CgroupArrayMap",
    constants.BPF_MAP_TYPE_LRU_HASH: "hash:LruHashMap",
    constants.BPF_MAP_TYPE_LRU_PERCPU_HASH: "percpu:LruPerCpuHashMap",
    constants.BPF_MAP_TYPE_LPM_TRIE: "lpm_trie:LpmTrieMap",
    constants.BPF_MAP_TYPE_ARRAY_OF_MAPS: "map_in_map:ArrayOfMaps",
    constants.BPF_MAP_TYPE_HASH_OF_MAPS: "map_in_map:HashOfMaps",
    constants.BPF_MAP_TYPE_DEVMAP: "devmap:DevMap",
    constants.BPF_MAP_TYPE_SOCKMAP: "sockmap:SockMap",
    constants.BPF_MAP_TYPE_CPUMAP: "cpumap:CpuMap",
    constants.BPF_MAP_TYPE_XSKMAP: "xskmap:XskMap",
    constants.BPF_MAP_TYPE_SOCKHASH: "sockmap:SockHash",
    constants.BPF_MAP_TYPE_CGROUP_STORAGE: "cgroup_storage:CgroupStorageMap",
    constants.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "reuseport:ReuseportSockArray",
    constants.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: "cgroup_storage:PerCpuCgroupStorageMap",
    constants.BPF_MAP_TYPE_QUEUE: "queue:QueueMap",
    constants.BPF_MAP_TYPE_STACK: "queue:StackMap",
    constants.BPF_MAP_TYPE_SK_STORAGE: "local_storage:SkStorageMap",
    constants.BPF_MAP_TYPE_DEVMAP_HASH: "devmap:DevMapHash",
    constants.BPF_MAP_TYPE_STRUCT_OPS: "struct_ops:StructOpsMap",
    constants.BPF_MAP_TYPE_RINGBUF: "ringbuf:RingBufMap",
    constants.BPF_MAP_TYPE_INODE_STORAGE: "local_storage:InodeStorageMap",
    constants.BPF_MAP_TYPE_TASK_STORAGE: "local_storage:TaskStorageMap",
    constants.BPF_MAP_TYPE_BLOOM_FILTER: "bloom_filter:BloomFilterMap",
    constants.BPF_MAP_TYPE_USER_RINGBUF: "ringbuf:UserRingBufMap",
    constants.BPF_MAP_TYPE_CGRP_STORAGE: "local_storage:CgrpStorageMap",
    constants.BPF_MAP_TYPE_ARENA: "arena:ArenaMap",
    constants.BPF_MAP_TYPE_INSN_ARRAY: "insn_array:InsnArrayMap",
}


def map_class(map_type: int) -> type[Any]:
    """Return the class whose objects are maps of `map_type`."""
    module, _, name = CLASSES.get(map_type, _GENERIC).partition(":")
    found: type[Any] = getattr(__import__(f"rawbpf.map.{module}", fromlist=[name]), name)
    return found
