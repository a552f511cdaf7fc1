"""The objects that maps hold or are keyed by, made on one backend under the names that operations use.

Programs, maps and perf events are made through the backend; sockets, files and cgroups are the process's own, and the
same on every backend. A stage makes what one map type needs, and closes it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rawbpf.asm import build
from rawbpf.asm.instruction import encode
from rawbpf.errors import errno_name
from rawbpf.testing.named import Named, Objects
from rawbpf.testing.spec import MapSpec, create
from rawbpf.uapi import attr
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO, PROG_INFO
from rawbpf.uapi.names import prog_type_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from rawbpf.syscall.protocol import Backend

KINDS: dict[str, tuple[str, ...]] = {
    "prog_array": ("program", "xdp program", "file"),
    "perf_event_array": ("perf event", "file"),
    "cgroup_array": ("cgroup", "file"),
    "array_of_maps": ("inner map", "odd map", "program"),
    "hash_of_maps": ("inner map", "odd map", "program"),
    "devmap": ("devmap program", "program"),
    "devmap_hash": ("devmap program", "program"),
    "cpumap": ("cpumap program", "program"),
    "sockmap": ("tcp socket", "unix socket", "unconnected socket", "file"),
    "sockhash": ("tcp socket", "unix socket", "unconnected socket", "file"),
    "xskmap": ("xdp socket", "tcp socket", "file"),
    "reuseport_sockarray": ("udp socket", "tcp socket", "file"),
    "sk_storage": ("tcp socket", "udp socket", "file"),
    "inode_storage": ("file",),
    "task_storage": ("task", "file"),
    "cgrp_storage": ("cgroup", "file"),
}
"""The kinds of objects that a map type is tried with; there are two of each, `program 1` and `program 2`."""

INNER = MapSpec("array", 4, 4, 2)
"""The template of maps of maps, and what their inner maps are."""
ODD = MapSpec("array", 4, 8, 2)
"""A map that is not like the template."""

CLOSED = 0x7FFFFFF0
"""A descriptor that no process has: the limit of descriptors is below."""

_AF_XDP, _SOL_XDP = 44, 283
_RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 2, 4, 5, 6
_FRAMES, _FRAME_SIZE = 16, 2048
_SO_COOKIE = 57
_PROGRAMS = {
    "program": ("socket_filter", 0),
    "xdp program": ("xdp", 0),
    "devmap program": ("xdp", c.BPF_XDP_DEVMAP),
    "cpumap program": ("xdp", c.BPF_XDP_CPUMAP),
}


class Stage:
    """What maps of `map_type` are tried with on `backend`: `objects`. Close it, or use it in a `with`.

    Raises: OSError where the process may not make one of them.
    """

    def __init__(self, backend: Backend, map_type: str) -> None:
        self.backend = backend
        self._map_type = map_type
        self._make()

    def _make(self) -> None:
        self.objects = Objects()
        self.objects.add("closed descriptor", CLOSED)
        with ExitStack() as stack:
            for kind in KINDS.get(self._map_type, ()):
                _MAKERS[kind](self, kind, stack)
            self._stack = stack.pop_all()

    def renew(self) -> None:
        """Make anew what a map that was closed may still hold: it is freed later, and a socket is in one array only."""
        if self._map_type == "reuseport_sockarray":
            self.close()
            self._make()

    def close(self) -> None:
        """Close the objects."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _programs(self, kind: str, stack: ExitStack) -> None:
        for number in (1, 2):
            fd = _load(self.backend, *_PROGRAMS[kind])
            stack.callback(self.backend.close, fd)
            self.objects.add(f"{kind} {number}", fd, "program", _id(self.backend, fd))

    def _maps(self, kind: str, stack: ExitStack) -> None:
        for number in (1, 2):
            fd, error = create(self.backend, INNER if kind == "inner map" else ODD)
            if error:
                raise OSError(f"{kind}: {error}")
            stack.callback(self.backend.close, fd)
            self.objects.add(f"{kind} {number}", fd, "map", _id(self.backend, fd))

    def _perf_events(self, kind: str, stack: ExitStack) -> None:
        # struct perf_event_attr: type PERF_TYPE_SOFTWARE, size, config PERF_COUNT_SW_BPF_OUTPUT; PERF_SAMPLE_RAW.
        event = struct.pack("=IIQQQ", 1, 112, 10, 1, 1 << 10).ljust(112, b"\0")
        for number in (1, 2):
            fd = self.backend.perf_event_open(event, -1, 0, -1, 8)  # PERF_FLAG_FD_CLOEXEC
            stack.callback(self.backend.close, fd)
            self.objects.add(f"{kind} {number}", fd)

    def _sockets(self, kind: str, stack: ExitStack) -> None:
        for number, made in enumerate(_SOCKETS[kind](stack), 1):
            stack.enter_context(made)
            cookie = int.from_bytes(made.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
            self.objects.add(f"{kind} {number}", made.fileno(), "socket", cookie)

    def _files(self, kind: str, stack: ExitStack) -> None:
        for number in (1, 2):
            fd = os.memfd_create(kind, os.MFD_CLOEXEC)
            stack.callback(os.close, fd)
            self.objects.add(f"{kind} {number}", fd)

    def _tasks(self, kind: str, stack: ExitStack) -> None:
        for number, pid in enumerate((os.getpid(), os.getppid()), 1):
            fd = os.pidfd_open(pid)
            stack.callback(os.close, fd)
            self.objects.add(f"{kind} {number}", fd)

    def _cgroups(self, kind: str, stack: ExitStack) -> None:
        root = _cgroup_root()
        for number in (1, 2):
            path = tempfile.mkdtemp(prefix=f"rawbpf-{os.getpid()}-", dir=root)
            stack.callback(os.rmdir, path)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            self.objects.add(f"{kind} {number}", fd)


def _load(backend: Backend, prog_type: str, attach_type: int) -> int:
    code = encode([build.mov_imm(0, 1), build.exit_()], backend.host.byteorder)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    fields: dict[str, int | bytes] = {
        "prog_type": prog_type_number(prog_type),
        "insn_cnt": len(code) // 8,
        "insns": ctypes.addressof(instructions),
        "license": ctypes.addressof(licence),
        "expected_attach_type": attach_type,
    }
    image = attr.PROG_LOAD.pack(**fields)
    fd = backend.bpf_blocking(c.BPF_PROG_LOAD, ctypes.byref(image), attr.PROG_LOAD.used(fields))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{prog_type} program: {errno_name(number)}")
    return fd


def _id(backend: Backend, fd: int) -> int:
    # The id is at the same place in the info of maps and of programs.
    assert MAP_INFO.end("id") == PROG_INFO.end("id")
    room = ctypes.create_string_buffer(256)
    image = attr.OBJ_GET_INFO_BY_FD.pack(bpf_fd=fd, info_len=MAP_INFO.end("id"), info=ctypes.addressof(room))
    if backend.bpf(c.BPF_OBJ_GET_INFO_BY_FD, ctypes.byref(image), attr.OBJ_GET_INFO_BY_FD.minimum) < 0:
        raise OSError(ctypes.get_errno(), "the id of a program or map")
    return MAP_INFO.integer(room, "id")


def _tcp_sockets(stack: ExitStack) -> list[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = stack.enter_context(socket.create_connection(server.getsockname()))
        return [near, server.accept()[0]]


def _unix_sockets(_: ExitStack) -> list[socket.socket]:
    return list(socket.socketpair())


def _unconnected_sockets(_: ExitStack) -> list[socket.socket]:
    return [socket.socket(), socket.socket(socket.AF_UNIX)]


def _udp_sockets(stack: ExitStack) -> list[socket.socket]:
    made = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
    for each in made:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(made[0].getsockname() if each is made[1] else ("127.0.0.1", 0))
    return made


def _xdp_sockets(stack: ExitStack) -> list[socket.socket]:
    # An xskmap wants sockets with memory, a ring to fill and one to receive from; they need not be bound.
    made = []
    for _ in range(2):
        each = stack.enter_context(socket.socket(_AF_XDP, socket.SOCK_RAW))
        memory = stack.enter_context(mmap.mmap(-1, _FRAMES * _FRAME_SIZE))
        view = ctypes.c_char.from_buffer(memory)
        region = struct.pack("=QQIII4x", ctypes.addressof(view), len(memory), _FRAME_SIZE, 0, 0)
        del view
        each.setsockopt(_SOL_XDP, _UMEM_REG, region)
        for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING):
            each.setsockopt(_SOL_XDP, ring, _FRAMES)
        made.append(each)
    return made


def _cgroup_root() -> str:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return where
    raise OSError("no cgroup2 is mounted")


_SOCKETS: dict[str, Callable[[ExitStack], list[socket.socket]]] = {
    "tcp socket": _tcp_sockets,
    "unix socket": _unix_sockets,
    "unconnected socket": _unconnected_sockets,
    "udp socket": _udp_sockets,
    "xdp socket": _xdp_sockets,
}
_MAKERS: dict[str, Callable[[Stage, str, ExitStack], None]] = {
    **dict.fromkeys(_PROGRAMS, Stage._programs),
    **dict.fromkeys(_SOCKETS, Stage._sockets),
    "inner map": Stage._maps,
    "odd map": Stage._maps,
    "perf event": Stage._perf_events,
    "file": Stage._files,
    "task": Stage._tasks,
    "cgroup": Stage._cgroups,
}
TEMPLATE = Named("inner map 1")
"""The inner map that a map of maps is made with."""
