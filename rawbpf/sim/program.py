"""Programs that the simulated kernel holds: accepted as they are, referring to the maps that they use.

They are not verified and do not run. Source: kernel/bpf/syscall.c:bpf_prog_load (v6.12).
"""

from __future__ import annotations

from hashlib import sha1

from rawbpf.sim.kernel import Identified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.btf import LoadedBtf
    from rawbpf.sim.map.base import SimMap


class SimProgram(Identified):
    """A loaded program: its type, instructions and name, and the maps and BTF that it keeps alive."""

    def __init__(self, prog_type: int, expected_attach_type: int, instructions: bytes, name: bytes, gpl: bool) -> None:
        self.type = prog_type
        self.expected_attach_type = expected_attach_type
        self.instructions = instructions
        self.name = name
        self.gpl = gpl
        self.maps: list[SimMap] = []
        self.btf: LoadedBtf | None = None
        self.load_time = 0
        self.tag = sha1(instructions, usedforsecurity=False).digest()[:8]
