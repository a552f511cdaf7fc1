"""What the simulator tells of its objects is what the running kernel tells: info, its lengths, fdinfo, ids."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator

import pytest
from support import btf_image as i
from support.btf_image import Image
from support.twin import RETURN_0, Side, agree, u32

from rawbpf.asm import build
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO
from rawbpf.uapi.names import map_type_name

pytestmark = pytest.mark.needs("kernel")

PAGE = 4096
_IDS = ("mnt_id", "ino", "map_id", "btf_id", "prog_id", "prog_jited", "owner_jited", "memlock")


def _load_btf(side: Side, image: Image, name: str = "btf") -> str:
    content = image.to_bytes()
    buffer = ctypes.create_string_buffer(content, len(content))
    return side.keep(name, side.call(a.BTF_LOAD, btf=ctypes.addressof(buffer), btf_size=len(content))[0])


def _objects(side: Side) -> list[str]:
    image = Image()
    number = image.integer()
    assert _load_btf(side, image) == ""
    types = {"btf_fd": side.fds["btf"], "btf_key_type_id": number, "btf_value_type_id": number}
    assert side.make_map("map", c.BPF_MAP_TYPE_ARRAY, 4, 4, 1, **types) == ""
    assert side.load("program")[0] == ""
    return ["map", "btf", "program"]


def _info(
    side: Side, fd: int, size: int, content: bytes = b"", address: int | None = None
) -> tuple[object, int, bytes]:
    room = ctypes.create_string_buffer(content, 2 * PAGE)
    pointer = ctypes.addressof(room) if address is None else address
    result, image = side.call(a.OBJ_GET_INFO_BY_FD, bpf_fd=fd, info_len=size, info=pointer)
    return result, a.OBJ_GET_INFO_BY_FD.integer(image, "info_len"), room.raw


SIZES = (0, 1, 4, 16, 20, 24, 31, 32, 33, 40, 80, 88, 96, 99, 100, 103, 104, 105, 227, 228, 229, 232, 233, 4096, 4097)


@pytest.mark.parametrize("which", ["map", "btf", "program"])
def test_any_length_is_taken_or_refused_alike(which: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        _objects(side)
        fd = side.fds[which]
        for size in SIZES:
            yield size, _info(side, fd, size)[:2]
            # A byte behind what is told; arrays that info may point to are left alone.
            yield size, _info(side, fd, size, bytes(max(size - 1, 0)) + b"\1")[:2] if size > 104 else ""
        yield (
            _info(side, fd, 104, address=0)[:2],
            _info(side, fd, 0, address=0)[:2],
            _info(side, fd, 104, address=8)[:2],
        )
        for other in (-1, 1_000_000, 0):
            yield other, _info(side, other, 104)[:2]

    agree(scenario)


def test_what_a_map_has_not_stays_in_the_buffer() -> None:
    def scenario(side: Side) -> Iterator[object]:
        _objects(side)
        assert side.make_map("plain", c.BPF_MAP_TYPE_HASH) == ""
        for name in ("map", "plain"):
            for size in (40, 44, 80, 88):
                result, length, told = _info(side, side.fds[name], size, b"\xff" * 104)
                # Without what differs: ids.
                yield name, size, result, length, told[:4], told[8:64], told[68:104]

    answers = agree(scenario)
    assert any(answer[-1][:4] == b"\xff" * 4 for answer in answers if isinstance(answer, tuple))


def test_a_map_tells_its_hash_once_it_is_frozen() -> None:
    def scenario(side: Side) -> Iterator[object]:
        _objects(side)
        assert side.make_map("hash", c.BPF_MAP_TYPE_HASH) == ""
        yield side.update("map", u32(0), b"abcd")
        for frozen in (False, True):
            if frozen:
                yield [side.call(a.MAP_FREEZE, map_fd=side.fds[name])[0] for name in ("map", "hash")]
            for name in ("map", "hash"):
                for size in (0, 16, 32, 33):
                    for given in (True, False):
                        digest = ctypes.create_string_buffer(40)
                        image = MAP_INFO.pack(hash=ctypes.addressof(digest) if given else 0, hash_size=size)
                        result, length, told = _info(side, side.fds[name], 104, image.raw[:104])
                        yield frozen, name, size, given, result, length, told[96:100], digest.raw

    told = [answer[-1] for answer in agree(scenario) if isinstance(answer, tuple)]
    assert hashlib.sha256(b"abcd" + bytes(4)).digest() + bytes(8) in told


def _fdinfo(side: Side, name: str) -> list[str]:
    lines = [line.partition(":") for line in side.backend.fdinfo(side.fds[name]).splitlines()]
    return [field if field in _IDS else field + value for field, _, value in lines if field]


def test_fdinfo_has_the_same_lines() -> None:
    def scenario(side: Side) -> Iterator[object]:
        assert side.load("long", code=[build.ld_imm64(build.R1, 1 << 40), *RETURN_0])[0] == ""
        for name in [*_objects(side), "long"]:
            yield _fdinfo(side, name)
        assert side.make_map("calls", c.BPF_MAP_TYPE_PROG_ARRAY) == ""
        yield _fdinfo(side, "calls")
        yield side.update("calls", u32(0), u32(side.fds["program"])), _fdinfo(side, "calls")
        yield side.call(a.MAP_FREEZE, map_fd=side.fds["map"])[0], _fdinfo(side, "map")
        number = side.info("map", "id")
        for flags in (c.BPF_F_RDONLY, c.BPF_F_WRONLY):
            yield side.keep(str(flags), side.call(a.MAP_GET_FD_BY_ID, map_id=number, open_flags=flags)[0])
            yield _fdinfo(side, str(flags))

    agree(scenario)


# Sizes, entries and flags of maps; 0 entries is a page.
_U = (4, 4)
MEMORY: dict[int, list[tuple[tuple[int, int], int, int]]] = {
    kind: [
        ((key, value), entries, flags)
        for key in (4, 5, 12)
        for value in (4, 13)
        for entries in (1, 3, 64, 1000)
        for flags in each
    ]
    for kind, each in {
        c.BPF_MAP_TYPE_HASH: (0, c.BPF_F_NO_PREALLOC),
        c.BPF_MAP_TYPE_PERCPU_HASH: (0, c.BPF_F_NO_PREALLOC),
        c.BPF_MAP_TYPE_LRU_HASH: (0, c.BPF_F_NO_COMMON_LRU),
        c.BPF_MAP_TYPE_LRU_PERCPU_HASH: (0,),
    }.items()
}
for _kind in (
    *(c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_PERCPU_ARRAY, c.BPF_MAP_TYPE_PROG_ARRAY, c.BPF_MAP_TYPE_PERF_EVENT_ARRAY),
    *(c.BPF_MAP_TYPE_CGROUP_ARRAY, c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_DEVMAP_HASH, c.BPF_MAP_TYPE_SOCKMAP),
    *(c.BPF_MAP_TYPE_SOCKHASH, c.BPF_MAP_TYPE_XSKMAP, c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY),
    *(c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS),
):
    MEMORY[_kind] = [(_U, entries, 0) for entries in (1, 3, 100)]
MEMORY |= {
    c.BPF_MAP_TYPE_CPUMAP: [(_U, 1, 0), (_U, 2, 0)],
    c.BPF_MAP_TYPE_STACK_TRACE: [((4, value), entries, 0) for value in (8, 64) for entries in (1, 3, 100)],
    c.BPF_MAP_TYPE_LPM_TRIE: [((8, 8), 1000, c.BPF_F_NO_PREALLOC)],
    c.BPF_MAP_TYPE_QUEUE: [((0, value), entries, 0) for value in (4, 7) for entries in (1, 100)],
    c.BPF_MAP_TYPE_STACK: [((0, 4), 3, 0)],
    c.BPF_MAP_TYPE_BLOOM_FILTER: [((0, 4), entries, 0) for entries in (1, 100, 1000)],
    c.BPF_MAP_TYPE_RINGBUF: [((0, 0), PAGE, 0), ((0, 0), 4 * PAGE, 0)],
    c.BPF_MAP_TYPE_USER_RINGBUF: [((0, 0), PAGE, 0)],
    c.BPF_MAP_TYPE_CGROUP_STORAGE: [((16, 4), 0, 0)],
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: [((8, 64), 0, 0)],
    c.BPF_MAP_TYPE_SK_STORAGE: [(_U, 0, c.BPF_F_NO_PREALLOC)],
    c.BPF_MAP_TYPE_INODE_STORAGE: [(_U, 0, c.BPF_F_NO_PREALLOC)],
    c.BPF_MAP_TYPE_TASK_STORAGE: [(_U, 0, c.BPF_F_NO_PREALLOC)],
    c.BPF_MAP_TYPE_CGRP_STORAGE: [(_U, 0, c.BPF_F_NO_PREALLOC)],
}
MEMORY[c.BPF_MAP_TYPE_ARRAY] += [((4, 8), entries, c.BPF_F_MMAPABLE) for entries in (1, 1000)]
_OF_MAPS = (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)


@pytest.mark.parametrize("kind", MEMORY, ids=map_type_name)
def test_memory_is_counted_as_the_kernel_counts_it(kind: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        _objects(side)
        inner = side.fds["map"] if kind in _OF_MAPS else 0
        types = {"btf_fd": side.fds["btf"], "btf_key_type_id": 1, "btf_value_type_id": 1}
        for sizes, entries, flags in MEMORY[kind]:
            more = types if sizes == _U and not entries else {}
            yield side.make_map("made", kind, *sizes, entries, flags, inner, **more)
            yield (
                sizes,
                entries,
                flags,
                [line for line in side.backend.fdinfo(side.fds["made"]).splitlines() if line.startswith("memlock")],
            )
            side.let_go("made")

    agree(scenario)


CREATION: dict[str, dict[str, int | bytes]] = {
    "node 0": {"map_flags": c.BPF_F_NUMA_NODE},
    "no node": {"map_flags": c.BPF_F_NUMA_NODE, "numa_node": 0xFFFFFFFF},
    "a node that is not there": {"map_flags": c.BPF_F_NUMA_NODE, "numa_node": 999},
    "a node that is not asked for": {"numa_node": 5},
    "a token and none": {"map_flags": c.BPF_F_TOKEN_FD, "map_token_fd": -1},
    "a token that is closed": {"map_flags": c.BPF_F_TOKEN_FD, "map_token_fd": 1_000_000},
    "a token that is a terminal": {"map_flags": c.BPF_F_TOKEN_FD},
    "a token and a wrong size": {"map_flags": c.BPF_F_TOKEN_FD, "map_token_fd": -1, "key_size": 0},
    "a token without the flag": {"map_token_fd": 3},
    "a card": {"map_ifindex": 1},
    "a card of an array": {"map_ifindex": 1, "map_type": c.BPF_MAP_TYPE_ARRAY},
    "a card of a queue": {"map_ifindex": 1, "map_type": c.BPF_MAP_TYPE_QUEUE, "key_size": 0},
    "a card that is not there": {"map_ifindex": 1_000_000},
    "a hash without a size": {"excl_prog_hash": 1},
    "a size without a hash": {"excl_prog_hash_size": 32},
    "a hash that is nowhere": {"excl_prog_hash": 1, "excl_prog_hash_size": 32},
    "a hash of 16 bytes": {"excl_prog_hash": 1, "excl_prog_hash_size": 16},
    "type 0": {"map_type": 0},
    "type 100": {"map_type": 100},
    "15 characters": {"map_name": b"a" * 15},
    "16 characters": {"map_name": b"a" * 16},
    "a dash": {"map_name": b"a-b"},
    "bytes behind the name": {"map_name": b"a\0b"},
    "bytes behind no name": {"map_name": b"\0b"},
    "an extra": {"map_extra": 1},
    "an extra of a filter": {"map_extra": 5, "map_type": c.BPF_MAP_TYPE_BLOOM_FILTER, "key_size": 0},
    "types of a module": {"value_type_btf_obj_fd": 5},
    "an unknown flag": {"map_flags": 1 << 31},
    "an inner map that is not used": {"inner_map_fd": 77},
    "types that are not used": {"btf_fd": 77},
    "types that are not there": {"btf_fd": 1_000_000, "btf_value_type_id": 1},
    "a key's type alone": {"btf_key_type_id": 1},
    "a struct of the kernel": {"btf_vmlinux_value_type_id": 1},
    "both ways closed": {"map_flags": c.BPF_F_RDONLY | c.BPF_F_WRONLY},
}


@pytest.mark.parametrize("fields", CREATION.values(), ids=CREATION)
def test_creation_is_refused_alike(fields: dict[str, int | bytes]) -> None:
    def scenario(side: Side) -> Iterator[object]:
        plain: dict[str, int | bytes] = {"map_type": 1, "key_size": 4, "value_size": 4, "max_entries": 1}
        yield side.keep("map", side.call(a.MAP_CREATE, **(plain | fields))[0])

    agree(scenario)


def test_ids_are_looked_for_alike() -> None:
    def scenario(side: Side) -> Iterator[object]:
        for layout in (a.MAP_GET_NEXT_ID, a.PROG_GET_NEXT_ID, a.BTF_GET_NEXT_ID):
            for start in (0x7FFFFFFE, 0x7FFFFFFF, 0xFFFFFFFF):
                yield layout.name, start, side.call(layout, start_id=start)[0]
        for layout, field in (
            (a.MAP_GET_FD_BY_ID, "map_id"),
            (a.PROG_GET_FD_BY_ID, "prog_id"),
            (a.BTF_GET_FD_BY_ID, "btf_id"),
        ):
            for number in (0, 0x7FFFFFFF, 0xFFFFFFFF):
                for word in range(1, 41):
                    image = layout.pack(**{field: number})
                    image[4 * word] = b"\1"
                    result = side.backend.bpf(layout.cmd, ctypes.byref(image), 168)
                    yield layout.name, number, word, result, ctypes.get_errno()

    agree(scenario)


_KEYS = 17
_VALUES = 4
TYPES: dict[int, tuple[int, int, int, int]] = {
    c.BPF_MAP_TYPE_STACK_TRACE: (4, 8, 1, 0),
    c.BPF_MAP_TYPE_LPM_TRIE: (8, 4, 1, c.BPF_F_NO_PREALLOC),
    c.BPF_MAP_TYPE_CGROUP_STORAGE: (16, 4, 0, 0),
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: (16, 4, 0, 0),
    c.BPF_MAP_TYPE_QUEUE: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_STACK: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_BLOOM_FILTER: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_RINGBUF: (0, 0, PAGE, 0),
    c.BPF_MAP_TYPE_USER_RINGBUF: (0, 0, PAGE, 0),
    c.BPF_MAP_TYPE_ARENA: (0, 0, 1, c.BPF_F_MMAPABLE),
    c.BPF_MAP_TYPE_SK_STORAGE: (4, 4, 0, 1),
    c.BPF_MAP_TYPE_INODE_STORAGE: (4, 4, 0, 1),
    c.BPF_MAP_TYPE_TASK_STORAGE: (4, 4, 0, 1),
    c.BPF_MAP_TYPE_CGRP_STORAGE: (4, 4, 0, 1),
}


def _all_types(image: Image) -> tuple[dict[int, int], list[int], int]:
    # Types of keys, by id with their size; of values; and a struct of eight bytes with a lock.
    word, long = image.integer(), image.integer("long", 8)
    pair = [("a", word, 0), ("b", word, 32)]
    keys = {
        word: 4,
        0: 4,
        image.add(i.TYPEDEF, "t", word): 4,
        image.add(i.CONST, "", word): 4,
        image.integer("i31", 4, 31): 4,
        image.integer("half", 4, 16, 16): 4,
        image.integer("bool", 4, 32, 0, 4): 4,
        image.integer("char", 4, 32, 0, 2): 4,
        image.enum("e", ["A"]): 4,
        image.struct("u", 4, kind=i.UNION): 4,
        image.struct("s4", 4, [("a", word, 0)]): 4,
        image.add(i.FLOAT, "f", 4): 4,
        image.array(word, word, 2): 8,
        image.struct("lpm", 8, pair): 8,
        long: 8,
        image.struct("key", 16, [("id", long, 0), ("type", word, 64)]): 16,
        image.struct("key3", 16, [("id", long, 0), ("type", word, 64), ("x", word, 96)]): 16,
    }
    section = image.datasec(".data", 4, [(image.var("v", word), 0, 4)])
    lock = image.struct("bpf_spin_lock", 4, [("val", word, 0)])
    locked = image.struct("locked", 8, [("lock", lock, 0), ("v", word, 32)])
    return keys, [word, image.array(word, word, 2), section, 0], locked


@pytest.mark.parametrize(
    "kind", [kind for kind in range(1, 34) if kind != c.BPF_MAP_TYPE_STRUCT_OPS], ids=map_type_name
)
def test_types_of_key_and_value_suit_a_map_or_not(kind: int) -> None:
    key_size, value_size, entries, flags = TYPES.get(kind, (4, 4, 1, 0))

    def scenario(side: Side) -> Iterator[object]:
        image = Image()
        keys, values, locked = _all_types(image)
        assert (len(keys), len(values)) == (_KEYS, _VALUES)
        assert _load_btf(side, image) == ""
        assert side.make_map("template", c.BPF_MAP_TYPE_ARRAY, 4, 4, 1) == ""
        inner = side.fds["template"] if kind in _OF_MAPS else 0

        def make(key: int, size: int, value: int, value_size: int) -> str:
            types = {"btf_fd": side.fds["btf"], "btf_key_type_id": key, "btf_value_type_id": value}
            refused = side.make_map("made", kind, size, value_size, entries, flags, inner, **types)
            if not refused:
                side.let_go("made")
            return refused

        for key, size in keys.items():
            for value in values:
                yield key, value, make(key, key_size, value, value_size), make(key, size, value, value_size)
        yield [make(key, key_size, locked, 8) for key in keys]

    agree(scenario)
