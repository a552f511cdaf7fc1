"""Programs that the simulated kernel holds: with the maps and BTF that they refer to.

They are not verified and do not run. Source: kernel/bpf/syscall.c:bpf_prog_load (v6.12).
"""

from __future__ import annotations

import os
import time

from rawbpf.asm.instruction import LD_IMM64
from rawbpf.sim.kernel import Identified
from rawbpf.sim.stream import SimStreams
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.base import SimMap

_SLOT = 8
"""Bytes of an instruction, or of half a long one."""


class SimProgram(Identified):
    """A loaded program.

    `instructions` are as info shows them, `tag` and `function_tags` of what was loaded. `maps` and `btfs` are kept
    alive. `func_info` and `line_info` are records of 8 and 16 bytes, whose types are in `btf`. `target`: the BTF id
    and the object (an id, and the program if it is one's) that it was loaded for.
    """

    is_dev_bound = False
    has_frags = False
    is_sleepable = False
    tag = bytes(8)
    func_info = b""
    line_info = b""
    target: tuple[int, int] = (0, 0)
    target_program: SimProgram | None = None

    def __init__(self, prog_type: int, expected_attach_type: int, name: bytes, gpl: bool) -> None:
        self.type = prog_type
        self.expected_attach_type = expected_attach_type
        self.name = name
        self.gpl = gpl
        self.instructions = b""
        self.function_tags: list[bytes] = []
        self.maps: list[SimMap] = []
        self.btfs: list[Identified] = []
        self.btf: Identified | None = None
        self.load_time = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.uid = os.getuid()
        self.streams = SimStreams()

    @property
    def resolved_type(self) -> int:
        """The type, or for an extension that of the program which it extends. Source: resolve_prog_type."""
        if self.type == c.BPF_PROG_TYPE_EXT and self.target_program is not None:
            return self.target_program.type
        return self.type

    @property
    def verified(self) -> int:
        """How many instructions a verifier looks at that goes through them once: one of two slots is one."""
        opcodes = self.instructions[::_SLOT]
        return len(opcodes) - opcodes.count(LD_IMM64)


def program_of(kernel: Kernel, fd: int) -> SimProgram:
    """Return the program behind `fd`. Raises: Refused (EBADF; EINVAL: no program). Source: bpf_prog_get."""
    content = kernel.files.get(fd, SimProgram).content
    assert isinstance(content, SimProgram)
    return content
