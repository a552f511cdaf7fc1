"""Names in place of the numbers that another kernel gives otherwise: descriptors, ids, directories of pins.

`Objects` knows what is open on one side. `places` tells where such numbers stand in a call's memory.
Must not make any bpf(2) call: what a descriptor is of, its fdinfo says.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Container, Iterator, Mapping

from rawbpf.syscall.lifetime import identity
from rawbpf.testing.pointee import INFOS, Fields, Shape
from rawbpf.testing.recording import CLOSED
from rawbpf.uapi import constants as c

_ID_LINES = {"link": "link_id", "map": "map_id", "prog": "prog_id", "btf": "btf_id"}
_CLOSED_FDS = (-1, 0xFFFF_FFFF)

# Maps whose values begin with a descriptor in an update, and with what kind of id in a lookup ("" where with none).
_OF_DESCRIPTORS = {
    c.BPF_MAP_TYPE_PROG_ARRAY: "prog",
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "",
    c.BPF_MAP_TYPE_CGROUP_ARRAY: "",
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS: "map",
    c.BPF_MAP_TYPE_HASH_OF_MAPS: "map",
    c.BPF_MAP_TYPE_SOCKMAP: "",
    c.BPF_MAP_TYPE_SOCKHASH: "",
    c.BPF_MAP_TYPE_XSKMAP: "",
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "",
}
# Those whose values have the descriptor or id of a program at byte 4, where they are that long.
_WITH_PROGRAMS = (c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_DEVMAP_HASH, c.BPF_MAP_TYPE_CPUMAP)
# Those whose keys are the descriptor of an owner.
_OF_OWNERS = (
    c.BPF_MAP_TYPE_SK_STORAGE,
    c.BPF_MAP_TYPE_INODE_STORAGE,
    c.BPF_MAP_TYPE_TASK_STORAGE,
    c.BPF_MAP_TYPE_CGRP_STORAGE,
)
_UPDATES = (c.BPF_MAP_UPDATE_ELEM, c.BPF_MAP_UPDATE_BATCH)
_LOOKUPS = (
    c.BPF_MAP_LOOKUP_ELEM,
    c.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
    c.BPF_MAP_LOOKUP_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
)
_LD_IMM64 = 0x18
# Instructions whose imm is the descriptor of a map.
_MAP_SOURCES = (c.BPF_PSEUDO_MAP_FD, c.BPF_PSEUDO_MAP_VALUE)
_INFO_IDS = {
    "map": {"id": "map", "btf_id": "btf"},
    "prog": {"id": "prog", "btf_id": "btf"},
    "btf": {"id": "btf"},
    "link": {"id": "link", "prog_id": "prog"},
}
_ID_FIELDS = {"map_id": "map", "prog_id": "prog", "btf_id": "btf", "link_id": "link"}
_WALKS = {
    c.BPF_MAP_GET_NEXT_ID: "map",
    c.BPF_PROG_GET_NEXT_ID: "prog",
    c.BPF_BTF_GET_NEXT_ID: "btf",
    c.BPF_LINK_GET_NEXT_ID: "link",
}
# Attach types whose target is the number of an interface.
_ON_INTERFACES = (c.BPF_XDP, c.BPF_TCX_INGRESS, c.BPF_TCX_EGRESS, c.BPF_NETKIT_PRIMARY, c.BPF_NETKIT_PEER)


class Objects:
    """The descriptors and ids of one side, by number and by name. `fdinfo` tells what a descriptor is of."""

    def __init__(self, fdinfo: Callable[[int], str]) -> None:
        self._fdinfo = fdinfo
        self._opened: dict[int, tuple[str, Shape]] = {}
        self._identities: dict[int, tuple[int, int]] = {}
        self._foreign: dict[tuple[int, str], str] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._numbers: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def new_name(self, kind: str) -> str:
        """Return a name that was not given before."""
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        return f"{kind}{count}"

    def open(self, fd: int, shape: Shape | None = None) -> tuple[str, Shape]:
        """Name a descriptor that a call returned."""
        self.close(fd)  # it was, by others, or it could not be opened again
        self._identities[fd] = identity(fd)
        found = self._opened[fd] = self.new_name("fd"), shape_of(self._fdinfo(fd)) if shape is None else shape
        self._numbers[found[0]] = fd
        return found

    def close(self, fd: int) -> None:
        """Forget a descriptor."""
        name, _ = self._opened.pop(fd, ("", None))
        self._numbers.pop(name, None)

    def knows(self, fd: int) -> bool:
        """Return whether a call returned `fd`, and no call closed it."""
        return fd in self._opened

    def holds(self, fd: int) -> bool:
        """Return whether `fd` is still what a call returned, and neither closed nor another file's by now."""
        return fd in self._opened and identity(fd) == self._identities[fd] != (-1, -1)

    def all_open(self) -> list[int]:
        """Return the descriptors that calls returned and that were not closed, by whomever."""
        return list(filter(self.holds, self._opened))

    def shape(self, fd: int) -> Shape:
        """Return what a descriptor is of, whoever opened it."""
        if self.holds(fd):
            return self._opened[fd][1]
        try:
            return shape_of(self._fdinfo(fd))
        except OSError:
            return Shape()

    def is_foreign(self, name: str) -> bool:
        """Return whether a descriptor was opened by somebody else, by a call that is not in the recording."""
        return name in self._foreign.values()

    def fd_name(self, fd: int) -> str:
        """Return the name of a descriptor, `closed` if it is not open."""
        if self.holds(fd):
            return self._opened[fd][0]
        try:
            what = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return CLOSED
        name = self._foreign.setdefault((fd, what), "") or self.new_name("fd")
        self._foreign[fd, what] = name
        self._numbers[name] = fd
        return name

    def id_name(self, kind: str, number: int) -> str:
        """Return the name of an id."""
        name = self._names.get((kind, number))
        if name is None:
            name = self._names[kind, number] = self.new_name(kind)
            self._numbers[name] = number
        return name

    def new_id(self, kind: str) -> tuple[int, str]:
        """Return an id that was not given before, and its name."""
        number = self._counts.get(kind, 0) + 1
        return number, self.id_name(kind, number)

    def number(self, name: str) -> int | None:
        """Return the descriptor or id of a name; None where it has none (yet, or any more)."""
        return self._numbers.get(name)


