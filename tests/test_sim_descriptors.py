"""Descriptors that no call can use, closed ones and those of O_PATH, are refused as by the running kernel."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator

import pytest
from support.twin import Side, agree, u32, u64

from rawbpf.errors import errno_name
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c

pytestmark = pytest.mark.needs("kernel")


def _unusable(side: Side) -> Iterator[tuple[str, int]]:
    yield "closed", 1_000_000
    yield "negative", -1
    made = {"root": os.open("/", os.O_PATH | os.O_CLOEXEC)}
    file = os.memfd_create("file", os.MFD_CLOEXEC)
    made["file"] = os.open(f"/proc/self/fd/{file}", os.O_PATH | os.O_CLOEXEC)
    os.close(file)
    for name, fd in made.items():
        side.stack.callback(os.close, fd)
        yield name, fd


def test_commands_refuse_them() -> None:
    def scenario(side: Side) -> Iterator[object]:
        room = ctypes.create_string_buffer(128)
        pointer = ctypes.addressof(room)
        path = ctypes.create_string_buffer(b"/nowhere/at/all")
        assert side.make_map("map", c.BPF_MAP_TYPE_HASH) == ""
        for name, fd in _unusable(side):
            for layout in (a.MAP_LOOKUP_ELEM, a.MAP_UPDATE_ELEM, a.MAP_DELETE_ELEM, a.MAP_GET_NEXT_KEY, a.MAP_FREEZE):
                values = {"key": pointer} if layout is not a.MAP_FREEZE else {}
                yield name, layout.cmd, side.call(layout, map_fd=fd, **values)[0]
            yield name, "batch", side.call(a.MAP_LOOKUP_BATCH, map_fd=fd)[0]
            yield name, "info", side.call(a.OBJ_GET_INFO_BY_FD, bpf_fd=fd, info_len=80, info=pointer)[0]
            yield name, "pin", side.call(a.OBJ_PIN, bpf_fd=fd, pathname=ctypes.addressof(path))[0]
            yield name, "bind", side.call(a.PROG_BIND_MAP, prog_fd=fd, map_fd=side.fds["map"])[0]
            yield name, "run", side.call(a.PROG_TEST_RUN, prog_fd=fd)[0]
            yield name, "inner", side.make_map("outer", c.BPF_MAP_TYPE_HASH_OF_MAPS, inner=fd)
            yield name, "types", side.make_map("typed", c.BPF_MAP_TYPE_HASH, btf_fd=fd, btf_value_type_id=1)

    answers = agree(scenario)
    assert ("root", a.MAP_LOOKUP_ELEM.cmd, "EBADF") in answers
    assert ("file", "info", "EBADFD") in answers


@pytest.mark.parametrize(
    ("map_type", "value_size"),
    [
        (c.BPF_MAP_TYPE_PROG_ARRAY, 4),
        (c.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4),
        (c.BPF_MAP_TYPE_CGROUP_ARRAY, 4),
        (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4),
        (c.BPF_MAP_TYPE_HASH_OF_MAPS, 4),
        (c.BPF_MAP_TYPE_SOCKMAP, 4),
        (c.BPF_MAP_TYPE_SOCKHASH, 8),
        (c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 8),
        (c.BPF_MAP_TYPE_XSKMAP, 4),
        (c.BPF_MAP_TYPE_DEVMAP, 8),
        (c.BPF_MAP_TYPE_CPUMAP, 8),
    ],
    ids=str,
)
def test_values_that_are_descriptors_refuse_them(map_type: int, value_size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        assert side.make_map("map", c.BPF_MAP_TYPE_HASH) == ""
        inner = map_type in (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)
        assert side.make_map("outer", map_type, 4, value_size, inner=side.fds["map"] if inner else 0) == ""
        own = socket.socket()
        side.stack.callback(own.close)
        named = os.open(f"/proc/self/fd/{side.fds['map']}", os.O_PATH | os.O_CLOEXEC)
        side.stack.callback(os.close, named)
        for name, fd in [*_unusable(side), ("a map's name", named)]:
            with_program = map_type in (c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_CPUMAP)
            value = u32(1, fd) if with_program else u64(fd & 0xFFFFFFFF) if value_size == 8 else u32(fd)
            yield name, side.update("outer", u32(0), value)

    agree(scenario)


def test_files_of_a_closed_one_are_not_there() -> None:
    def scenario(side: Side) -> Iterator[object]:
        assert side.make_map("map", c.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096) == ""
        for name, fd in _unusable(side):
            for what, ask in (
                ("fdinfo", lambda fd=fd: side.backend.fdinfo(fd).splitlines()[1]),
                ("read", lambda fd=fd: side.backend.read(fd, 8)),
            ):
                try:
                    yield name, what, ask()
                except OSError as error:
                    yield name, what, errno_name(error.errno or 0)
            if fd >= 0:
                polled = side.backend.poll([fd], 0), side.backend.poll([side.fds["map"], fd], 0)
                yield name, [[each == fd for each in ready] for ready in polled]

    answers = agree(scenario)
    assert ("closed", [[True], [True]]) in answers
