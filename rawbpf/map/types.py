"""Which class serves which map type: a table of names, so that only the class in use is imported.

The only dynamic import of the package, and the only one that leads to a layer above: maps that carry events live
in `event`, with what reads and writes them, and what attaches a map in `link`. Types without a row are served by
`map.generic:GenericMap`, with the verbs that any map has.
"""

from __future__ import annotations

from rawbpf.uapi import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_GENERIC = "map.generic:GenericMap"
CLASSES = {
    constants.BPF_MAP_TYPE_HASH: "map.hash:HashMap",
    constants.BPF_MAP_TYPE_ARRAY: "map.array:ArrayMap",
    constants.BPF_MAP_TYPE_PROG_ARRAY: "map.prog_array:ProgArrayMap",
    constants.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "event.perf_event_array:PerfEventArrayMap",
    constants.BPF_MAP_TYPE_PERCPU_HASH: "map.percpu:PerCpuHashMap",
    constants.BPF_MAP_TYPE_PERCPU_ARRAY: "map.percpu:PerCpuArrayMap",
    constants.BPF_MAP_TYPE_STACK_TRACE: "map.stack_trace:StackTraceMap",
    constants.BPF_MAP_TYPE_CGROUP_ARRAY: "map.cgroup_array:CgroupArrayMap",
    constants.BPF_MAP_TYPE_LRU_HASH: "map.hash:LruHashMap",
    constants.BPF_MAP_TYPE_LRU_PERCPU_HASH: "map.percpu:LruPerCpuHashMap",
    constants.BPF_MAP_TYPE_LPM_TRIE: "map.lpm_trie:LpmTrieMap",
    constants.BPF_MAP_TYPE_ARRAY_OF_MAPS: "map.map_in_map:ArrayOfMaps",
    constants.BPF_MAP_TYPE_HASH_OF_MAPS: "map.map_in_map:HashOfMaps",
    constants.BPF_MAP_TYPE_DEVMAP: "map.devmap:DevMap",
    constants.BPF_MAP_TYPE_SOCKMAP: "map.sockmap:SockMap",
    constants.BPF_MAP_TYPE_CPUMAP: "map.cpumap:CpuMap",
    constants.BPF_MAP_TYPE_XSKMAP: "map.xskmap:XskMap",
    constants.BPF_MAP_TYPE_SOCKHASH: "map.sockmap:SockHash",
    constants.BPF_MAP_TYPE_CGROUP_STORAGE: "map.cgroup_storage:CgroupStorageMap",
    constants.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "map.reuseport:ReuseportSockArray",
    constants.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: "map.cgroup_storage:PerCpuCgroupStorageMap",
    constants.BPF_MAP_TYPE_QUEUE: "map.queue:QueueMap",
    constants.BPF_MAP_TYPE_STACK: "map.queue:StackMap",
    constants.BPF_MAP_TYPE_SK_STORAGE: "map.local_storage:SkStorageMap",
    constants.BPF_MAP_TYPE_DEVMAP_HASH: "map.devmap:DevMapHash",
    constants.BPF_MAP_TYPE_STRUCT_OPS: "map.struct_ops:StructOpsMap",
    constants.BPF_MAP_TYPE_RINGBUF: "event.ring:RingBufMap",
    constants.BPF_MAP_TYPE_INODE_STORAGE: "map.local_storage:InodeStorageMap",
    constants.BPF_MAP_TYPE_TASK_STORAGE: "map.local_storage:TaskStorageMap",
    constants.BPF_MAP_TYPE_BLOOM_FILTER: "map.bloom_filter:BloomFilterMap",
    constants.BPF_MAP_TYPE_USER_RINGBUF: "event.user_ring:UserRingBufMap",
    constants.BPF_MAP_TYPE_CGRP_STORAGE: "map.local_storage:CgrpStorageMap",
    constants.BPF_MAP_TYPE_ARENA: "map.arena:ArenaMap",
    constants.BPF_MAP_TYPE_INSN_ARRAY: "map.insn_array:InsnArrayMap",
}


def map_class(map_type: int) -> type[Any]:
    """Return the class whose objects are maps of `map_type`."""
    found: type[Any] = above(CLASSES.get(map_type, _GENERIC))
    return found


def above(place: str) -> Any:  # noqa: ANN401  (whatever lies there)
    """Return what `place` names, `module:name`, from whichever layer."""
    module, _, name = place.partition(":")
    return getattr(__import__(f"rawbpf.{module}", fromlist=[name]), name)
