"""A program's side of perf event arrays, for whoever plays the program: what bpf_perf_event_output does.

It returns what the helper returns: a number that is negative for an errno.
Source: kernel/trace/bpf_trace.c:bpf_perf_event_output (v6.12).
"""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.error import Refused
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.guard import Guard
    from rawbpf.sim.map.perf_event_array import SimPerfEventArray


class PerfEventArray:
    """A program's side of an array, from `Simulator.perf_event_array`. It is for the map as it is until a restore."""

    def __init__(self, target: SimPerfEventArray, guard: Guard) -> None:
        self._target = target
        self._guard = guard

    def output(self, data: bytes, flags: int = c.BPF_F_CURRENT_CPU, *, cpu: int = 0) -> int:
        """Write `data` as one sample to the event that `flags` choose, as a program on `cpu` does.

        Returns: 0; -ENOENT: no event there; -EOPNOTSUPP: it is of another CPU, or disabled; -E2BIG: no such index;
        -ENOSPC: its buffer is full, or not mapped; -EINVAL.
        """
        if flags & ~c.BPF_F_INDEX_MASK:
            return -EINVAL
        index = cpu if flags == c.BPF_F_CURRENT_CPU else flags
        with self._guard:
            try:
                self._target.output(index, cpu, data)
            except Refused as refused:
                return -refused.errno
        return 0
