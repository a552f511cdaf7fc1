"""Which objects a map takes as keys or values, and what it says to others, by the names of `rawbpf.testing.stage`."""

from __future__ import annotations

from collections.abc import Mapping

from rawbpf.testing.cells import CELLS, Cell
from rawbpf.testing.named import Named

# By map type: what is said to an object of a kind. A kind that is missing is "another kind".
_ANSWERS: dict[str, dict[str, str]] = {
    "prog_array": {"program": "", "xdp program": ""},
    "perf_event_array": {"perf event": ""},
    "cgroup_array": {"cgroup": ""},
    "array_of_maps": {"inner map": "", "odd map": "unlike the template"},
    "hash_of_maps": {"inner map": "", "odd map": "unlike the template"},
    "devmap": {"devmap program": ""},
    "devmap_hash": {"devmap program": ""},
    "cpumap": {"cpumap program": ""},
    "sockmap": {"tcp socket": "", "unix socket": "", "unconnected socket": "unsuitable"},
    "sockhash": {"tcp socket": "", "unix socket": "", "unconnected socket": "unsuitable"},
    "xskmap": {"xdp socket": "", "tcp socket": "unsuitable"},
    "reuseport_sockarray": {"udp socket": "", "tcp socket": "unsuitable"},
    "sk_storage": {"tcp socket": "", "udp socket": "", "unix socket": "", "unconnected socket": ""},
    "inode_storage": {"file": ""},
    "task_storage": {"task": ""},
    "cgrp_storage": {"cgroup": ""},
}


def kind(named: Named) -> str:
    """Return the kind of an object: its name without the number; "closed" for descriptors of nothing."""
    if named.name in {"closed descriptor", "descriptor -1"}:
        return "closed"
    return named.name.rpartition(" ")[0]


def answer(map_type: str, named: Named, cells: Mapping[Cell, str] = CELLS) -> str:
    """Return "" where a map of this type takes the object, else the case of the refusal: a kind with a cell is one."""
    what = kind(named)
    if Cell(map_type, "update", what) in cells:
        return what
    return "closed" if what == "closed" else _ANSWERS[map_type].get(what, "another kind")


def is_beyond(value: bytes | Named) -> bool:
    """Return whether a value is no number that a descriptor can have, as -1 is where it counts as unsigned."""
    return isinstance(value, bytes) or value.name == "descriptor -1"
