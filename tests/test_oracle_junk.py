"""Closure under junk: random attr bytes never end the process, and no call succeeds with what info cannot describe.

Pointers are 0, unmapped or into 64 KiB of the test's own, between pages that cannot be touched: what a kernel
writes beyond them is EFAULT and no damage. Descriptors are -1, closed, or the test's own. Each run is in a child
process, so that a crash is a failure and not the end of all tests.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from support import child

import rawbpf
from rawbpf.asm import build
from rawbpf.asm.instruction import encode
from rawbpf.btf.build import Builder
from rawbpf.syscall.obj import obj_get_info_by_fd
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import LAYOUTS
from rawbpf.uapi.info import BTF_INFO, MAP_INFO, PROG_INFO
from rawbpf.uapi.names import cmd_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

CALLS = 10_000
SCRATCH = 1 << 16
UNMAPPED = 4096
CLOSED = 1 << 19
# Commands on maps, programs and BTF that attach and run nothing, and what the descriptor is of that some return.
RETURNING = {
    c.BPF_MAP_CREATE: MAP_INFO,
    c.BPF_PROG_LOAD: PROG_INFO,
    c.BPF_BTF_LOAD: BTF_INFO,
    c.BPF_MAP_GET_FD_BY_ID: MAP_INFO,
    c.BPF_PROG_GET_FD_BY_ID: PROG_INFO,
    c.BPF_BTF_GET_FD_BY_ID: BTF_INFO,
}
COMMANDS = (
    *RETURNING,
    c.BPF_MAP_LOOKUP_ELEM,
    c.BPF_MAP_UPDATE_ELEM,
    c.BPF_MAP_DELETE_ELEM,
    c.BPF_MAP_GET_NEXT_KEY,
    c.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
    c.BPF_MAP_LOOKUP_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    c.BPF_MAP_UPDATE_BATCH,
    c.BPF_MAP_DELETE_BATCH,
    c.BPF_MAP_FREEZE,
    c.BPF_OBJ_GET_INFO_BY_FD,
    c.BPF_MAP_GET_NEXT_ID,
    c.BPF_PROG_GET_NEXT_ID,
    c.BPF_BTF_GET_NEXT_ID,
    c.BPF_PROG_BIND_MAP,
)
# What a field may hold: nothing that takes a lot of memory, time, or what is not the test's own.
CAPPED = {
    "key_size": (0, 1, 4, 5, 8, 16, 512, 4096),
    "value_size": (0, 1, 3, 4, 8, 64, 512),
    "max_entries": (0, 1, 2, 7, 64, 4096),
    "count": (0, 1, 2, 3, 64, 300),
    "insn_cnt": (0, 1, 2, 3, 64, 4097),
    "btf_size": (0, 24, 60, 85, 200, SCRATCH),
    "info_len": (0, 1, 16, 32, 64, 100, 232, 256, 4096, 5000),
    "log_level": (0, 1, 2, 4, 8),
    "log_size": (0, 64, 128, 4096, SCRATCH),
    "btf_log_size": (0, 64, 128, 4096, SCRATCH),
    "func_info_cnt": (0, 0, 1, 3),
    "line_info_cnt": (0, 0, 1, 3),
    "core_relo_cnt": (0, 0, 1, 3),
    "fd_array_cnt": (0, 0, 1, 3),
    "excl_prog_hash_size": (0, 0, 32),
    "signature_size": (0, 0, 32),
    "map_type": range(36),
    "prog_type": range(34),
}


class Junk:
    """Makes random calls on a backend and checks what they return."""

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend = backend
        self.random = random.Random(seed)
        self.scratch = guarded(SCRATCH)
        self.fds: list[int] = []
        self.ids: list[int] = []
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, calls: int) -> None:
        while calls > 0:
            # Maps that were frozen or filled by junk are of no use for long.
            with ExitStack() as stack:
                self.fds, self.ids = [], []
                for fd, number in own_objects(self.backend, stack):
                    self.fds.append(fd)
                    self.ids.append(number)
                for _ in range(200):
                    self.call()
            calls -= 200

    def call(self) -> None:
        cmd = self.random.choice(COMMANDS)
        self.fill(cmd)
        attr, size = self.attr(cmd)
        ctypes.set_errno(0)
        result = self.backend.bpf(cmd, ctypes.byref(attr), size)
        number = ctypes.get_errno()
        self.outcomes[f"{cmd_name(cmd)} {'ok' if result >= 0 else number}"] += 1
        if result < 0 and not (result == -1 and 0 < number < 4096):
            self.wrong.append(f"{cmd_name(cmd)} returned {result} with errno {number}")
        if result >= 0 and cmd in RETURNING:
            self.describe(cmd, attr, result)

    def describe(self, cmd: int, attr: ctypes.Array[ctypes.c_char], fd: int) -> None:
        try:
            info = obj_get_info_by_fd(self.backend, fd, RETURNING[cmd].size)
            fields = RETURNING[cmd].unpack(info)
            asked = LAYOUTS[cmd].unpack(attr)
            if not fields["id"]:
                self.wrong.append(f"{cmd_name(cmd)} returned an object without an id")
            same = {"map_create": ("type", "map_type"), "prog_load": ("type", "prog_type")}.get(cmd_name(cmd))
            if same and fields[same[0]] != asked[same[1]]:
                self.wrong.append(f"{cmd_name(cmd)} returned an object of another type")
        except rawbpf.BpfError as error:
            self.wrong.append(f"{cmd_name(cmd)} returned a descriptor of which info says {error}")
        finally:
            self.backend.close(fd)

    def attr(self, cmd: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
        layout = LAYOUTS[cmd]
        attr = layout.pack()
        for name, _, form in layout.fields:
            if self.random.random() < 0.9 or name in CAPPED:
                layout.set(attr, name, self.field(name, form))
        size = layout.size
        if self.random.random() < 0.1:  # beyond or within the fields
            size = self.random.randrange(200)
            if size > layout.size and self.random.random() < 0.5:
                attr[self.random.randrange(layout.size, size)] = bytes([self.random.randrange(256)])
        return attr, size

    def field(self, name: str, form: str) -> int | bytes:
        choose = self.random.choice
        if name in CAPPED:
            return choose(CAPPED[name])
        if form.endswith("s"):
            return choose((b"", b"", b"junk", b"bad name", self.random.randbytes(16)))
        if name.endswith("_fd"):
            fd = choose((-1, 0, CLOSED, *self.fds, *self.fds, *self.fds))
            return fd if form == "i" else fd & 0xFFFF_FFFF
        if name.endswith("_id") and form == "I":
            return choose((0, 1, 2, *self.ids, 1 << 31, (1 << 32) - 1))
        if form == "Q" and "flags" not in name and name != "map_extra":
            return self.pointer()
        bits = 8 * struct.calcsize("=" + form) - (form == "i")
        return choose((0, 0, 0, 0, 1, 2, 3, 4, 8, 1 << self.random.randrange(bits), self.random.getrandbits(bits)))

    def pointer(self) -> int:
        at = self.random.randrange(0, SCRATCH, 8)
        return self.random.choice((0, UNMAPPED, self.scratch, self.scratch, self.scratch, self.scratch + at))

    def fill(self, cmd: int) -> None:
        # An info struct has pointers too: every aligned word is one that may be followed.
        words = [self.random.choice((0, 0, 1, 2, 64, self.scratch + SCRATCH // 2)) for _ in range(64)]
        content = bytearray(struct.pack("=64Q", *words))
        if cmd in VALID and self.random.random() < 0.6:
            content[: len(VALID[cmd])] = VALID[cmd]
            if self.random.random() < 0.5:
                content[self.random.randrange(len(VALID[cmd]))] = self.random.randrange(256)
        ctypes.memmove(self.scratch, bytes(content), len(content))


def valid_btf() -> bytes:
    types = Builder()
    types.struct("s", 8, [("a", types.int("int", 4, signed=True), 0), ("b", types.int("u32", 4), 32)])
    return types.to_bytes()


VALID = {
    c.BPF_BTF_LOAD: valid_btf(),
    c.BPF_PROG_LOAD: encode([build.mov_imm(build.R0, 0), build.exit_()], sys.byteorder),
}
CAPPED["btf_size"] = (*CAPPED["btf_size"], *[len(VALID[c.BPF_BTF_LOAD])] * 6)


def guarded(size: int) -> int:
    """Return the address of so much memory, with pages around it that nobody can touch; it lives as the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    page = mmap.PAGESIZE
    start = libc.mmap(
        None, ctypes.c_size_t(size + 2 * page), 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0)
    )
    assert start != ctypes.c_void_p(-1).value
    inner = ctypes.c_void_p(start + page)
    assert libc.mprotect(inner, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE) == 0
    return int(start) + page


