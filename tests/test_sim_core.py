"""What the simulator stands on: the caller's memory, descriptors and their last close, and its own end."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leaks import Snapshot, left_since

import rawbpf
from rawbpf.sim import Simulator
from rawbpf.sim.error import Refused
from rawbpf.sim.memory import Memory
from rawbpf.uapi.constants import BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM

PAGE = mmap.PAGESIZE


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator, rawbpf.using(simulator):
        yield simulator


@pytest.fixture(params=["process_vm_readv", "memfd"])
def memory(request: pytest.FixtureRequest) -> Memory:
    made = Memory()
    made._direct = request.param == "process_vm_readv"
    return made


@pytest.fixture
def last_page() -> Iterator[int]:
    """The address of a page that may be used, before one that may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(2 * PAGE), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    assert libc.mprotect(ctypes.c_void_p(address + PAGE), ctypes.c_size_t(PAGE), 0) == 0
    yield address
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(2 * PAGE))


@pytest.mark.parametrize("size", [1, 4096, 100_000])
def test_memory_is_read_and_written(memory: Memory, size: int) -> None:
    buffer = ctypes.create_string_buffer(b"x" * size, size)
    assert memory.read(ctypes.addressof(buffer), size) == b"x" * size
    memory.write(ctypes.addressof(buffer), b"y" * size)
    assert buffer.raw == b"y" * size


@pytest.mark.parametrize("address", [0, 1, 0xFFFF_FFFF_FFFF_F000, 0x1234_5678_9ABC_DEF0])
def test_an_address_that_is_nobodys_is_efault(memory: Memory, address: int) -> None:
    with pytest.raises(Refused) as read:
        memory.read(address, 8)
    with pytest.raises(Refused) as written:
        memory.write(address, b"12345678")
    assert (read.value.errno, written.value.errno) == (errno.EFAULT, errno.EFAULT)


def test_a_range_that_ends_in_forbidden_memory_is_efault(memory: Memory, last_page: int) -> None:
    end = last_page + PAGE
    memory.write(end - 8, b"12345678")
    assert memory.read(end - 8, 8) == b"12345678"
    for call in (lambda: memory.read(end - 4, 8), lambda: memory.write(end - 4, b"12345678")):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.errno == errno.EFAULT


def test_a_string_ends_at_its_nul_although_the_next_page_is_forbidden(memory: Memory, last_page: int) -> None:
    end = last_page + PAGE
    memory.write(end - 4, b"abc\0")
    assert memory.string(end - 4, 4096) == b"abc"
    memory.write(end - 1, b"d")
    with pytest.raises(Refused):
        memory.string(end - 4, 4096)


def test_an_attr_at_a_bad_address_is_efault(sim: Simulator) -> None:
    address = ctypes.c_void_p(16)
    assert sim.bpf(BPF_MAP_CREATE, address, 32) == -1  # type: ignore[arg-type]
    assert ctypes.get_errno() == errno.EFAULT


def by_os_close(m: rawbpf.Map[int, int]) -> None:
    os.close(os.dup(m.fileno()))
    m.close()


def by_another_in_its_place(m: rawbpf.Map[int, int]) -> None:
    fd = os.dup2(0, m.fileno())
    m.close()
    os.close(fd)  # which the map left alone


CLOSERS = {"close": rawbpf.HashMap.close, "os.close": by_os_close, "dup2": by_another_in_its_place}


@pytest.mark.parametrize("close", CLOSERS.values(), ids=CLOSERS)
def test_a_map_dies_with_its_last_descriptor(sim: Simulator, close: Callable[[rawbpf.HashMap[int, int]], None]) -> None:
    m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=1)
    assert [each.id for each in rawbpf.maps()] == [m.id]
    close(m)
    assert list(rawbpf.maps()) == []


def test_a_duplicate_made_by_anyone_keeps_a_map_alive(sim: Simulator) -> None:
    m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=1)
    fd = os.dup(m.fileno())
    m[1] = 2
    m.close()
    with rawbpf.Map.from_fd(fd) as again:
        assert again[1] == 2
    os.close(fd)
    assert list(rawbpf.maps()) == []


def test_a_number_that_means_something_else_by_now_is_no_map(sim: Simulator) -> None:
    m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=1)
    fd = m.fileno()
    os.dup2(0, fd)
    with pytest.raises(rawbpf.BpfError) as refused:
        m.get(1)
    assert refused.value.errno == errno.EINVAL
    m.close()
    os.close(fd)  # which the map left alone


def test_another_simulators_descriptor_is_no_map_here(sim: Simulator) -> None:
    with Simulator() as other, rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=other) as m:
        attr = ctypes.create_string_buffer(m.fileno().to_bytes(4, sim.host.byteorder), 32)
        assert sim.bpf(BPF_MAP_LOOKUP_ELEM, ctypes.byref(attr), 32) == -1
        assert ctypes.get_errno() == errno.EINVAL


def test_nothing_is_left_of_a_simulator_that_was_shut_down() -> None:
    before = Snapshot()
    with Simulator() as sim, rawbpf.using(sim):
        with rawbpf.ArrayMap.create(value="u64", max_entries=2) as m:
            m.pin(Path(sim.bpffs) / "kept")
        root = sim.bpffs
        assert os.listdir(root) == ["kept"]
    assert not os.path.exists(root)
    assert left_since(before) == []


def test_a_simulator_that_was_shut_down_says_so() -> None:
    with Simulator() as sim:
        m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=sim)
        state = sim.snapshot()
        fd = m.fileno()
    asked: list[Callable[[], object]] = [
        lambda: m.get(1),
        lambda: rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=sim),
        lambda: sim.bpffs,
        sim.snapshot,
        lambda: sim.restore(state),
        lambda: sim.fdinfo(fd),
        lambda: sim.mmap(fd, PAGE),
    ]
    for ask in asked:
        with pytest.raises(rawbpf.Closed, match="the simulator was shut down"):
            ask()
    m.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    sim.shut_down()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cpus": 0}, ValueError, "cpus=0: a machine has 1 to 4096"),
        ({"cpus": 2.0}, TypeError, "cpus=2.0: expected a number of CPUs"),
        ({"cpus": True}, TypeError, "cpus=True: expected a number of CPUs"),
        ({"release": 5.10}, TypeError, "release=5.1: expected text, such as '5.10'"),
        ({"release": "new"}, ValueError, "release 'new': two numbers are expected, such as '5.10' or '6.12.3'"),
        ({"seed": "x"}, TypeError, "seed='x': expected an integer"),
    ],
)
def test_a_simulator_that_cannot_be_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    before = Snapshot()
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Simulator(**arguments)
    assert left_since(before) == []
