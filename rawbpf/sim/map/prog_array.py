"""Program arrays, for tail calls: programs of one kind, gone once no file and no pin leads to the map.

Source: kernel/bpf/arraymap.c:prog_fd_array_get_ptr, prog_array_map_clear (v6.12).
"""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.error import Refused
from rawbpf.sim.map.fd_array import SimFdArray
from rawbpf.sim.map.owner import Owner
from rawbpf.sim.program import SimProgram, program_of
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape


class SimProgArray(SimFdArray[SimProgram]):
    """BPF_MAP_TYPE_PROG_ARRAY."""

    takes_btf = True
    takes_no_key_type = False
    reads_back = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.owner = Owner(kernel, same_attach_type=True)

    def get(self, fd: int) -> SimProgram:
        """Return a program. Raises: Refused (EBADF; EINVAL: no program, or not one that suits)."""
        program = program_of(self.kernel, fd)
        if program.type == c.BPF_PROG_TYPE_EXT or program.is_dev_bound or not self.owner.admits(program):
            raise Refused(EINVAL)
        return program

    def number(self, item: SimProgram) -> int:
        """Return the program's id."""
        return item.id

    def abandoned(self) -> None:
        """Let go of the programs, which may use this map themselves."""
        self.slots.clear()
