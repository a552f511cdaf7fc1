"""Creating simulated maps: the running kernel takes and refuses the same, with the same errno, and counts the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest
from support.two_kernels import pair, refusals

from rawbpf.syscall.kernel import KernelBackend
from rawbpf.testing.operation import Operation
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.sim import Simulator
    from rawbpf.syscall.protocol import Backend

MAPPED, LAZY = c.BPF_F_MMAPABLE, c.BPF_F_NO_PREALLOC
GOOD = {
    "hash": MapSpec("hash", 4, 8, 4),
    "percpu_hash": MapSpec("percpu_hash", 4, 8, 4),
    "lru_hash": MapSpec("lru_hash", 4, 8, 4),
    "lru_percpu_hash": MapSpec("lru_percpu_hash", 4, 8, 4),
    "array": MapSpec("array", 4, 8, 4),
    "percpu_array": MapSpec("percpu_array", 4, 8, 4),
    "lpm_trie": MapSpec("lpm_trie", 8, 8, 4, LAZY),
    "queue": MapSpec("queue", 0, 8, 4),
    "stack": MapSpec("stack", 0, 8, 4),
    "bloom_filter": MapSpec("bloom_filter", 0, 8, 4),
    "stack_trace": MapSpec("stack_trace", 4, 64, 4),
    "ringbuf": MapSpec("ringbuf", 0, 0, 4096),
    "user_ringbuf": MapSpec("user_ringbuf", 0, 0, 4096),
    "arena": MapSpec("arena", 0, 0, 4, MAPPED),
}
KEYS = (0, 1, 2, 3, 4, 5, 8, 16, 255, 260, 261)
VALUES = (0, 1, 4, 7, 8, 16, 32, 1016, 1024, 32768, 32769)
# 4 MiB less what each type has around a value.
LONG = (
    4194024,
    4194025,
    4194247,
    4194248,
    4194251,
    4194252,
    4194255,
    4194256,
    4194304,
    4194305,
    1 << 31,
    (1 << 32) - 1,
)
ENTRIES = (0, 1, 2, 7, 4096, 8192, 12288)
# No memory is taken for these: either there are too many, or none is taken before elements come.
MANY = ((1 << 27) + 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1)
EXTRA = (1, 5, 15, 16, 4095, 4096, 1 << 32, (1 << 32) - 3 * 4096, 1 << 40, 1 << 63)

pytestmark = pytest.mark.needs("kernel")


@pytest.fixture
def kernel() -> Backend:
    return KernelBackend()


def sizes(good: MapSpec) -> Iterator[MapSpec]:
    for key, value, entries in product(KEYS, VALUES, ENTRIES):
        if entries < 10 or (value <= 16 and key <= 16):
            yield good._replace(key_size=key, value_size=value, max_entries=entries)
    for size in LONG:
        # The kernel would give an array what it asks for, up to 2 GiB.
        if good.map_type != "array" or not 4194305 < size < 1 << 31:
            yield good._replace(value_size=size, max_entries=1)
            yield good._replace(key_size=1, value_size=size, max_entries=1)
        yield good._replace(key_size=size, max_entries=1)
    if "hash" in good.map_type or good.map_type in ("lpm_trie", "arena"):
        yield from (good._replace(max_entries=entries) for entries in MANY)
    if "ringbuf" in good.map_type:
        yield from (good._replace(max_entries=size) for size in (1, 2048, 4095, 4097, 6000, 1 << 16, (1 << 31) + 4096))


def flags(good: MapSpec) -> Iterator[MapSpec]:
    # A token is asked for after the type has looked at the sizes, and is not part of this.
    bits = [1 << bit for bit in range(32) if 1 << bit != c.BPF_F_TOKEN_FD]
    for flag in bits:
        for changed in (good, good._replace(max_entries=0), good._replace(key_size=99_999_999)):
            yield changed._replace(flags=good.flags ^ flag)
            yield changed._replace(flags=good.flags ^ flag, numa_node=7)
            yield changed._replace(flags=good.flags ^ flag | c.BPF_F_NUMA_NODE, numa_node=0xFFFFFFFF)
    for one, other in combinations(bits, 2):
        yield good._replace(flags=good.flags ^ one ^ other)


def extra(good: MapSpec) -> Iterator[MapSpec]:
    for number in EXTRA:
        yield good._replace(map_extra=number)
        yield good._replace(map_extra=number, max_entries=0)


@pytest.mark.parametrize("vary", [sizes, flags, extra])
@pytest.mark.parametrize("kind", GOOD)
def test_what_makes_no_map_is_refused_alike(kernel: Backend, kind: str, vary: object) -> None:
    assert callable(vary)
    here, there = refusals(kernel, vary(GOOD[kind]))
    assert {spec: (error, there[spec]) for spec, error in here.items() if there[spec] != error} == {}
    assert "EINVAL" in here.values()
    if vary is not extra:
        assert "" in here.values()


def charged(backend: Backend | Simulator, fd: int) -> int:
    return next(int(line.split()[1]) for line in backend.fdinfo(fd).splitlines() if line.startswith("memlock:"))


@pytest.mark.parametrize("entries", [1, 5, 47, 1000])
@pytest.mark.parametrize(
    "good",
    [
        *(pytest.param(spec, id=kind) for kind, spec in GOOD.items()),
        pytest.param(MapSpec("hash", 9, 13, 1, LAZY), id="hash that grows"),
        pytest.param(MapSpec("percpu_hash", 9, 13, 1, LAZY), id="percpu_hash that grows"),
        pytest.param(MapSpec("bloom_filter", 0, 13, 1, map_extra=2), id="bloom_filter of two hashes"),
        pytest.param(MapSpec("lru_hash", 9, 13, 1, c.BPF_F_NO_COMMON_LRU), id="lru_hash of each cpu"),
        pytest.param(MapSpec("array", 4, 13, 1), id="array of odd values"),
        pytest.param(MapSpec("array", 4, 13, 1, MAPPED), id="array that can be mapped"),
        pytest.param(MapSpec("stack_trace", 4, 64, 1, c.BPF_F_STACK_BUILD_ID), id="stack_trace of build ids"),
    ],
)
def test_a_map_counts_as_much_memory(kernel: Backend, good: MapSpec, entries: int) -> None:
    # Bytes of elements that come later are counted as they come.
    spec = good._replace(max_entries=4096 << entries % 3 if "ringbuf" in good.map_type else entries)
    with pair(kernel, spec) as both:
        assert charged(both.sim, both.sim_fd) == charged(kernel, both.kernel_fd)
        if spec.flags & LAZY:
            key = (1).to_bytes(spec.key_size, "little")
            both.perform(Operation("update", key, bytes(spec.room(kernel.host.possible_cpus))))
            assert charged(both.sim, both.sim_fd) == charged(kernel, both.kernel_fd)
        both.perform(Operation("info"))
