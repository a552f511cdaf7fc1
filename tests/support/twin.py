"""The same raw bpf(2) commands on two kernels: each `Side` performs them, with its own objects under the same names.

What differs from one kernel to another is renamed: ids and cookies that are read back are the names of what has them.
Attrs are packed here: nothing of rawbpf but layouts stands between a test and a kernel.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rawbpf.asm import build
from rawbpf.asm.instruction import Instruction, encode
from rawbpf.errors import errno_name
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO, PROG_INFO
from support.sockets import cookie

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import AttrBuffer, Layout

RETURN_0: list[Instruction] = [build.mov_imm(0, 0), build.exit_()]
_READ_BACK = {
    c.BPF_MAP_TYPE_PROG_ARRAY: "program",
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS: "map",
    c.BPF_MAP_TYPE_HASH_OF_MAPS: "map",
    c.BPF_MAP_TYPE_SOCKMAP: "socket",
    c.BPF_MAP_TYPE_SOCKHASH: "socket",
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "socket",
    c.BPF_MAP_TYPE_DEVMAP: "device or CPU, and program",
    c.BPF_MAP_TYPE_DEVMAP_HASH: "device or CPU, and program",
    c.BPF_MAP_TYPE_CPUMAP: "device or CPU, and program",
}
_U32 = 0xFFFFFFFF
_ROOM = 64


def u32(*numbers: int) -> bytes:
    """Return numbers as the kernel's u32s; -1 is a descriptor that cannot be."""
    return b"".join((number & _U32).to_bytes(4, sys.byteorder) for number in numbers)


def u64(number: int) -> bytes:
    """Return a number as the kernel's u64."""
    return number.to_bytes(8, sys.byteorder)


def agree(scenario: Callable[[Side], Iterator[object]]) -> list[object]:
    """Run a scenario on the running kernel and on a simulated one: what it yields must be the same. Return that."""
    from rawbpf.sim import Simulator
    from rawbpf.syscall.kernel import KernelBackend
    from rawbpf.testing.older import release_of

    kernel = KernelBackend()
    with Side(kernel) as side:
        expected = list(scenario(side))
    with Simulator(release_of(kernel), kernel.host.possible_cpus) as simulator, Side(simulator) as side:
        found = list(scenario(side))
    differences = [
        f"answer {number}, after {before!r}: {answer!r} on the kernel, {other!r} simulated"
        for number, (before, answer, other) in enumerate(zip([None, *expected], expected, found, strict=False))
        if answer != other
    ]
    assert not differences, "\n".join(differences[:5])
    assert len(found) == len(expected)
    return expected


