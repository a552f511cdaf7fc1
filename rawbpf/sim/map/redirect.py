"""Maps of where packets can go: devices, CPUs and AF_XDP sockets.

Source: kernel/bpf/devmap.c, kernel/bpf/cpumap.c, net/xdp/xskmap.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL
from typing import Generic, TypeVar

from rawbpf.sim.error import Refused
from rawbpf.sim.map.array import next_index
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.fd_array import USER_ACCESS
from rawbpf.sim.map.owner import Owner
from rawbpf.sim.program import SimProgram, program_of
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

T = TypeVar("T")

_LONG = 8


class RedirectMap(SimMap, Generic[T]):
    """A map of targets by a number, of which none is there at first.

    `long_since`: since which kernel values have room for a program.
    """

    takes_btf = False
    takes_no_key_type = True
    flags_allowed = USER_ACCESS | c.BPF_F_NUMA_NODE
    long_since: tuple[int, ...] | None = None

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.targets: dict[bytes, T] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: dev_map_init_map, cpu_map_alloc, xsk_map_alloc."""
        is_long = self.long_since is not None and kernel.release.version >= self.long_since
        sizes = (U32.size, _LONG) if is_long else (U32.size,)
        if not shape.max_entries or shape.key_size != U32.size or shape.value_size not in sizes:
            raise Refused(EINVAL)
        if shape.map_flags & ~self.flags_allowed:
            raise Refused(EINVAL)


class RedirectArray(RedirectMap[T]):
    """An array of targets. A slot may be emptied that is empty."""

    def check_slot(self, key: bytes, flags: int) -> None:
        """Check flags and index of an update. Raises: Refused (EINVAL; E2BIG)."""
        if flags > c.BPF_EXIST:
            raise Refused(EINVAL)
        if U32.unpack(key)[0] >= self.max_entries:
            raise Refused(E2BIG)

    def delete(self, key: bytes) -> None:
        """Empty a slot. Raises: Refused (EINVAL: no such index)."""
        if U32.unpack(key)[0] >= self.max_entries:
            raise Refused(EINVAL)
        self.targets.pop(key, None)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next index, of an empty slot or not. Raises: Refused (ENOENT)."""
        return next_index(key, self.max_entries)


class RedirectWithPrograms(RedirectMap[T]):
    """A map whose targets have a program each, if values have room for one: a number, and a descriptor.

    `attach_type`: what programs must be loaded for; `bad_program`: what is answered where they are not,
    and for a descriptor of something else, unless the map `tells_why`.
    """

    attach_type: int
    bad_program: int
    tells_why = False

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.owner = Owner(kernel, same_attach_type=False)

    def program(self, fd: int) -> SimProgram | None:
        """Return the program of a new target; none for 0 and below. Raises: Refused.

        Source: __dev_map_alloc_node, __cpu_map_entry_alloc.
        """
        if fd <= 0:
            return None
        try:
            program = program_of(self.kernel, fd)
        except Refused as refused:
            raise refused if self.tells_why else Refused(self.bad_program) from None
        suits = program.type == c.BPF_PROG_TYPE_XDP and program.expected_attach_type == self.attach_type
        if not suits or program.is_dev_bound or not self.owner.admits(program):
            raise Refused(self.bad_program)
        return program

    def packed(self, number: int, program: SimProgram | None) -> bytes:
        """Return a value as it is read back: with the program's id."""
        return (U32.pack(number) + U32.pack(program.id if program else 0))[: self.value_size]


def number_and_fd(value: bytes) -> tuple[int, int]:
    """Return the number in a value, and the descriptor, which is signed and 0 where there is no room for it."""
    fd = U32.unpack(value[4:])[0] if len(value) > U32.size else 0
    return U32.unpack(value[:4])[0], fd - (fd >> 31 << 32)
