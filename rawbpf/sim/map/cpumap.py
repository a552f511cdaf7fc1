"""CPU maps: queues of packets to CPUs, each with a program if values have room for one.

Source: kernel/bpf/cpumap.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EOVERFLOW

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import U32
from rawbpf.sim.map.redirect import RedirectArray, RedirectWithPrograms, number_and_fd
from rawbpf.sim.program import SimProgram
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_LONGEST_QUEUE = 16384
_KERNEL_MAX = "/sys/devices/system/cpu/kernel_max"


def _most_cpus(possible: int) -> int:
    # NR_CPUS, for which the real kernel below was built.
    try:
        with open(_KERNEL_MAX, encoding="ascii") as file:
            return max(int(file.read()) + 1, possible)
    except (OSError, ValueError):
        return max(256, possible)


class SimCpuMap(RedirectWithPrograms[tuple[int, SimProgram | None]], RedirectArray[tuple[int, SimProgram | None]]):
    """BPF_MAP_TYPE_CPUMAP."""

    flags_allowed = c.BPF_F_NUMA_NODE
    long_since = (5, 9)
    attach_type = c.BPF_XDP_CPUMAP

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.tells_why = kernel.release.tells_why_cpumaps_refuse
        self.bad_program = EINVAL if self.tells_why else ENOMEM

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: cpu_map_alloc."""
        super().check(kernel, shape)
        if shape.max_entries > _most_cpus(kernel.host.possible_cpus):
            raise Refused(E2BIG)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the queue's length and the program's id. Raises: Refused (ENOENT)."""
        found = self.targets.get(key)
        if found is None:
            raise Refused(ENOENT)
        return self.packed(*found)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Make a queue; length 0 removes it. Source: cpu_map_update_elem."""
        self.check_slot(key, flags)
        length, fd = number_and_fd(value)
        if flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if length > _LONGEST_QUEUE:
            raise Refused(EOVERFLOW)
        if U32.unpack(key)[0] >= self.kernel.host.possible_cpus:
            raise Refused(ENODEV)
        if length:
            self.targets[key] = (length, self.program(fd))
        else:
            self.targets.pop(key, None)