class Side:
    """One kernel, and what was made on it: `fds` by name. Closes all when its `with` block ends."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.fds: dict[str, int] = {}
        self.stack = ExitStack()
        self._names: dict[tuple[str, int], str] = {}
        # What a map's values read back as, by its name.
        self._kinds: dict[str, str] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self.fds.values():
            self.backend.close(fd)
        self.stack.close()

    def call(self, layout: Layout, **values: int | bytes) -> tuple[int | str, AttrBuffer]:
        """Make the command that `layout` is of; return its result or errno's name, and the attr."""
        image = layout.pack()
        for field, value in values.items():
            negative = isinstance(value, int) and value < 0 and not layout.is_signed(field)
            layout.set(image, field, value & _U32 if negative and isinstance(value, int) else value)
        result = self.backend.bpf(layout.cmd, ctypes.byref(image), layout.size)
        return errno_name(ctypes.get_errno()) if result < 0 else result, image

    def keep(self, name: str, result: int | str) -> str:
        """Keep a descriptor under a name, and return what came of making it: "" or an errno's name."""
        if isinstance(result, str):
            return result
        self.fds[name] = result
        return ""

    def let_go(self, name: str) -> None:
        """Close what has a name."""
        self.backend.close(self.fds.pop(name))

    def make_map(
        self,
        name: str,
        map_type: int,
        key_size: int = 4,
        value_size: int = 4,
        max_entries: int = 4,
        flags: int = 0,
        inner: int = 0,
        **more: int,
    ) -> str:
        """MAP_CREATE."""
        result, _ = self.call(
            a.MAP_CREATE,
            map_type=map_type,
            key_size=key_size,
            value_size=value_size,
            max_entries=max_entries,
            map_flags=flags,
            inner_map_fd=inner,
            **more,
        )
        error = self.keep(name, result)
        if not error:
            self._sizes[name] = (key_size, value_size)
            self._kinds[name] = _READ_BACK.get(map_type, "")
            self._names["map", self.info(name, "id")] = name
        return error

    def load(
        self,
        name: str,
        prog_type: int = c.BPF_PROG_TYPE_XDP,
        code: Sequence[Instruction] | bytes = tuple(RETURN_0),
        license: bytes = b"GPL",  # noqa: A002  (the kernel's word)
        log_level: int = 0,
        log_size: int = 0,
        **more: int | bytes,
    ) -> tuple[str, bytes, int]:
        """PROG_LOAD; return what came of it, the log and log_true_size."""
        image = code if isinstance(code, bytes) else encode(code, self.backend.host.byteorder)
        insns = ctypes.create_string_buffer(image, max(len(image), 1))
        text = ctypes.create_string_buffer(license)
        log = ctypes.create_string_buffer(max(log_size, 1))
        values: dict[str, int | bytes] = {
            "prog_type": prog_type,
            "insn_cnt": len(image) // 8,
            "insns": ctypes.addressof(insns),
            "license": ctypes.addressof(text),
            "log_level": log_level,
            "log_size": log_size,
            "log_buf": ctypes.addressof(log) if log_size else 0,
        }
        result, filled = self.call(a.PROG_LOAD, **(values | more))
        error = self.keep(name, result)
        if not error:
            self._names["program", self.prog_info(name)["id"]] = name
        return error, log.value, a.PROG_LOAD.integer(filled, "log_true_size")

    def add_socket(self, name: str, made: socket.socket) -> socket.socket:
        """Give a socket a name; it is closed with the others, if it is not by then."""
        self.stack.callback(made.close)
        self._names["socket", cookie(made)] = name
        return made

    def update(self, name: str, key: bytes, value: bytes, flags: int = 0) -> str:
        """MAP_UPDATE_ELEM."""
        key_buffer, value_buffer = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value, _ROOM)
        pointers = {"key": ctypes.addressof(key_buffer), "value": ctypes.addressof(value_buffer)}
        result, _ = self.call(a.MAP_UPDATE_ELEM, map_fd=self.fds[name], flags=flags, **pointers)
        return "" if result == 0 else str(result)

    def lookup(self, name: str, key: bytes) -> str | bytes:
        """MAP_LOOKUP_ELEM; ids and cookies become names."""
        found = self._read(a.MAP_LOOKUP_ELEM, "value", name, key)
        if isinstance(found, str):
            return found
        return self._named(name, found[: self._sizes[name][1]])

    def _named(self, name: str, value: bytes) -> str | bytes:
        kind = self._kinds.get(name, "")
        if kind == "device or CPU, and program":
            front, number = value[:4], int.from_bytes(value[4:], sys.byteorder)
            found = self._names.get(("program", number))
            return value if found is None else f"{int.from_bytes(front, sys.byteorder)} {found}"
        return self._names.get((kind, int.from_bytes(value, sys.byteorder)), value)

    def delete(self, name: str, key: bytes) -> str:
        """MAP_DELETE_ELEM."""
        buffer = ctypes.create_string_buffer(key)
        result, _ = self.call(a.MAP_DELETE_ELEM, map_fd=self.fds[name], key=ctypes.addressof(buffer))
        return "" if result == 0 else str(result)

    def next_key(self, name: str, key: bytes | None) -> str | bytes:
        """MAP_GET_NEXT_KEY."""
        found = self._read(a.MAP_GET_NEXT_KEY, "next_key", name, key)
        return found if isinstance(found, str) else found[: self._sizes[name][0]]

    def keys(self, name: str) -> list[bytes]:
        """Return all keys in the order of MAP_GET_NEXT_KEY."""
        found: list[bytes] = []
        key = self.next_key(name, None)
        while isinstance(key, bytes) and len(found) < 1000:
            found.append(key)
            key = self.next_key(name, key)
        return found

    def lookup_and_delete(self, name: str, key: bytes) -> str | bytes:
        """MAP_LOOKUP_AND_DELETE_ELEM."""
        return self._read(a.MAP_LOOKUP_AND_DELETE_ELEM, "value", name, key)

    def batch(
        self, layout: Layout, name: str, count: int, keys: bytes = b"", values: bytes = b""
    ) -> tuple[object, ...]:
        """Make a batch command from the start; return what came of it, the count, and keys and values as they are."""
        rooms = [ctypes.create_string_buffer(content, 1024) for content in (keys, values, b"")]
        pointers = dict(zip(("keys", "values", "out_batch"), map(ctypes.addressof, rooms), strict=True))
        result, image = self.call(layout, map_fd=self.fds[name], count=count, **pointers)
        done = layout.integer(image, "count")
        key_size, value_size = self._sizes[name]
        read = [
            self._named(name, rooms[1].raw[at * value_size : (at + 1) * value_size]) for at in range(min(done, count))
        ]
        return result, done, rooms[0].raw[: done * key_size], tuple(read) if not values else ()

    def info(self, name: str, field: str) -> int:
        """Return a number of a map's info."""
        room = ctypes.create_string_buffer(MAP_INFO.size)
        self.call(a.OBJ_GET_INFO_BY_FD, bpf_fd=self.fds[name], info_len=len(room), info=ctypes.addressof(room))
        return MAP_INFO.integer(room, field)

    def prog_info(self, name: str, **given: int) -> dict[str, int]:
        """Return the numbers of a program's info; `given` are counts and pointers that are handed in."""
        room = ctypes.create_string_buffer(PROG_INFO.pack(**given).raw[: PROG_INFO.size], PROG_INFO.size)
        result, _ = self.call(
            a.OBJ_GET_INFO_BY_FD, bpf_fd=self.fds[name], info_len=len(room), info=ctypes.addressof(room)
        )
        if isinstance(result, str):
            return {result: 0}
        return {field: value for field, value in PROG_INFO.unpack(room).items() if isinstance(value, int)}

    def _read(self, layout: Layout, field: str, name: str, key: bytes | None) -> str | bytes:
        key_buffer = ctypes.create_string_buffer(key or b"")
        room = ctypes.create_string_buffer(_ROOM)
        pointer = 0 if key is None else ctypes.addressof(key_buffer)
        values = {"map_fd": self.fds[name], "key": pointer, field: ctypes.addressof(room)}
        result, _ = self.call(layout, **values)
        return room.raw if result == 0 else str(result)
