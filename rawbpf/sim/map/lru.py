"""Hash tables that make room by themselves.

Which element goes is the kernel's to choose, and depends on the CPU and on the batches in which it frees
elements. Here it is, by the seed, one of the few that were longest not updated; a lookup by system call is no
use of an element. Source: kernel/bpf/hashtab.c, kernel/bpf/bpf_lru_list.c (v6.12).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.base import ACCESS
from rawbpf.sim.map.hash import SimHash, SimPerCpuHash
from rawbpf.sim.map.shape import power_of_two, rounded
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

# Of the elements that were longest not updated, one in so many is a candidate, and at most so many are.
_SHARE, _MOST = 4, 32


class SimLruHash(SimHash):
    """BPF_MAP_TYPE_LRU_HASH."""

    flags_allowed = ACCESS | c.BPF_F_NO_COMMON_LRU | c.BPF_F_NUMA_NODE | c.BPF_F_ZERO_SEED
    has_spare = spare_pointers = False
    _values: OrderedDict[bytes, bytes]

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._values = OrderedDict()
        self._capacity = self.max_entries
        if shape.has(c.BPF_F_NO_COMMON_LRU):
            # Each CPU has its share, and all calls come from one.
            cpus = kernel.host.possible_cpus
            self.max_entries = rounded(self.max_entries, cpus)
            self.n_buckets = power_of_two(self.max_entries)
            self._capacity = self.max_entries // cpus

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Raises: Refused (ENOTSUPP: NO_PREALLOC)."""
        shape.check_flags(self.flags_allowed | c.BPF_F_NO_PREALLOC)
        if shape.has(c.BPF_F_NO_PREALLOC):
            raise Refused(ENOTSUPP)
        if shape.has(c.BPF_F_NO_COMMON_LRU):
            shape.check_no_node()
        super().check(kernel, shape)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a value; what is in the way goes. Raises: Refused (EINVAL: flags; EEXIST; ENOENT)."""
        super().update(key, value, flags)
        self._values.move_to_end(key)

    def make_room(self) -> None:
        """Remove an element if there is no room for one more."""
        if len(self._values) >= self._capacity:
            candidates = min(max(1, self._capacity // _SHARE), _MOST)
            self.remove(next(islice(self._values, self.kernel.random.randrange(candidates), None)))


class SimLruPerCpuHash(SimLruHash, SimPerCpuHash):
    """BPF_MAP_TYPE_LRU_PERCPU_HASH."""
