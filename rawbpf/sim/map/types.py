"""Which class is which map type."""

from __future__ import annotations

from rawbpf.sim.map.array import SimArray, SimPerCpuArray
from rawbpf.sim.map.hash import SimHash, SimPerCpuHash
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.map.base import SimMap

TYPES: dict[int, type[SimMap]] = {
    c.BPF_MAP_TYPE_HASH: SimHash,
    c.BPF_MAP_TYPE_ARRAY: SimArray,
    c.BPF_MAP_TYPE_PERCPU_HASH: SimPerCpuHash,
    c.BPF_MAP_TYPE_PERCPU_ARRAY: SimPerCpuArray,
}
"""The class of each map type that is simulated, by its number."""
