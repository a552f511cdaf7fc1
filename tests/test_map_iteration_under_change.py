"""What exists during a whole iteration is yielded exactly once, while another process or thread inserts and deletes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.map.batch import Elements
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.map import map_delete_elem, map_update_elem
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

STAYING = 120
ROUNDS = 6
SIZES = (1, 3, 16, 16384)


@contextmanager
def another_process(step: Callable[[int], None]) -> Iterator[None]:
    """Call `step` with 0, 1, 2... in a child, from before the block begins until it has ended."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        try:
            for nth in range(1 << 40):
                step(nth)
                if nth == 1:
                    os.write(writer, b"!")
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"!", "the child has failed"
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the child has failed"
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def another_thread(step: Callable[[int], None]) -> Iterator[None]:
    """Call `step` with 0, 1, 2... in a thread, from before the block begins until it has ended."""
    running, ended = threading.Event(), threading.Event()

    def work() -> None:
        for nth in range(1 << 40):
            step(nth)
            if nth == 1:
                running.set()
            if ended.is_set():
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert running.wait(30), "the thread has failed"
        yield
        assert thread.is_alive(), "the thread has failed"
    finally:
        ended.set()
        thread.join()


def meanwhile(backend: Backend, step: Callable[[int], None]) -> AbstractContextManager[None]:
    # A child has its own copy of a simulated kernel.
    return another_thread(step) if backend.name == "sim" else another_process(step)


def assert_each_once(read: Callable[[int], Iterator[Any]], staying: set[Any]) -> None:
    for n in SIZES:
        for _ in range(ROUNDS):
            found = Counter(read(n))
            assert set(found) >= staying, f"n={n}: {len(staying - set(found))} missing"
            assert max(found.values()) == 1, f"n={n}: {[key for key, times in found.items() if times > 1]} repeated"


def keys_of(m: Any) -> Callable[[int], Iterator[Any]]:
    return lambda n: (key for keys, _ in m.batches(n) for key in keys)


@pytest.mark.parametrize("kind", ["hash", "percpu_hash", "lru_hash", "lru_percpu_hash"])
def test_hashes_yield_what_stays_exactly_once(backend: Backend, kind: str) -> None:
    value: Any = rawbpf.PerCpu.filled(1) if "percpu" in kind else 1
    # Plenty of room: an LRU map must have no reason to evict what stays.
    with rawbpf.Map.create(kind, key="u32", value="u64", max_entries=8192) as m:
        m.update({i * 7: value for i in range(STAYING)})

        def insert_and_delete(nth: int) -> None:
            m[(nth % 400) * 7 + 3] = value
            m.delete_many([((nth + 200) % 400) * 7 + 3])

        with meanwhile(backend, insert_and_delete):
            assert_each_once(keys_of(m), {i * 7 for i in range(STAYING)})


def test_a_trie_yields_what_stays_exactly_once(backend: Backend) -> None:
    key = {"bits": "u32", "address": "u8[4]"}
    with rawbpf.Map.create("lpm_trie", key=key, value="u32", max_entries=2048) as m:
        m.raw.update({_network(24, i): bytes(4) for i in range(STAYING)})

        def insert_and_delete(nth: int) -> None:
            m.raw[_network(25 + nth % 8, nth % STAYING)] = bytes(4)
            m.raw.delete_many([_network(25 + (nth + 4) % 8, (nth + 60) % STAYING)])

        with meanwhile(backend, insert_and_delete):
            assert_each_once(keys_of(m.raw), {_network(24, i) for i in range(STAYING)})


def _network(bits: int, i: int) -> bytes:
    return bits.to_bytes(4, sys.byteorder) + bytes([10, i, 0, 255 if bits > 24 else 0])


def test_a_trie_whose_every_cursor_is_deleted_repeats_nothing(backend: Backend) -> None:
    key = {"bits": "u32", "address": "u8[4]"}
    calls: list[Call] = []
    with rawbpf.Map.create(
        "lpm_trie", key=key, value="u32", max_entries=64, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.raw.update({_network(24, i): bytes(4) for i in range(64)})
        found = []
        for keys, _ in m.raw.batches(4):
            found += keys
            if len(found) < 40:
                del m.raw[keys[-1]]  # the cursor: the kernel goes on at the leftmost
        assert sorted(found) == sorted(_network(24, i) for i in range(64))
    chunks = [call for call in calls if str(call).startswith("bpf(map_lookup_batch")]
    assert len(chunks) > 20  # it did start again


@pytest.mark.parametrize("errno", [22, 524], ids=["kernel without batches", "type without batches"])
def test_a_walk_by_keys_yields_what_stays_exactly_once(backend: Backend, errno: int) -> None:
    old = FaultBackend(backend, {c.BPF_MAP_LOOKUP_BATCH: [(n, errno) for n in range(1, 1000)]})
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4096, backend=old) as m:
        m.update({i * 7: 1 for i in range(STAYING)})

        def insert_and_delete(nth: int) -> None:
            m[(nth % 40) * 7 + 3] = 1
            m.delete_many([((nth + 20) % 40) * 7 + 3])

        with meanwhile(backend, insert_and_delete):
            assert_each_once(keys_of(m), {i * 7 for i in range(STAYING)})
    assert old.calls[c.BPF_MAP_GET_NEXT_KEY] > STAYING


@pytest.mark.needs("capability:CAP_NET_ADMIN")
@pytest.mark.parametrize("kind", ["array_of_maps", "hash_of_maps", "devmap_hash", "prog_array"])
def test_what_holds_descriptors_yields_what_stays_exactly_once(backend: Backend, kind: str) -> None:
    with (
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as inner,
        rawbpf.Program.load("socket_filter", _RETURN) as program,
        _holder(kind, inner) as m,
    ):
        held = {"devmap_hash": 1, "prog_array": program.fileno()}.get(kind, inner.fileno())  # 1: the loopback device
        for i in range(0, 2 * STAYING, 2):
            map_update_elem(backend, m.fileno(), _u32(i), _u32(held))

        def insert_and_delete(nth: int) -> None:
            map_update_elem(backend, m.fileno(), _u32(nth % STAYING * 2 + 1), _u32(held))
            if nth >= 30:
                map_delete_elem(backend, m.fileno(), _u32((nth - 30) % STAYING * 2 + 1))

        def read(n: int) -> Iterator[int]:
            elements = Elements(m._handle, m._shape, 4)
            return (int(number) for keys, _, _ in elements.read(n) for number in keys.cast("I"))

        with meanwhile(backend, insert_and_delete):
            assert_each_once(read, set(range(0, 2 * STAYING, 2)))


_RETURN = [rawbpf.asm.build.mov_imm(0, 0), rawbpf.asm.build.exit_()]


def _holder(kind: str, inner: rawbpf.HashMap[int, int]) -> Any:
    options: dict[str, Any] = {"inner": inner} if kind.endswith("_of_maps") else {}
    if kind.endswith("hash") or kind.startswith("hash"):
        options["key"] = "u32"
    if kind == "devmap_hash":
        options["value"] = "u32"
    return rawbpf.Map.create(kind, max_entries=1024, **options)


def _u32(number: int) -> ctypes.c_uint32:
    return ctypes.c_uint32(number)


def test_an_array_yields_every_index_once_while_it_is_written(backend: Backend) -> None:
    with rawbpf.Map.create("percpu_array", value="u64", max_entries=STAYING) as m:

        def write(nth: int) -> None:
            m[nth % STAYING] = rawbpf.PerCpu.filled(nth)

        with another_process(write):
            assert_each_once(keys_of(m), set(range(STAYING)))
