"""Simulated arrays of programs, perf events, cgroups and maps answer as the running kernel does."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest
from support.cgroup_tree import new_cgroup
from support.twin import RETURN_0, Side, agree, u32

from rawbpf.asm import build
from rawbpf.sim import Simulator
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi import perf

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_kernel = pytest.mark.needs("kernel")
FD_ARRAYS = {
    "prog_array": c.BPF_MAP_TYPE_PROG_ARRAY,
    "perf_event_array": c.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    "cgroup_array": c.BPF_MAP_TYPE_CGROUP_ARRAY,
    "array_of_maps": c.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    "hash_of_maps": c.BPF_MAP_TYPE_HASH_OF_MAPS,
    "devmap": c.BPF_MAP_TYPE_DEVMAP,
    "devmap_hash": c.BPF_MAP_TYPE_DEVMAP_HASH,
    "sockmap": c.BPF_MAP_TYPE_SOCKMAP,
    "sockhash": c.BPF_MAP_TYPE_SOCKHASH,
    "cpumap": c.BPF_MAP_TYPE_CPUMAP,
    "xskmap": c.BPF_MAP_TYPE_XSKMAP,
    "reuseport_sockarray": c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
}
FLAGS = [1 << bit for bit in range(19) if 1 << bit not in (c.BPF_F_VTYPE_BTF_OBJ_FD, c.BPF_F_TOKEN_FD)]
FLAGS += [c.BPF_F_RDONLY | c.BPF_F_WRONLY, c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG, 1 << 31]


@needs_kernel
@pytest.mark.parametrize("map_type", FD_ARRAYS.values(), ids=FD_ARRAYS)
def test_maps_of_descriptors_are_created_from_what_the_kernel_takes(map_type: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("like", c.BPF_MAP_TYPE_ARRAY)
        inner = side.fds["like"]
        for key_size in (0, 1, 3, 4, 5, 8, 512, 513):
            for value_size in (0, 1, 4, 5, 8, 12):
                for entries in (0, 1, 3):
                    shape = (key_size, value_size, entries)
                    yield shape, side.make_map("m", map_type, *shape, inner=inner), _told(side)
        for flags in FLAGS:
            yield hex(flags), side.make_map("m", map_type, flags=flags, inner=inner), _told(side)
        yield "numa", side.make_map("m", map_type, flags=c.BPF_F_NUMA_NODE, numa_node=99, inner=inner)
        yield "extra", side.make_map("m", map_type, map_extra=1, inner=inner)

    agree(scenario)


def _told(side: Side) -> object:
    if "m" not in side.fds:
        return None
    told = {field: side.info("m", field) for field in ("type", "key_size", "value_size", "max_entries", "map_flags")}
    side.let_go("m")
    return told


@needs_kernel
@pytest.mark.parametrize("map_type", FD_ARRAYS.values(), ids=FD_ARRAYS)
def test_empty_maps_of_descriptors_answer_every_command_alike(map_type: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("like", c.BPF_MAP_TYPE_ARRAY)
        yield side.make_map("m", map_type, inner=side.fds["like"])
        for key in (0, 3, 4, 0xFFFFFFFF):
            yield key, side.lookup("m", u32(key)), side.delete("m", u32(key)), side.next_key("m", u32(key))
            yield side.lookup_and_delete("m", u32(key))
            for flags in (0, 1, 2, 3, 4, 8, 1 << 32):
                yield flags, [side.update("m", u32(key), u32(fd), flags) for fd in (-1, 1 << 30, 1 << 31)]
                # The descriptor of another kind of object.
                yield side.update("m", u32(key), u32(side.fds["m"]), flags)
        yield side.next_key("m", None)
        for layout in (a.MAP_LOOKUP_BATCH, a.MAP_LOOKUP_AND_DELETE_BATCH, a.MAP_UPDATE_BATCH, a.MAP_DELETE_BATCH):
            yield side.batch(layout, "m", 2, u32(0, 1), u32(-1, -1))[:2]

    agree(scenario)


@needs_kernel
def test_a_program_array_takes_programs_like_the_first() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", c.BPF_MAP_TYPE_PROG_ARRAY)
        for name, kind, expected, flags in (
            ("xdp", c.BPF_PROG_TYPE_XDP, 0, 0),
            ("xdp too", c.BPF_PROG_TYPE_XDP, 0, 0),
            ("xdp elsewhere", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, 0),
            ("xdp with fragments", c.BPF_PROG_TYPE_XDP, 0, c.BPF_F_XDP_HAS_FRAGS),
            ("filter", c.BPF_PROG_TYPE_SOCKET_FILTER, 0, 0),
        ):
            yield side.load(name, kind, expected_attach_type=expected, prog_flags=flags)[0]
            yield name, side.update("m", u32(0), u32(side.fds[name])), side.lookup("m", u32(0))
        yield side.update("m", u32(1), u32(side.fds["m"])), side.update("m", u32(1), u32(side.fds["xdp"]), c.BPF_EXIST)
        yield side.delete("m", u32(0)), side.delete("m", u32(0)), side.lookup("m", u32(0))
        # Whoever uses the map has to be like the first as well, and may be the first.
        code = [build.ld_map_fd(2, side.fds["m"]), *RETURN_0]
        yield side.load("user", c.BPF_PROG_TYPE_SOCKET_FILTER, code)[0], side.load("user", c.BPF_PROG_TYPE_XDP, code)[0]
        yield side.make_map("other", c.BPF_MAP_TYPE_PROG_ARRAY)
        yield side.load("owner", c.BPF_PROG_TYPE_TRACEPOINT, [build.ld_map_fd(2, side.fds["other"]), *RETURN_0])[0]
        yield side.update("other", u32(0), u32(side.fds["xdp"])), side.update("other", u32(0), u32(side.fds["owner"]))

    assert "EINVAL" in str(agree(scenario))


@needs_kernel
def test_a_cgroup_array_takes_cgroups_alone() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", c.BPF_MAP_TYPE_CGROUP_ARRAY)
        with new_cgroup() as path:
            for where, flags in ((path, os.O_RDONLY), (path, os.O_PATH), ("/tmp", os.O_RDONLY), ("/dev/null", 0)):
                fd = os.open(where, flags | os.O_CLOEXEC)
                try:
                    yield side.update("m", u32(0), u32(fd))
                finally:
                    os.close(fd)
            file = os.open(f"{path}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield side.update("m", u32(0), u32(file))
            finally:
                os.close(file)
        yield side.lookup("m", u32(0)), side.delete("m", u32(0)), side.delete("m", u32(0))

    assert agree(scenario)[1:3] == ["", ""]


TEMPLATES = {
    "array": (c.BPF_MAP_TYPE_ARRAY, 4, 4, 4, 0),
    "array that may differ": (c.BPF_MAP_TYPE_ARRAY, 4, 4, 4, c.BPF_F_INNER_MAP),
    "percpu array": (c.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 4, 0),
    "hash": (c.BPF_MAP_TYPE_HASH, 4, 4, 4, 0),
    "hash without allocation": (c.BPF_MAP_TYPE_HASH, 4, 4, 4, c.BPF_F_NO_PREALLOC),
    "lru": (c.BPF_MAP_TYPE_LRU_HASH, 4, 4, 4, 0),
    "trie": (c.BPF_MAP_TYPE_LPM_TRIE, 8, 4, 4, c.BPF_F_NO_PREALLOC),
    "queue": (c.BPF_MAP_TYPE_QUEUE, 0, 4, 4, 0),
    "ring": (c.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0),
    "filter": (c.BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 4, 0),
    "xskmap": (c.BPF_MAP_TYPE_XSKMAP, 4, 4, 4, 0),
    "devmap": (c.BPF_MAP_TYPE_DEVMAP, 4, 4, 4, 0),
    "sockmap": (c.BPF_MAP_TYPE_SOCKMAP, 4, 4, 4, 0),
    "perf events": (c.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4, 0),
    "programs": (c.BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4, 0),
}


@needs_kernel
@pytest.mark.parametrize("outer", ["array_of_maps", "hash_of_maps"])
def test_a_map_of_maps_takes_maps_like_its_template(outer: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        for name, shape in TEMPLATES.items():
            yield name, side.make_map(name, *shape)
            yield side.make_map("m", FD_ARRAYS[outer], inner=side.fds[name])
            if "m" not in side.fds:
                continue
            for other, (kind, key_size, value_size, entries, flags) in TEMPLATES.items():
                side.make_map("same", kind, key_size, value_size, entries, flags)
                more = "larger", side.make_map("larger", kind, key_size, value_size, entries * 2, flags)
                yield other, side.update("m", u32(0), u32(side.fds["same"])), more
                yield side.lookup("m", u32(0)), side.update("m", u32(0), u32(side.fds["larger"]))
                side.let_go("same")
                side.let_go("larger")
            yield side.make_map("nested", FD_ARRAYS[outer], inner=side.fds["m"])
            side.let_go("m")

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("outer", ["array_of_maps", "hash_of_maps"])
def test_inner_maps_stay_in_their_place_and_read_back_as_ids(outer: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        for name in ("one", "two"):
            side.make_map(name, c.BPF_MAP_TYPE_ARRAY)
        flags = c.BPF_F_ZERO_SEED if outer == "hash_of_maps" else 0
        yield side.make_map("m", FD_ARRAYS[outer], max_entries=16, flags=flags, inner=side.fds["one"])
        one, two = u32(side.fds["one"]), u32(side.fds["two"])
        yield [side.update("m", u32(key), one, key % 3) for key in range(18)], side.keys("m")
        yield [side.update("m", u32(key), two, key % 3) for key in range(18)], side.keys("m")
        yield [side.lookup("m", u32(key)) for key in range(18)]
        yield side.batch(a.MAP_LOOKUP_BATCH, "m", 16)
        yield side.batch(a.MAP_UPDATE_BATCH, "m", 3, u32(1, 2, 3), one + two + u32(-1)), side.lookup("m", u32(2))
        yield side.batch(a.MAP_LOOKUP_AND_DELETE_BATCH, "m", 16)
        yield side.batch(a.MAP_DELETE_BATCH, "m", 2, u32(1, 2)), side.keys("m")
        yield [side.delete("m", u32(key)) for key in range(18)]

    agree(scenario)


def test_an_inner_map_lives_as_long_as_the_outer_one_holds_it() -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.make_map("inner", c.BPF_MAP_TYPE_ARRAY)
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY_OF_MAPS, inner=side.fds["inner"])
        number = side.info("inner", "id")
        assert side.update("m", u32(0), u32(side.fds["inner"])) == ""
        side.let_go("inner")
        again, _ = side.call(a.MAP_GET_FD_BY_ID, map_id=number)
        assert side.keep("inner", again) == ""
        side.let_go("inner")
        assert side.delete("m", u32(0)) == ""
        assert side.call(a.MAP_GET_FD_BY_ID, map_id=number)[0] == "ENOENT"


def test_a_template_is_not_kept() -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.make_map("inner", c.BPF_MAP_TYPE_ARRAY)
        number = side.info("inner", "id")
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY_OF_MAPS, inner=side.fds["inner"])
        side.let_go("inner")
        assert side.call(a.MAP_GET_FD_BY_ID, map_id=number)[0] == "ENOENT"


@pytest.mark.parametrize("pinned", [False, True], ids=["closed", "closed and unpinned"])
def test_a_program_array_that_nobody_has_open_lets_go_of_its_programs(pinned: bool) -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.make_map("m", c.BPF_MAP_TYPE_PROG_ARRAY)
        # The program uses the map that it is in: only clearing the map ends this.
        side.load("p", c.BPF_PROG_TYPE_XDP, [build.ld_map_fd(2, side.fds["m"]), *RETURN_0])
        number = side.prog_info("p")["id"]
        assert side.update("m", u32(0), u32(side.fds["p"])) == ""
        path = os.path.join(simulator.bpffs, "m")
        if pinned:
            text = ctypes.create_string_buffer(path.encode())
            assert side.call(a.OBJ_PIN, pathname=ctypes.addressof(text), bpf_fd=side.fds["m"])[0] == 0
        side.let_go("p")
        side.let_go("m")
        if pinned:
            found, _ = side.call(a.PROG_GET_FD_BY_ID, prog_id=number)
            assert side.keep("p", found) == ""
            side.let_go("p")
            os.unlink(path)
        assert side.call(a.PROG_GET_FD_BY_ID, prog_id=number)[0] == "ENOENT"


def _event(side: Side, cpu: int = 0, **more: int) -> int:
    attr = perf.perf_event_attr(
        type=perf.PERF_TYPE_SOFTWARE,
        config=perf.PERF_COUNT_SW_BPF_OUTPUT,
        sample_type=perf.PERF_SAMPLE_RAW,
        sample_period=1,
        wakeup_events=1,
        **more,
    )
    return side.backend.perf_event_open(attr, -1, cpu, -1, perf.PERF_FLAG_FD_CLOEXEC)


@needs_kernel
@pytest.mark.parametrize("flags", [0, c.BPF_F_PRESERVE_ELEMS], ids=["plain", "PRESERVE_ELEMS"])
def test_perf_events_go_with_the_file_that_stored_them(flags: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", c.BPF_MAP_TYPE_PERF_EVENT_ARRAY, flags=flags)
        yield side.keep("event", _event(side)), side.keep("inherited", _event(side, flags=perf.flag_word(inherit=1)))
        yield side.update("m", u32(0), u32(side.fds["event"])), side.update("m", u32(0), u32(side.fds["inherited"]))
        yield side.update("m", u32(4), u32(side.fds["event"])), side.lookup("m", u32(0)), side.keys("m")
        again, _ = side.call(a.MAP_GET_FD_BY_ID, map_id=side.info("m", "id"))
        yield side.keep("again", again)
        side._sizes["again"] = (4, 4)
        yield side.update("again", u32(1), u32(side.fds["event"])), side.update("again", u32(2), u32(side.fds["event"]))
        yield side.update("m", u32(2), u32(side.fds["event"]))
        side.let_go("again")
        yield [side.delete("m", u32(index)) for index in range(5)]

    agree(scenario)
