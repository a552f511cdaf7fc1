"""A kernel in process: bpf(2)'s maps, BTF, pins, ids and info without privileges, and an oracle for tests.

It shares no code with what it judges: of the rest of rawbpf it sees constants and layouts (uapi), BTF and
instructions (btf, asm), errors, and the protocol that it implements. `Simulator` is made when asked for:
`import rawbpf` must stay light.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.simulator import Simulator as Simulator
    from rawbpf.sim.simulator import Snapshot as Snapshot

__all__ = ["Simulator", "Snapshot"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from rawbpf.sim import simulator

        value: object = getattr(simulator, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
