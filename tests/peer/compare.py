"""Compares what libbpf and rawbpf make of one object: maps, what is in them at first, programs, relocated instructions.

A difference is a pair: what differs, in words that are the same on every machine, and how.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from peer.libbpf import Answer, Created, MapAnswer, MapNumbers, Update
from rawbpf.asm import Instruction, encode
from rawbpf.asm.instruction import MapReference
from rawbpf.btf.ext import pack_func_info, pack_line_info
from rawbpf.loader.externs import POISON
from rawbpf.loader.link import function_starts, line_starts
from rawbpf.loader.spec import ObjectSpec
from rawbpf.map.create import fields_of
from rawbpf.spec.map import PIN_BY_NAME, MapSpec
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import constants as c

Difference = tuple[str, str]
Code = Mapping[str, list[Instruction] | Exception]
"""The relocated instructions of programs, or why they cannot be relocated."""
_Number = Literal[
    "map_type", "key_size", "value_size", "max_entries", "map_flags", "map_extra", "key_type_id", "value_type_id"
]
_NUMBERS: tuple[_Number, ...] = get_args(_Number)
# libbpf asks this machine how many CPUs it has, wherever the suite runs.
_MACHINE = KernelBackend()
# libbpf cuts the names of data sections to what the kernel takes.
_LONGEST = 15
_CALL_OF_NOTHING = "8520000000000000"
_RINGS = (c.BPF_MAP_TYPE_RINGBUF, c.BPF_MAP_TYPE_USER_RINGBUF)


def differing(spec: ObjectSpec, answer: Answer) -> list[Difference]:
    """Return how the maps and programs of `spec` differ from those in libbpf's `answer`, but for instructions."""
    return [*_maps(spec, answer), *_programs(spec, answer)]


def differing_code(code: Code, answer: Answer) -> Iterator[Difference]:
    """Yield how `code` differs from that in libbpf's `answer`, of every program that libbpf relocates."""
    places = {map_name(each): place for place, each in enumerate(answer["maps"])}
    for each in answer["programs"]:
        if each["code"] is None:
            continue
        what, mine = f"program {each['name']}", code.get(each["name"])
        if mine is None or isinstance(mine, Exception):
            yield f"{what}: instructions", f"not relocated: {mine!r}"
            continue
        own = encode([resolved(instruction, places) for instruction in mine], sys.byteorder)
        functions, lines = pack_func_info(function_starts(mine)), pack_line_info(_lines(mine))
        yield from _records(f"{what}: instructions", own, _as_newer(each["code"], own), 8)
        yield from _records(f"{what}: functions", functions, each["functions"], 8)
        yield from _records(f"{what}: lines", lines, each["lines"], 16)


def _lines(code: list[Instruction]) -> Iterator[tuple[int, int, int, int, int]]:
    for slot, line in line_starts(code):
        yield slot, line.file_name_offset, line.text_offset, line.number, line.column


# Where a weak function is missing, older libbpf calls the function 0 and newer what rawbpf calls.
def _as_newer(code: str, mine: bytes) -> str:
    slots = [code[at : at + 16] for at in range(0, len(code), 16)]
    for at, slot in enumerate(slots):
        own = mine[8 * at : 8 * at + 8]
        if slot == _CALL_OF_NOTHING and own[:4] == b"\x85\0\0\0" and int.from_bytes(own[4:], sys.byteorder) >= POISON:
            slots[at] = own.hex()
    return "".join(slots)


# The first of the records that differ.
def _records(what: str, mine: bytes, theirs: str, size: int) -> Iterator[Difference]:
    other = bytes.fromhex(theirs)
    for at in range(0, max(len(mine), len(other)), size):
        here, there = mine[at : at + size].hex(), other[at : at + size].hex()
        if here != there:
            yield what, f"{at // size}: {here or 'none'} instead of {there or 'none'}"
            return


