"""mmap(2) of simulated maps: what may be mapped, where and how, and what it prevents, as on the running kernel."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING

import pytest
from support.two_kernels import pair

import rawbpf
from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.testing.operation import Operation
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

PAGE = mmap.PAGESIZE
MAPPED = c.BPF_F_MMAPABLE
FREE = 0x5EED_0000_0000
"""Where no process of this suite has anything, and a multiple of 4 GiB."""

needs_kernel = pytest.mark.needs("kernel")
needs_arena = pytest.mark.needs("kernel", "map_type:arena")


@pytest.fixture
def kernel() -> Backend:
    return KernelBackend()


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(cpus=2) as simulator, rawbpf.using(simulator):
        yield simulator


def result(call: Callable[[], object]) -> object:
    """Return what came of an attempt to map: the length, or the errno."""
    try:
        made = call()
    except OSError as error:
        return error.errno
    assert isinstance(made, mmap.mmap | ctypes.Array)
    return f"{len(made)} bytes"


LENGTHS = (0, 1, PAGE - 1, PAGE, PAGE + 1, *(pages * PAGE for pages in range(2, 8)))
OFFSETS = (0, 100, *(pages * PAGE for pages in range(1, 6)), 1 << 40)
MAPS = {
    "array": MapSpec("array", 4, 8, 1000),
    "array in memory": MapSpec("array", 4, 8, 1000, MAPPED),
    "small array in memory": MapSpec("array", 4, 8, 1, MAPPED),
    "array for reading": MapSpec("array", 4, 8, 1000, MAPPED | c.BPF_F_RDONLY),
    "array for writing": MapSpec("array", 4, 8, 1000, MAPPED | c.BPF_F_WRONLY),
    "array that programs read": MapSpec("array", 4, 8, 1000, MAPPED | c.BPF_F_RDONLY_PROG),
    "array that programs write": MapSpec("array", 4, 8, 1000, MAPPED | c.BPF_F_WRONLY_PROG),
    "array with a lock": MapSpec("array", 4, 8, 1000, MAPPED, btf="lock"),
    "percpu_array": MapSpec("percpu_array", 4, 8, 4),
    "ringbuf": MapSpec("ringbuf", 0, 0, PAGE),
    "ringbuf of two pages": MapSpec("ringbuf", 0, 0, 2 * PAGE),
    "user_ringbuf": MapSpec("user_ringbuf", 0, 0, PAGE),
    "user_ringbuf of two pages": MapSpec("user_ringbuf", 0, 0, 2 * PAGE),
    "hash": MapSpec("hash", 4, 8, 4),
    "hash for reading": MapSpec("hash", 4, 8, 4, c.BPF_F_RDONLY),
    "hash for writing": MapSpec("hash", 4, 8, 4, c.BPF_F_WRONLY),
    "queue": MapSpec("queue", 0, 8, 4),
    "lpm_trie": MapSpec("lpm_trie", 8, 8, 4, c.BPF_F_NO_PREALLOC),
    "bloom_filter": MapSpec("bloom_filter", 0, 8, 4),
    "stack_trace": MapSpec("stack_trace", 4, 8, 4),
}


@needs_kernel
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("spec", MAPS.values(), ids=MAPS)
def test_the_same_can_be_mapped(kernel: Backend, spec: MapSpec, frozen: bool) -> None:
    with pair(kernel, spec) as both:
        if frozen:
            both.perform(Operation("freeze"))
        wrong: list[tuple[object, ...]] = []
        for length, offset, writable in product(LENGTHS, OFFSETS, (False, True)):
            here = result(lambda: kernel.mmap(both.kernel_fd, length, offset, writable))  # noqa: B023
            there = result(lambda: both.sim.mmap(both.sim_fd, length, offset, writable))  # noqa: B023
            if there != here:
                wrong.append((length, offset, writable, here, there))
        for length, address in product(LENGTHS, (0, FREE)):
            here = result(lambda: kernel.mmap_at(both.kernel_fd, length, address))  # noqa: B023
            there = result(lambda: both.sim.mmap_at(both.sim_fd, length, address))  # noqa: B023
            if there != here:
                wrong.append((length, address, "at", here, there))
        assert wrong == []
        both.perform(Operation("freeze"))


@needs_arena
@pytest.mark.parametrize("writable", [False, True], ids=["read", "written"])
@pytest.mark.parametrize("spec", [MAPS["array in memory"], MAPS["ringbuf"], MapSpec("arena", 0, 0, 1, MAPPED)], ids=str)
def test_a_mapping_that_may_be_written_prevents_freezing_until_it_is_gone(
    kernel: Backend, spec: MapSpec, writable: bool
) -> None:
    with pair(kernel, spec) as both:
        made = [kernel.mmap(both.kernel_fd, PAGE, 0, writable), both.sim.mmap(both.sim_fd, PAGE, 0, writable)]
        assert (both.perform(Operation("freeze")).error == "EBUSY") == writable
        views = [memoryview(each) for each in made]
        del made
        both.perform(Operation("freeze"))
        del views
        both.perform(Operation("freeze"))
    with pair(kernel, spec) as both:
        made = [kernel.mmap(both.kernel_fd, PAGE, 0, writable), both.sim.mmap(both.sim_fd, PAGE, 0, writable)]
        made[0].close()
        with made[1]:
            pass
        both.perform(Operation("freeze"))


@needs_arena
def test_a_mapping_at_an_address_prevents_freezing_until_it_is_gone(kernel: Backend) -> None:
    with pair(kernel, MAPS["array in memory"]) as both:
        made = [kernel.mmap_at(both.kernel_fd, PAGE), both.sim.mmap_at(both.sim_fd, PAGE)]
        assert both.perform(Operation("freeze")).error == "EBUSY"
        del made
        assert both.perform(Operation("freeze")).error == ""


ARENAS = {
    "anywhere": MapSpec("arena", 0, 0, 2, MAPPED),
    "at an address": MapSpec("arena", 0, 0, 2, MAPPED, FREE),
    "with holes": MapSpec("arena", 0, 0, 2, MAPPED | c.BPF_F_SEGV_ON_FAULT),
}
STEPS = [
    *product(
        (PAGE, 2 * PAGE - 1, 2 * PAGE, 3 * PAGE, (1 << 32) + PAGE), (0, FREE, FREE + PAGE, FREE + (1 << 32) - PAGE)
    ),
    (2 * PAGE, None),
]


@needs_arena
@pytest.mark.parametrize("spec", ARENAS.values(), ids=ARENAS)
def test_an_arena_is_mapped_twice_where_the_running_kernel_maps_it_twice(kernel: Backend, spec: MapSpec) -> None:
    for steps in product(STEPS, STEPS):
        with pair(kernel, spec) as both:
            found = []
            for backend, fd in ((kernel, both.kernel_fd), (both.sim, both.sim_fd)):
                results: list[object] = []
                kept: list[object] = []
                for length, address in steps:
                    try:
                        if address is None:
                            kept.append(backend.mmap(fd, length))
                            results.append("mapped")
                        else:
                            kept.append(made := backend.mmap_at(fd, length, address))
                            results.append(ctypes.addressof(made) if address else "mapped")
                            del made
                    except OSError as error:
                        results.append(error.errno)
                del kept
                found.append(results)
            assert found[1] == found[0], steps


def test_elements_and_memory_of_an_array_are_one(sim: Simulator) -> None:
    with rawbpf.ArrayMap.create(value=12, max_entries=300, flags=MAPPED) as m:
        memory = sim.mmap(m.fileno(), PAGE)
        m[5] = b"twelve bytes"
        assert memory[5 * 16 : 5 * 16 + 12] == b"twelve bytes"
        memory[6 * 16 : 6 * 16 + 12] = b"other twelve"
        assert m[6] == b"other twelve"
        memory.close()


@pytest.mark.parametrize("kind", ["ringbuf", "user_ringbuf"])
def test_the_data_of_a_ring_lies_there_twice(sim: Simulator, kind: str) -> None:
    size = 2 * PAGE
    with rawbpf.Map.create(kind, max_entries=size) as m:
        positions = PAGE
        whole = sim.mmap(m.fileno(), PAGE + 2 * size, PAGE, kind == "user_ringbuf")
        # A mapping that begins in the data, and one that begins in its second half.
        inner = sim.mmap(m.fileno(), 2 * size - PAGE, 3 * PAGE, kind == "user_ringbuf")
        last = sim.mmap(m.fileno(), PAGE, 2 * PAGE + size, kind == "user_ringbuf")
        if kind == "user_ringbuf":
            whole[positions + 8] = 1
            inner[8] = 2
            whole[positions + size + 16] = 3
        else:
            for number in (1, 2):
                assert sim.ringbuf(m.fileno()).output(bytes([number]).ljust(4000, b"\7")) == 0
        assert whole[positions : positions + size] == whole[positions + size :]
        assert any(whole[positions : positions + PAGE])
        assert inner[:] == whole[positions + PAGE :]
        assert last[:] == whole[positions : positions + PAGE]
        for mapping in (whole, inner, last):
            mapping.close()


def test_memory_goes_with_its_last_user(sim: Simulator) -> None:
    before = set(os.listdir("/proc/self/fd"))
    m = rawbpf.ArrayMap.create(value="u64", max_entries=4)
    view = memoryview(sim.mmap(m.fileno(), PAGE))
    m.close()
    view[0] = 7
    assert view[0] == 7
    del view
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_page_that_no_program_allocated_ends_who_touches_it(sim: Simulator) -> None:
    with rawbpf.ArenaMap.create(max_entries=1, flags=c.BPF_F_SEGV_ON_FAULT) as arena:
        memory = arena.memory()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            memory[0]
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSEGV
