"""Arenas: programs and user space work on the same memory, and follow the same pointers."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs
from support.map_shapes import PAGE

import rawbpf
from rawbpf.asm import build as b
from rawbpf.btf import Func, indexed
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ctypes import Array, c_char

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

NODE = struct.Struct("=QQ")  # next, value
FREE = 0x5EED_0000_0000
"""Where no process of this suite has anything, and a multiple of 4 GiB."""

MAP_FIXED = 0x10

# Where programs are not compiled, arenas can be made and not used.
pytestmark = [
    pytest.mark.guest,
    pytest.mark.needs("map_type:arena", "prog_type:syscall", "file:/proc/sys/net/core/bpf_jit_enable"),
]


def program(arena: rawbpf.ArenaMap, instructions: Sequence[Instruction]) -> rawbpf.Program:
    # The first instruction is how the verifier learns which arena the pointers are of.
    return rawbpf.Program.load("syscall", [b.ld_map_fd(b.R2, arena.fileno()), *instructions])


def sum_of_list(most: int) -> list[Instruction]:
    """Follow the list that the context points to, make each value the sum up to it, and return how many there were."""
    return [
        b.load_mem(b.R1, b.R1, 0),
        b.mov_imm(b.R0, 0),
        b.mov_imm(b.R3, 0),
        # for (; node and count < most; node = node->next)
        b.jump_imm(b.R1, "==", 0, 8),
        b.jump_imm(b.R0, ">=", most, 7),
        b.addr_space_cast(b.R1, b.R1, 0, 1),
        b.load_mem(b.R4, b.R1, 8),
        b.alu_reg(b.R3, "+=", b.R4),
        b.store_reg(b.R1, 8, b.R3),
        b.load_mem(b.R1, b.R1, 0),
        b.alu_imm(b.R0, "+=", 1),
        b.jump(-9),
        b.exit_(),
    ]


def build_list(arena: rawbpf.ArenaMap, offsets: Sequence[int]) -> int:
    """Write a list whose nodes lie at `offsets` and have the values 1, 2, ...; return the address of the first."""
    memory, start = arena.memory(), arena.address
    for number, at in enumerate(offsets, 1):
        following = start + offsets[number] if number < len(offsets) else 0
        NODE.pack_into(memory, at, following, number)
    return start + offsets[0]


@pytest.mark.real_kernel("programs run there only")
def test_a_program_walks_a_list_that_user_space_built_and_leaves_its_results_there(backend: Backend) -> None:
    offsets = [3 * PAGE + 40, 0, PAGE - NODE.size, 16, 2 * PAGE]
    with rawbpf.ArenaMap.create(max_entries=4) as arena:
        head = build_list(arena, offsets)
        with program(arena, sum_of_list(16)) as walk:
            assert walk.run(ctx=struct.pack("=Q", head)).retval == len(offsets)
        memory = arena.memory()
        assert [NODE.unpack_from(memory, at)[1] for at in offsets] == [1, 3, 6, 10, 15]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("address", [0, FREE], ids=["of the kernel's choice", "map_extra"])
def test_user_space_follows_pointers_that_a_program_made(backend: Backend, address: int) -> None:
    allocate = indexed(backend.host.btf()).find("bpf_arena_alloc_pages", Func)
    assert allocate is not None
    with rawbpf.ArenaMap.create(max_entries=8, map_extra=address) as arena:
        memory = arena.memory()
        instructions = [
            b.mov_reg(b.R6, b.R1),
            b.mov_reg(b.R1, b.R2),
            *[b.mov_imm(b.R2, 0), b.mov_imm(b.R3, 1), b.mov_imm(b.R4, -1), b.mov_imm(b.R5, 0)],
            b.call_kfunc(allocate.id),
            b.addr_space_cast(b.R7, b.R0, 0, 1),
            b.store_imm(b.R7, 8, 4711),
            b.alu_imm(b.R7, "+=", 8),
            b.addr_space_cast(b.R0, b.R7, 1, 0),
            b.store_reg(b.R6, 0, b.R0),
            b.mov_imm(b.R0, 0),
            b.exit_(),
        ]
        with program(arena, instructions) as allocating:
            (pointer,) = struct.unpack("=Q", allocating.run(ctx=bytes(8)).ctx)
        if address:
            assert arena.address == address
        at = pointer - arena.address
        assert at % PAGE == 8
        assert struct.unpack_from("=Q", memory, at) == (4711,)


def test_memory_is_all_pages_and_zero(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=3) as arena:
        memory = arena.memory()
        assert (memory.format, memory.readonly, len(memory)) == ("B", False, 3 * PAGE)
        assert not any(memory)
        assert memory.cast("Q")[0] == 0


def test_values_of_a_type_are_a_view_of_the_pages(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=2) as arena:
        numbers = arena.view("u64")
        assert (len(numbers), numbers.readonly) == (2 * PAGE // 8, False)
        numbers[PAGE // 8] = 5
        assert struct.unpack_from("=Q", arena.memory(), PAGE) == (5,)
        node = rawbpf.codec_for({"next": "u64", "value": "u64"})
        nodes = arena.view(node, PAGE - 16, 3)
        assert nodes.shape == (3, 16)
        assert node.column(nodes, "next").tolist() == [0, 5, 0]
        node.column(nodes, "value")[2] = 7
        assert list(node.iter_unpack(nodes)) == [(0, 0), (5, 0), (0, 7)]
        assert len(arena.view(3, 2 * PAGE - 8)) == 2
        assert len(arena.view("u64", 2 * PAGE)) == 0


@pytest.mark.parametrize(
    ("description", "offset", "count", "message"),
    [
        ("u64", 2 * PAGE - 4, 1, "1 values of 8 bytes at [0-9]+ are not in the [0-9]+ bytes of"),
        ("u64", -8, 1, "at -8 are not in"),
        ("u64", -8, None, "values of 8 bytes at -8"),
        ("u64", 0, -1, "-1 values"),
        ("u64", 2 * PAGE + 1, None, f"at {2 * PAGE + 1}"),
        ("u8", 0, 2 * PAGE + 1, f"{2 * PAGE + 1} values of 1 bytes"),
        (0, 0, 1, "1 values of 0 bytes"),
    ],
)
def test_values_that_are_not_in_an_arena_are_refused(
    backend: Backend, description: Any, offset: int, count: int | None, message: str
) -> None:
    with rawbpf.ArenaMap.create(max_entries=2) as arena, pytest.raises(ValueError, match=message):
        arena.view(description, offset, count)


# One address ---------------------------------------------------------------------


def test_every_object_of_an_arena_has_the_same_memory_in_a_process(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=2) as arena:
        with pytest.raises(ValueError, match=r"\(arena\) has no address .*memory\(\)"):
            assert arena.address
        memory = arena.memory()
        memory[5] = 55
        with rawbpf.Map.from_id(arena.id) as other, arena.dup() as copy:
            assert other.address == copy.address == arena.raw.address == arena.address
            assert [m.memory()[5] for m in (arena, other, copy, arena.raw)] == [55] * 4
            other.memory()[6] = 66
        assert memory[6] == 66


class Slow(Wrapper):
    """A backend on which mapping takes as long as nobody else maps, a moment at most."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.calls = 0
        self.second = threading.Event()

    def mmap_at(self, fd: int, length: int, address: int = 0) -> Array[c_char]:
        self.calls += 1
        if self.calls > 1:
            self.second.set()
        self.second.wait(0.05)
        return super().mmap_at(fd, length, address)