def own_objects(backend: Backend, stack: ExitStack) -> Iterator[tuple[int, int]]:
    """Yield descriptor and id of each object that junk may be about."""
    for kind, options in (
        ("hash", {"key": 4, "value": 8}),
        ("percpu_hash", {"key": 4, "value": 3}),
        ("lru_hash", {"key": 8, "value": 4}),
        ("array", {"value": 8, "flags": 0}),
        ("percpu_array", {"value": 4}),
        ("lpm_trie", {"key": 8, "value": 4}),
        ("queue", {"value": 4}),
        ("bloom_filter", {"value": 8}),
        ("hash", {"key": 4, "value": 4, "flags": c.BPF_F_RDONLY}),
    ):
        m = stack.enter_context(rawbpf.Map.create(kind, max_entries=16, backend=backend, **options))  # type: ignore[call-overload]
        yield m.fileno(), m.id
    program = rawbpf.Program.load("socket_filter", [build.mov_imm(build.R0, 0), build.exit_()], backend=backend)
    stack.enter_context(program)
    yield program.fileno(), program.id
    null = os.open("/dev/null", os.O_RDONLY)
    stack.callback(os.close, null)
    yield null, 0


def junk(backend: Backend, seed: int) -> tuple[Counter[str], list[str]]:
    """Make the calls in a child process; return how often each command ended how, and what was wrong."""

    def run() -> str:
        made = Junk(backend, seed)
        made.run(CALLS)
        return json.dumps([made.outcomes, made.wrong])

    outcomes, wrong = json.loads(child.run(run))
    return Counter(outcomes), wrong