def shape_of(fdinfo: str) -> Shape:
    """Return what the text of an fdinfo file is of."""
    words = {name: value.strip() for name, _, value in (line.partition(":") for line in fdinfo.splitlines())}
    kind = next((kind for kind, line in _ID_LINES.items() if line in words), "")
    if kind != "map":
        return Shape(kind, int(words[_ID_LINES[kind]])) if kind else Shape()
    names = ("map_id", "map_type", "key_size", "value_size", "map_flags")
    return Shape("map", *(int(words.get(name, "0"), 0) for name in names))


def descriptor_fields(cmd: int, fields: Fields) -> list[str]:
    """Return the fields of an attr that hold descriptors."""
    found = [name for name in fields if name.endswith("_fd")]
    if fields.get("attach_type") in _ON_INTERFACES and cmd != c.BPF_PROG_QUERY:
        found = [name for name in found if name != "target_fd"]
    return found


def id_fields(cmd: int, fields: Fields) -> dict[str, str]:
    """Return the fields of an attr that hold ids, and of what kind each is."""
    if cmd in _WALKS:
        return {"start_id": _WALKS[cmd], "next_id": _WALKS[cmd]}
    return {name: kind for name, kind in _ID_FIELDS.items() if name in fields}


def is_walk(cmd: int) -> bool:
    """Return whether a command walks the ids of everything that there is."""
    return cmd in _WALKS


def descriptor_places(
    cmd: int, shape: Shape, memory: Mapping[str, bytes | None], order: str
) -> Iterator[tuple[str, int]]:
    """Yield where descriptors stand in what a call reads: memory and offset, 4 bytes each. `order`: for struct."""
    key = memory.get("key") or memory.get("keys")
    if shape.type in _OF_OWNERS and key is not None and shape.key_size == 4 and shape.kind == "map":
        name = "key" if "key" in memory else "keys"
        yield from ((name, at) for at in range(0, len(key) - 3, 4))
    if cmd in _UPDATES:
        yield from _in_values(shape, memory, _OF_DESCRIPTORS.keys())
    if cmd == c.BPF_PROG_LOAD:
        insns = memory.get("insns") or b""
        for at in range(0, len(insns) - 7, 8):
            registers = insns[at + 1]
            source = registers >> 4 if order == "<" else registers & 0xF
            if insns[at] == _LD_IMM64 and source in _MAP_SOURCES:
                yield "insns", at + 4
        yield from (("fd_array", at) for at in range(0, len(memory.get("fd_array") or b""), 4))


def id_places(
    cmd: int, fields: Fields, shape: Shape, memory: Mapping[str, bytes | None]
) -> Iterator[tuple[str, int, str]]:
    """Yield where ids stand in what a call wrote that succeeded: memory, offset and kind."""
    if cmd in _LOOKUPS:
        kind = _OF_DESCRIPTORS.get(shape.type) or "prog"
        kinds = [each for each, name in _OF_DESCRIPTORS.items() if name]
        count = fields.get("count", 1)
        for name, at in _in_values(shape, memory, kinds):
            if at < count * shape.value_size:
                yield name, at, kind
    if cmd == c.BPF_OBJ_GET_INFO_BY_FD and shape.kind in _INFO_IDS:
        info = memory.get("info") or b""
        for name, offset, _ in INFOS[shape.kind].fields:
            if name in _INFO_IDS[shape.kind] and offset + 4 <= len(info):
                yield "info", offset, _INFO_IDS[shape.kind][name]
        yield from (("info.map_ids", at, "map") for at in range(0, len(memory.get("info.map_ids") or b"") - 3, 4))


def _in_values(shape: Shape, memory: Mapping[str, bytes | None], types: Container[int]) -> Iterator[tuple[str, int]]:
    if shape.kind != "map" or not shape.value_size:
        return
    for name in ("value", "values"):
        size = len(memory.get(name) or b"")
        for at in range(0, size - shape.value_size + 1, shape.value_size):
            if shape.type in types and shape.value_size >= 4:
                yield name, at
            elif shape.type in _WITH_PROGRAMS and shape.value_size == 8:
                yield name, at + 4


def taken(number: int) -> bool:
    """Return whether a number in a place of a descriptor or an id is one: 0 and -1 say that there is none."""
    return number != 0 and number not in _CLOSED_FDS


def word(order: str) -> struct.Struct:
    """Return the four bytes of a descriptor or an id in memory."""
    return struct.Struct(f"{order}I")