def test_threads_that_map_an_arena_at_once_map_it_once(backend: Backend) -> None:
    slow = Slow(backend)
    with rawbpf.ArenaMap.create(max_entries=1, backend=slow) as arena:
        got: list[memoryview] = []
        threads = [threading.Thread(target=lambda: got.append(arena.memory())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        got[0][0] = 9
        assert [memory[0] for memory in got] == [9] * 4
    assert slow.calls == 1


class Interrupted(Wrapper):
    """A backend whose first mapping is interrupted, by a handler that maps as well."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.handler: Callable[[], object] | None = None

    def mmap_at(self, fd: int, length: int, address: int = 0) -> Array[c_char]:
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return super().mmap_at(fd, length, address)


def test_a_signal_handler_may_map_the_arena_that_is_being_mapped(backend: Backend) -> None:
    interrupted = Interrupted(backend)
    with rawbpf.ArenaMap.create(max_entries=1, backend=interrupted) as arena:
        got: list[memoryview] = []
        interrupted.handler = lambda: got.append(arena.memory())
        arena.memory()[0] = 6
        assert got[0][0] == 6


def test_a_forked_child_maps_the_arena_at_the_same_address(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=1) as arena:
        memory = arena.memory()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                address = arena.address
                arena.memory()[0] = 7
                status = 0 if arena.address == address else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert memory[0] == 7


def test_a_forked_child_unmaps_nothing_of_its_own(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=1) as arena:
        memory = arena.memory()
        address = arena.address
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                libc = ctypes.CDLL(None)
                libc.mmap.restype = ctypes.c_void_p
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
                arguments = (address, PAGE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
                assert libc.mmap(*map(ctypes.c_long, arguments)) == address
                arena.close()
                del memory
                (ctypes.c_char * PAGE).from_address(address)[0] = b"x"
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        memory[0] = 1


@pytest.mark.real_kernel("kernel/bpf/arena.c:arena_map_mmap: Linux 6.9 let children inherit arenas")
def test_a_child_that_inherited_the_memory_uses_it(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    # As kernels let it before they cut arenas off from children: another process, with the same mappings.
    with rawbpf.ArenaMap.create(max_entries=1) as arena:
        memory = arena.memory()
        memory[0] = 8
        address = arena.address
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            assert arena.memory()[0] == 8
        del memory
    assert not _is_mapped(address)


CHILD = """
import sys, rawbpf
with rawbpf.Map.from_pin(sys.argv[1]) as arena:
    try:
        memory = arena.memory(int(sys.argv[2]))
    except rawbpf.BpfError as error:
        print(error)
    else:
        memory[1] = memory[0] + 1
        print(arena.address)
"""


def elsewhere(pin: Path, address: int) -> str:
    command = [sys.executable, "-W", "error", "-c", CHILD, str(pin), str(address)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.real_kernel("another process is to see the map, too")
def test_another_process_maps_an_arena_where_map_extra_says(backend: Backend) -> None:
    with bpffs(backend) as pins, rawbpf.ArenaMap.create(max_entries=1, map_extra=FREE, pin=pins / "arena") as arena:
        assert arena.info.map_extra == arena.address == FREE
        memory = arena.memory()
        memory[0] = 40
        assert elsewhere(pins / "arena", 0) == str(FREE)
        assert memory[1] == 41


@pytest.mark.real_kernel("another process is to see the map, too")
def test_another_process_has_to_be_told_an_address_that_the_kernel_chose(backend: Backend) -> None:
    with bpffs(backend) as pins, rawbpf.ArenaMap.create(max_entries=1, pin=pins / "arena") as arena:
        memory = arena.memory(FREE)
        assert arena.address == FREE
        memory[0] = 50
        assert "EINVAL: an arena has one address in all processes" in elsewhere(pins / "arena", 0)
        assert "EINVAL: an arena has one address in all processes" in elsewhere(pins / "arena", FREE + (1 << 32))
        assert elsewhere(pins / "arena", FREE) == str(FREE)
        assert memory[1] == 51


def test_an_address_that_is_taken_is_refused(backend: Backend) -> None:
    with (
        rawbpf.ArenaMap.create(max_entries=1, map_extra=FREE) as first,
        rawbpf.ArenaMap.create(max_entries=1, map_extra=FREE) as second,
    ):
        memory = first.memory()
        memory[0] = 1
        with pytest.raises(rawbpf.BpfError, match="EEXIST: something else lies at its address"):
            second.memory()
        assert memory[0] == 1


# Creating, closing, refusals -------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({}, TypeError, "needs max_entries=, how many pages", id="no size"),
        pytest.param({"max_entries": 0}, ValueError, "max_entries must not be 0", id="size 0"),
        pytest.param({"max_entries": (4 << 30) // PAGE + 1}, rawbpf.BpfError, "at most 4 GiB", id="too large"),
        pytest.param({"max_entries": 1, "key": "u32"}, ValueError, "must be 0, not 4: leave key= out", id="keys"),
        pytest.param({"max_entries": 1, "value": "u32"}, ValueError, "must be 0, not 4: leave value= out", id="values"),
        pytest.param(
            {"max_entries": 1, "map_extra": FREE + 1}, rawbpf.BpfError, "multiple of the page", id="odd address"
        ),
        pytest.param(
            {"max_entries": 2, "map_extra": FREE - PAGE},
            rawbpf.BpfError,
            "cross a multiple of 4 GiB",
            id="across 4 GiB",
        ),
        pytest.param(
            {"max_entries": 1, "flags": c.BPF_F_NO_PREALLOC}, rawbpf.BpfError, "does not take the flag", id="flags"
        ),
    ],
)
def test_what_makes_no_arena_is_said(
    backend: Backend, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rawbpf.Map.create("arena", **options)


def test_the_flag_that_arenas_need_is_added(backend: Backend) -> None:
    with rawbpf.Map.create("arena", max_entries=1) as arena:
        assert arena.info.map_flags == c.BPF_F_MMAPABLE


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_a_program_cannot_use_an_arena_without_an_address(backend: Backend) -> None:
    with (
        rawbpf.ArenaMap.create(max_entries=1) as arena,
        pytest.raises(rawbpf.BpfError, match="user address must be set"),
    ):
        program(arena, sum_of_list(1))


@pytest.mark.real_kernel("another process is to see the map, too")
def test_a_page_that_no_program_allocated_ends_who_touches_it_where_that_was_asked_for(backend: Backend) -> None:
    with rawbpf.ArenaMap.create(max_entries=1, flags=c.BPF_F_SEGV_ON_FAULT) as arena:
        memory = arena.memory()
        assert len(memory) == PAGE
        code = f"""
import resource, rawbpf
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
rawbpf.Map.from_id({arena.id}).memory({arena.address})[0]
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == -signal.SIGSEGV


def test_the_memory_lives_as_long_as_the_map_or_a_view(backend: Backend) -> None:
    arena = rawbpf.ArenaMap.create(max_entries=1)
    arena.memory()[0] = 3
    address = arena.address
    assert _is_mapped(address)  # also without a view: programs may have been loaded with its address
    memory = arena.memory()
    arena.close()
    assert memory[0] == 3
    assert _is_mapped(address)
    del memory
    assert not _is_mapped(address)
    with pytest.raises(rawbpf.Closed):
        arena.memory()
    with pytest.raises(rawbpf.Closed):
        assert arena.address


@pytest.mark.parametrize("mode", ["r", "w"])
def test_an_arena_opened_for_one_direction_only_cannot_be_mapped(backend: Backend, mode: str) -> None:
    with (
        bpffs(backend) as pins,
        rawbpf.ArenaMap.create(max_entries=1, pin=pins / "arena"),
        rawbpf.Map.from_pin(pins / "arena", mode=mode) as arena,
        pytest.raises(rawbpf.PermissionDenied, match=r'EACCES: .*mode="rw"'),
    ):
        arena.memory()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(len, id="len"),
        pytest.param(list, id="iterate"),
        pytest.param(lambda m: m[0], id="read"),
        pytest.param(lambda m: b"" in m, id="in"),
        pytest.param(lambda m: m.clear(), id="clear"),
    ],
)
def test_an_arena_has_no_verbs_of_elements(backend: Backend, use: Any) -> None:
    with rawbpf.Map.create("arena", max_entries=1) as arena, pytest.raises((TypeError, AttributeError)):
        use(arena)


def _is_mapped(address: int) -> bool:
    return any(line.startswith(f"{address:x}-") for line in Path("/proc/self/maps").read_text("utf-8").splitlines())
