"""CPU maps: queues of packets to CPUs, each with a program if values have room for one.

Source: kernel/bpf/cpumap.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EOVERFLOW

from rawbpf.sim.error import Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.owner import Owner
from rawbpf.sim.program import SimProgram, program_of
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


class SimCpuMap(SimMap):
    """BPF_MAP_TYPE_CPUMAP."""

    takes_btf = False
    takes_no_key_type = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.owner = Owner(kernel, same_attach_type=False)
        self._slots: dict[int, tuple[int, SimProgram | None]] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: cpu_map_alloc."""
        sizes = (4, 8) if kernel.release.version >= (5, 9) else (4,)
        if not shape.max_entries or shape.key_size != U32.size or shape.value_size not in sizes:
            raise Refused(EINVAL)
        if shape.map_flags & ~c.BPF_F_NUMA_NODE:
            raise Refused(EINVAL)
        if shape.max_entries > _most_cpus(kernel.host.possible_cpus):
            raise Refused(E2BIG)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the queue's length and the program's id. Raises: Refused (ENOENT)."""
        found = self._slots.get(U32.unpack(key)[0])
        if found is None:
            raise Refused(ENOENT)
        length, program = found
        return (U32.pack(length) + U32.pack(program.id if program else 0))[: self.value_size]

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Make a queue; length 0 removes it. Source: cpu_map_update_elem."""
        cpu = U32.unpack(key)[0]
        length = U32.unpack(value[:4])[0]
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        if cpu >= self.max_entries:
            raise Refused(E2BIG)
        if flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if length > _LONGEST_QUEUE:
            raise Refused(EOVERFLOW)
        if cpu >= self.kernel.host.possible_cpus:
            raise Refused(ENODEV)
        if length:
            self._slots[cpu] = (length, self._program(value))
        else:
            self._slots.pop(cpu, None)

    def delete(self, key: bytes) -> None:
        """Remove a queue, which need not be there. Raises: Refused (EINVAL: no such index)."""
        cpu = U32.unpack(key)[0]
        if cpu >= self.max_entries:
            raise Refused(EINVAL)
        self._slots.pop(cpu, None)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)

    def _program(self, value: bytes) -> SimProgram | None:
        # Source: __cpu_map_entry_alloc, which says that there is no memory whatever is wrong with the program.
        fd = U32.unpack(value[4:])[0] if len(value) > U32.size else 0
        if not 0 < fd < 1 << 31:
            return None
        try:
            program = program_of(self.kernel, fd)
        except Refused:
            raise Refused(ENOMEM) from None
        suits = program.type == c.BPF_PROG_TYPE_XDP and program.expected_attach_type == c.BPF_XDP_CPUMAP
        if not suits or program.is_dev_bound or not self.owner.admits(program):
            raise Refused(ENOMEM)
        return program
