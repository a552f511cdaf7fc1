"""Which class is which map type."""

from __future__ import annotations

from rawbpf.sim.map.arena import SimArena
from rawbpf.sim.map.array import SimArray, SimPerCpuArray
from rawbpf.sim.map.bloom_filter import SimBloomFilter
from rawbpf.sim.map.cgroup_array import SimCgroupArray
from rawbpf.sim.map.cgroup_storage import SimCgroupStorage, SimPerCpuCgroupStorage
from rawbpf.sim.map.cpumap import SimCpuMap
from rawbpf.sim.map.devmap import SimDevMap, SimDevMapHash
from rawbpf.sim.map.hash import SimHash, SimPerCpuHash
from rawbpf.sim.map.local_storage import SimCgrpStorage, SimInodeStorage, SimSkStorage, SimTaskStorage
from rawbpf.sim.map.lpm_trie import SimLpmTrie
from rawbpf.sim.map.lru import SimLruHash, SimLruPerCpuHash
from rawbpf.sim.map.map_in_map import SimArrayOfMaps, SimHashOfMaps
from rawbpf.sim.map.perf_event_array import SimPerfEventArray
from rawbpf.sim.map.prog_array import SimProgArray
from rawbpf.sim.map.queue import SimQueue, SimStack
from rawbpf.sim.map.reuseport import SimReusePortArray
from rawbpf.sim.map.ringbuf import SimRingBuf, SimUserRingBuf
from rawbpf.sim.map.sockmap import SimSockHash, SimSockMap
from rawbpf.sim.map.stack_trace import SimStackTrace
from rawbpf.sim.map.struct_ops import SimStructOps
from rawbpf.sim.map.xskmap import SimXskMap
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.map.base import SimMap

TYPES: dict[int, type[SimMap]] = {
    c.BPF_MAP_TYPE_HASH: SimHash,
    c.BPF_MAP_TYPE_ARRAY: SimArray,
    c.BPF_MAP_TYPE_PERCPU_HASH: SimPerCpuHash,
    c.BPF_MAP_TYPE_PERCPU_ARRAY: SimPerCpuArray,
    c.BPF_MAP_TYPE_PROG_ARRAY: SimProgArray,
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: SimPerfEventArray,
    c.BPF_MAP_TYPE_CGROUP_ARRAY: SimCgroupArray,
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS: SimArrayOfMaps,
    c.BPF_MAP_TYPE_HASH_OF_MAPS: SimHashOfMaps,
    c.BPF_MAP_TYPE_DEVMAP: SimDevMap,
    c.BPF_MAP_TYPE_DEVMAP_HASH: SimDevMapHash,
    c.BPF_MAP_TYPE_SOCKMAP: SimSockMap,
    c.BPF_MAP_TYPE_SOCKHASH: SimSockHash,
    c.BPF_MAP_TYPE_CPUMAP: SimCpuMap,
    c.BPF_MAP_TYPE_XSKMAP: SimXskMap,
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: SimReusePortArray,
    c.BPF_MAP_TYPE_STACK_TRACE: SimStackTrace,
    c.BPF_MAP_TYPE_LRU_HASH: SimLruHash,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH: SimLruPerCpuHash,
    c.BPF_MAP_TYPE_LPM_TRIE: SimLpmTrie,
    c.BPF_MAP_TYPE_QUEUE: SimQueue,
    c.BPF_MAP_TYPE_STACK: SimStack,
    c.BPF_MAP_TYPE_RINGBUF: SimRingBuf,
    c.BPF_MAP_TYPE_BLOOM_FILTER: SimBloomFilter,
    c.BPF_MAP_TYPE_USER_RINGBUF: SimUserRingBuf,
    c.BPF_MAP_TYPE_ARENA: SimArena,
    c.BPF_MAP_TYPE_CGROUP_STORAGE: SimCgroupStorage,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: SimPerCpuCgroupStorage,
    c.BPF_MAP_TYPE_SK_STORAGE: SimSkStorage,
    c.BPF_MAP_TYPE_STRUCT_OPS: SimStructOps,
    c.BPF_MAP_TYPE_INODE_STORAGE: SimInodeStorage,
    c.BPF_MAP_TYPE_TASK_STORAGE: SimTaskStorage,
    c.BPF_MAP_TYPE_CGRP_STORAGE: SimCgrpStorage,
}
"""The class of each map type that is simulated, by its number."""
