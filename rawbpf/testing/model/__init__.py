"""Plain Python models of the kernel's maps: dicts, lists and deques that say what each operation must come to.

Written from the kernel's source and what it was seen to do; they share nothing with the simulator, which they judge.
"""

from __future__ import annotations

from rawbpf.testing.cells import RELEASE
from rawbpf.testing.model.array import Array
from rawbpf.testing.model.base import Model
from rawbpf.testing.model.device import Cpus, DeviceHash, Devices
from rawbpf.testing.model.queue import Bloom, Queue, Refusing, Stack
from rawbpf.testing.model.slot import DescriptorArray, MapArray, Reuseport, Sockets, XdpSockets
from rawbpf.testing.model.storage import CgroupStorage, LocalStorage, StackTraces
from rawbpf.testing.model.table import HashTable, LruTable, MapTable, SocketTable
from rawbpf.testing.model.trie import Trie
from rawbpf.testing.older import cells_of
from rawbpf.testing.spec import MapSpec

MODELS: dict[str, type[Model]] = {
    "hash": HashTable,
    "array": Array,
    "prog_array": DescriptorArray,
    "perf_event_array": DescriptorArray,
    "percpu_hash": HashTable,
    "percpu_array": Array,
    "stack_trace": StackTraces,
    "cgroup_array": DescriptorArray,
    "lru_hash": LruTable,
    "lru_percpu_hash": LruTable,
    "lpm_trie": Trie,
    "array_of_maps": MapArray,
    "hash_of_maps": MapTable,
    "devmap": Devices,
    "sockmap": Sockets,
    "cpumap": Cpus,
    "xskmap": XdpSockets,
    "sockhash": SocketTable,
    "cgroup_storage": CgroupStorage,
    "reuseport_sockarray": Reuseport,
    "percpu_cgroup_storage": CgroupStorage,
    "queue": Queue,
    "stack": Stack,
    "sk_storage": LocalStorage,
    "devmap_hash": DeviceHash,
    "ringbuf": Refusing,
    "inode_storage": LocalStorage,
    "task_storage": LocalStorage,
    "bloom_filter": Bloom,
    "user_ringbuf": Refusing,
    "cgrp_storage": LocalStorage,
    "arena": Refusing,
}
"""The model of each map type."""


def model_of(spec: MapSpec, cpus: int, release: str = RELEASE) -> Model:
    """Return the model of a new map of `spec` on a machine of `cpus` possible CPUs that runs Linux `release`."""
    model = MODELS[spec.map_type](spec, cpus)
    model.cells = cells_of(release)
    return model