def _maps(spec: ObjectSpec, answer: Answer) -> Iterator[Difference]:
    theirs = {map_name(each): each for each in answer["maps"]}
    ours = {name[:_LONGEST] if each.is_data else name: each for name, each in spec.maps.items()}
    yield from _presence("map", ours, theirs)
    for name in ours.keys() & theirs.keys():
        mine, other = ours[name], theirs[name]
        numbers: dict[str, tuple[object, object]] = {
            **_numbers(mine, other),
            "map_flags": (mine.map_flags, _flags(spec, mine, other)),
            "pinning": (mine.pinning == PIN_BY_NAME, other["is_pinned"]),
            "is_data": (mine.is_data, other["is_internal"]),
        }
        if mine.inner is None or other["inner"] is None:
            numbers["inner"] = (mine.inner is not None, other["inner"] is not None)
        else:
            numbers |= {f"inner {key}": pair for key, pair in _numbers(mine.inner, other["inner"]).items()}
        if answer["is_whole"] and other["name"] in answer["created"]:  # all but those that are made when asked for
            made, created = fields_of(_MACHINE, mine), answer["created"][other["name"]]
            wanted = {**created, "map_flags": _flags(spec, mine, created)}
            if not created["max_entries"]:  # the kernel refuses a CPU map of none: rawbpf gives it the machine's CPUs
                del wanted["max_entries"]
            if mine.map_type == c.BPF_MAP_TYPE_STRUCT_OPS:  # that of the kernel's struct, which rawbpf finds later
                del wanted["value_size"]
            numbers |= {f"created {field}": (made.get(field, 0), value) for field, value in wanted.items()}
            numbers["contents"] = (_contents(mine), _written(answer["updates"], other))
        yield from _fields(f"map {name}", numbers)


def _presence(kind: str, mine: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[Difference]:
    for name in theirs.keys() - mine.keys():
        yield f"{kind} {name}: missing", ""
    for name in mine.keys() - theirs.keys():
        yield f"{kind} {name}: only here", ""


def _fields(what: str, pairs: Mapping[str, tuple[object, object]]) -> Iterator[Difference]:
    for field, (mine, other) in pairs.items():
        if mine != other:
            yield f"{what}: {field}", f"{mine} instead of {other}"


def _numbers(mine: MapSpec, other: MapNumbers) -> dict[str, tuple[object, object]]:
    pairs: dict[str, tuple[object, object]] = {name: (getattr(mine, name), other[name]) for name in _NUMBERS}
    pairs["numa_node"] = (mine.numa_node or 0, other["numa_node"])
    if mine.map_type in _RINGS:  # libbpf makes a size possible when it reads it, rawbpf when it creates the map
        del pairs["max_entries"]
    if mine.map_type == c.BPF_MAP_TYPE_STRUCT_OPS:  # the object's struct, which is none of the map's in the end
        del pairs["value_type_id"]
    return pairs


# libbpf lets a section be mapped that has a global variable. rawbpf offers static ones too, and needs that for them.
def _flags(spec: ObjectSpec, mine: MapSpec, other: Created) -> int:
    own = mine.is_data and any(variable.map is mine for variable in spec.variables.values())
    return other["map_flags"] | (c.BPF_F_MMAPABLE if own else 0)


# A data section's bytes, or by index the names of maps and programs.
def _contents(mine: MapSpec) -> object:
    return mine.read(0, mine.value_size).hex() if mine.is_data else mine.values


def _written(updates: list[Update], other: MapAnswer) -> object:
    written = {each["key"]: each for each in updates if each["map"] == other["name"]}
    if other["is_internal"]:
        return written[0]["value"] if written else bytes(other["value_size"]).hex()
    return {key: each["name"] for key, each in written.items()}


def _programs(spec: ObjectSpec, answer: Answer) -> Iterator[Difference]:
    theirs = {each["name"]: each for each in answer["programs"]}
    yield from _presence("program", spec.programs, theirs)
    for name in spec.programs.keys() & theirs.keys():
        mine, other = spec.programs[name], theirs[name]
        pairs: dict[str, tuple[object, object]] = {
            "section": (mine.section.removeprefix("?"), other["section"]),
            "prog_type": (mine.prog_type, other["prog_type"]),
            "expected_attach_type": (mine.expected_attach_type, other["expected_attach_type"]),
            "autoload": (mine.autoload, other["autoload"]),
        }
        if mine.prog_type == c.BPF_PROG_TYPE_STRUCT_OPS:  # the place in a table, which rawbpf finds when it loads
            del pairs["expected_attach_type"]
        yield from _fields(f"program {name}", pairs)


def resolved(instruction: Instruction, places: Mapping[str, int]) -> Instruction:
    """Return `instruction` with what it refers to filled in as the driver does: maps by their place."""
    reference = instruction.reference
    if isinstance(reference, MapReference):
        place = places.get(reference.name, places.get(reference.name[:_LONGEST], -1))
        return instruction.replace(imm=place & 0xFFFFFFFF | (reference.offset or 0) << 32)
    return instruction


def map_name(answer: MapAnswer) -> str:
    """Return the name by which rawbpf knows the map: data sections without the object's name in front."""
    name = answer["name"]
    return name[name.index(".") :] if answer["is_internal"] else name
