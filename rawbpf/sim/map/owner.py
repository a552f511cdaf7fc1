"""Which programs may be called from a map: those like the first that was stored, or that uses the map.

Source: kernel/bpf/core.c:__bpf_prog_map_compatible (v6.18).
"""

from __future__ import annotations

from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.program import SimProgram

# Types whose programs must have been loaded for the same function.
_BY_TARGET = (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_LSM, c.BPF_PROG_TYPE_EXT, c.BPF_PROG_TYPE_STRUCT_OPS)


class Owner:
    """What programs of a map have in common; nothing before the first."""

    def __init__(self, kernel: Kernel, same_attach_type: bool) -> None:
        # Commit 4540aed51b12 ("bpf: Enforce expected_attach_type for tailcall compatibility") (in v6.18)
        self._same_attach_type = same_attach_type and kernel.release.version >= (6, 18)
        self._first: tuple[int, bool, int, tuple[int, int]] | None = None

    @property
    def prog_type(self) -> int | None:
        """The type of the first program; None before there is one."""
        return None if self._first is None else self._first[0]

    def admits(self, program: SimProgram) -> bool:
        """Return whether `program` suits; the first one does, and decides."""
        target = program.target if program.resolved_type in _BY_TARGET else (0, 0)
        attach_type = program.expected_attach_type if self._same_attach_type else 0
        this = (program.resolved_type, program.has_frags, attach_type, target)
        if self._first is None:
            self._first = this
        return self._first == this
