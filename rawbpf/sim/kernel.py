"""The simulated kernel's state: open files, objects by id, pins; and what kind of kernel it is.

An object lives as long as something refers to it: a file, a pin, a program, another map. Those
references are Python's own, so the tables of ids hold their objects weakly.
"""

from __future__ import annotations

import copy
import random
from errno import EINVAL, ENOENT
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from rawbpf.sim.bpffs import BpfFs
from rawbpf.sim.error import Refused
from rawbpf.sim.file import Content, Files
from rawbpf.sim.memory import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.sim.btf import KernelBtf, LoadedBtf
    from rawbpf.sim.host import SimulatedHost
    from rawbpf.sim.map.base import SimMap
    from rawbpf.sim.program import SimProgram
    from rawbpf.sim.release import Release


class Identified(Content):
    """An object that has an id."""

    id: int = 0


T = TypeVar("T", bound=Identified)


class Ids(Generic[T]):
    """The objects of one kind that are alive, by id; ids are handed out in order and not used again."""

    def __init__(self) -> None:
        self._next = 1
        self._alive: WeakValueDictionary[int, T] = WeakValueDictionary()

    def __deepcopy__(self, memo: dict[int, object]) -> Ids[T]:
        # A weak dictionary's own way leaves its values as they are.
        copied: Ids[T] = Ids()
        copied._next = self._next
        copied._alive.update({number: copy.deepcopy(item, memo) for number, item in self._alive.items()})
        return copied

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._alive.values()))

    def add(self, item: T) -> None:
        """Give `item` its id."""
        item.id = self._next
        self._alive[self._next] = item
        self._next += 1

    def get(self, number: int) -> T:
        """Return the object. Raises: Refused (ENOENT)."""
        item = self._alive.get(number)
        if item is None:
            raise Refused(ENOENT)
        return item

    def after(self, number: int) -> int:
        """Return the lowest id above `number`. Raises: Refused (ENOENT: the end; EINVAL: no possible id)."""
        if number >= 0x7FFFFFFF:
            raise Refused(EINVAL)
        above = [each for each in list(self._alive) if each > number]
        if not above:
            raise Refused(ENOENT)
        return min(above)


class Kernel:
    """All that the commands work on.

    `files`, `maps`, `programs`, `btfs` and `pins` are the state; `memory` is the caller's; `release` says
    what this kernel does not have yet; `random` is seeded, so that two simulators with one seed agree.
    """

    def __init__(self, release: Release, host: SimulatedHost, seed: int) -> None:
        self.memory = Memory()
        self.release = release
        self.host = host
        self.random = random.Random(seed)
        self.files = Files()
        self.maps: Ids[SimMap] = Ids()
        self.programs: Ids[SimProgram] = Ids()
        self.btfs: Ids[LoadedBtf | KernelBtf] = Ids()
        # The first of them, where this kernel's own types have an id; nothing else keeps it alive.
        self.types = self._own_types()
        self.last_event_id = 0
        self.pins = BpfFs()

    def _own_types(self) -> KernelBtf | None:
        from rawbpf.sim.btf import KernelBtf

        if not (self.release.lists_own_types and self.host.has_btf):
            return None
        types = KernelBtf(self.host)
        self.btfs.add(types)
        return types

    def sweep(self) -> None:
        """Let go of what was closed or unlinked without a call to this kernel."""
        self.files.sweep()
        self.pins.sweep()

    def adopt(self, current: Kernel) -> None:
        """Take over descriptors and files from `current`, for a kernel that was copied from an earlier moment of it.

        Raises: OSError where pins cannot be made again; `current` is then as it was.
        """
        self.pins.adopt(current.pins)
        self.files.adopt(current.files)