@pytest.mark.parametrize("seed", range(3))
def test_junk_ends_no_process_and_makes_nothing_that_info_cannot_describe(backend: Backend, seed: int) -> None:
    outcomes, wrong = junk(backend, seed)
    assert not wrong, wrong[:5]
    # It was junk of all kinds: every command was refused in more than one way, and most succeeded.
    for cmd in COMMANDS:
        ways = [way for way in outcomes if way.startswith(f"{cmd_name(cmd)} ")]
        assert ways, f"{cmd_name(cmd)} was never made"
    assert len({way.split()[1] for way in outcomes}) > 8
    assert sum(way.endswith(" ok") for way in outcomes) > len(COMMANDS) // 2


class _Careless(Wrapper):
    """Hands out a descriptor of nothing where a map is asked for."""

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_MAP_GET_NEXT_KEY and result < 0:
            ctypes.set_errno(0)
        if cmd == c.BPF_MAP_CREATE and result < 0 and ctypes.get_errno() == 22:
            return os.open("/dev/null", os.O_RDONLY)
        return result


def test_a_kernel_that_returns_descriptors_of_nothing_is_found(backend: Backend) -> None:
    _, wrong = junk(_Careless(backend), 0)
    assert any(each.startswith("map_create returned a descriptor of which info says") for each in wrong)
    assert any(each == "map_get_next_key returned -1 with errno 0" for each in wrong)
