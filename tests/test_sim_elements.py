"""Elements of simulated maps: each of many random commands comes to what it comes to on the running kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.affinity import on_one_cpu
from support.two_kernels import Chance, Pair, pair

from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.testing.operation import Operation, perform
from rawbpf.testing.spec import MapSpec, create
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

VERBS = ("lookup", "update", "delete", "next_key", "lookup_and_delete")
LAZY, SEED, MAPPED = c.BPF_F_NO_PREALLOC, c.BPF_F_ZERO_SEED, c.BPF_F_MMAPABLE
SIZES = {"one": 1, "few": 4, "odd": 6}

pytestmark = pytest.mark.needs("kernel")


@pytest.fixture
def kernel() -> Backend:
    return KernelBackend()


def u32(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


INDICES = [*map(u32, range(8)), u32(0xFFFFFFFF)]
NETWORKS = [
    u32(length) + address
    for length in (0, 1, 8, 9, 16, 24, 31, 32, 33, 255)
    for address in (b"\x0a\x09\x09\x09", b"\x0a\0\0\0", b"\x0b\0\0\0", b"\x80\0\0\1", b"\0\0\0\0")
]
SHORT_PREFIXES = [u32(length) + bytes([octet]) for length in range(9) for octet in (0, 1, 3, 7, 0x80, 0xFF, 0xF0, 0xAA)]


def cases() -> Iterator[object]:
    def case(name: str, spec: MapSpec, keys: list[bytes]) -> object:
        return pytest.param(spec, keys, id=name)

    for name, entries in SIZES.items():
        for how, flags in (("", SEED), (" that grows", SEED | LAZY)):
            yield case(f"hash of {name}{how}", MapSpec("hash", 4, 6, entries, flags), INDICES)
            yield case(f"percpu_hash of {name}{how}", MapSpec("percpu_hash", 4, 3, entries, flags), INDICES)
        yield case(f"array of {name}", MapSpec("array", 4, 3, entries), INDICES)
        yield case(f"mapped array of {name}", MapSpec("array", 4, 12, entries, MAPPED), INDICES)
        yield case(f"percpu_array of {name}", MapSpec("percpu_array", 4, 12, entries), INDICES)
        yield case(f"lpm_trie of {name}", MapSpec("lpm_trie", 8, 4, entries, LAZY), NETWORKS)
        yield case(f"queue of {name}", MapSpec("queue", 0, 5, entries), [b""])
        yield case(f"stack of {name}", MapSpec("stack", 0, 5, entries), [b""])
        for hashes in (0, 1, 15):
            spec = MapSpec("bloom_filter", 0, 5 + entries % 4, entries, SEED, hashes)
            yield case(f"bloom_filter of {name}, {hashes} hashes", spec, [b""])
    odd_keys = [bytes([number]) * 17 for number in range(9)]
    yield case("hash of long keys", MapSpec("hash", 17, 5, 7, SEED), odd_keys)
    yield case("hash of short keys", MapSpec("hash", 1, 5, 7, SEED), [bytes([number]) for number in range(12)])
    yield case("lru_hash with room", MapSpec("lru_hash", 4, 8, 16, SEED), INDICES)
    yield case("lru_percpu_hash with room", MapSpec("lru_percpu_hash", 4, 8, 16, SEED), INDICES)
    yield case("lpm_trie of short prefixes", MapSpec("lpm_trie", 5, 4, 40, LAZY), SHORT_PREFIXES)
    yield case("hash with a lock", MapSpec("hash", 4, 12, 4, SEED, btf="lock"), INDICES)
    yield case("hash that grows, with a lock", MapSpec("hash", 4, 12, 4, SEED | LAZY, btf="lock"), INDICES)
    yield case("array with a lock", MapSpec("array", 4, 12, 4, btf="lock"), INDICES)
    yield case("lpm_trie with types", MapSpec("lpm_trie", 8, 4, 4, LAZY, btf="prefix"), NETWORKS)
    yield case("stack_trace", MapSpec("stack_trace", 4, 80, 4), INDICES)
    yield case("ringbuf", MapSpec("ringbuf", 0, 0, 4096), [b""])
    yield case("user_ringbuf", MapSpec("user_ringbuf", 0, 0, 4096), [b""])
    yield case("arena", MapSpec("arena", 0, 0, 2, MAPPED), [b""])


def chance(pair: Pair, keys: list[bytes], seed: int) -> Chance:
    size = pair.spec.room(pair.kernel.host.possible_cpus)
    return Chance(seed, keys, [bytes([number]) * size for number in range(1, 20)], VERBS)


@pytest.mark.parametrize("seed", range(3), ids="seed {}".format)
@pytest.mark.parametrize(("spec", "keys"), list(cases()))
def test_random_commands_come_to_the_same(kernel: Backend, spec: MapSpec, keys: list[bytes], seed: int) -> None:
    with pair(kernel, spec, seed) as both:
        both.perform_all(chance(both, keys, seed).operations(400))
        both.perform(Operation("info"))
        assert len(both.seen) >= 10


@pytest.mark.parametrize("flag", [0, c.BPF_F_RDONLY, c.BPF_F_WRONLY], ids=["both ways", "for reading", "for writing"])
@pytest.mark.parametrize("kind", ["hash", "array", "percpu_array", "lru_hash", "queue", "bloom_filter", "stack_trace"])
def test_what_is_not_permitted_is_refused_before_anything_else(kernel: Backend, kind: str, flag: int) -> None:
    keyless = kind in ("queue", "bloom_filter")
    spec = MapSpec(
        kind, 0 if keyless else 4, 8, 16, flag | (SEED if kind in ("hash", "lru_hash", "bloom_filter") else 0)
    )
    with pair(kernel, spec) as both:
        keys = [b""] if keyless else INDICES
        both.perform_all(chance(both, keys, 1).operations(150))
        both.perform(Operation("freeze"))
        both.perform_all(chance(both, keys, 2).operations(150))
        both.perform(Operation("freeze"))
        assert {error for _, error in both.seen} >= {"EPERM"}


# Which element goes is left to the kernel; these are the laws that it keeps.


@pytest.mark.parametrize("kind", ["lru_hash", "lru_percpu_hash"])
@pytest.mark.parametrize("entries", [1, 2, 5, 64, 1000])
@pytest.mark.parametrize("flags", [0, c.BPF_F_NO_COMMON_LRU], ids=["", "NO_COMMON_LRU"])
def test_an_lru_hash_holds_the_newest_and_never_too_many(kernel: Backend, kind: str, entries: int, flags: int) -> None:
    spec = MapSpec(kind, 4, 8, entries, flags)
    with on_one_cpu(), pair(kernel, spec) as both:
        value = bytes(spec.room(kernel.host.possible_cpus))
        info = both.perform(Operation("info"))
        most = dict(info.info)["max_entries"]
        assert isinstance(most, int)
        held: list[bytes] = []
        for backend, fd in ((kernel, both.kernel_fd), (both.sim, both.sim_fd)):
            for number in range(2 * entries + 10):
                assert perform(backend, fd, spec, Operation("update", u32(number), value)).error == ""
                assert perform(backend, fd, spec, Operation("lookup", u32(number))).error == ""
            held = walk(backend, fd, spec)
            assert 1 <= len(held) == len(set(held)) <= most
            assert u32(0) not in held or entries >= 64
        # One CPU's share, or all of it.
        assert len(held) == (most // kernel.host.possible_cpus if flags else most)


def walk(backend: Backend, fd: int, spec: MapSpec) -> list[bytes]:
    found: list[bytes] = []
    while True:
        outcome = perform(backend, fd, spec, Operation("next_key", found[-1] if found else None))
        if outcome.error:
            assert outcome.error == "ENOENT"
            return found
        assert isinstance(outcome.value, bytes)
        found.append(outcome.value)


def test_what_was_updated_lately_stays_and_reading_is_no_use() -> None:
    spec = MapSpec("lru_hash", 4, 8, 4)
    with Simulator() as sim:
        fd, _ = create(sim, spec)
        for number in range(4):
            perform(sim, fd, spec, Operation("update", u32(number), bytes(8)))
        perform(sim, fd, spec, Operation("update", u32(0), bytes(8)))
        perform(sim, fd, spec, Operation("lookup", u32(1)))
        perform(sim, fd, spec, Operation("update", u32(4), bytes(8)))
        assert sorted(walk(sim, fd, spec)) == [u32(0), u32(2), u32(3), u32(4)]
        sim.close(fd)


def test_a_refused_update_of_a_full_lru_hash_changes_nothing() -> None:
    spec = MapSpec("lru_hash", 4, 8, 2)
    with Simulator() as sim:
        fd, _ = create(sim, spec)
        for number in range(2):
            perform(sim, fd, spec, Operation("update", u32(number), bytes(8)))
        before = walk(sim, fd, spec)
        assert perform(sim, fd, spec, Operation("update", u32(2), bytes(8), c.BPF_EXIST)).error == "ENOENT"
        assert perform(sim, fd, spec, Operation("update", u32(1), bytes(8), c.BPF_NOEXIST)).error == "EEXIST"
        assert walk(sim, fd, spec) == before
        sim.close(fd)


def test_what_an_lru_hash_lets_go_is_the_seeds_choice() -> None:
    def survivors(seed: int) -> set[bytes]:
        spec = MapSpec("lru_hash", 4, 8, 64)
        with Simulator(seed=seed) as sim:
            fd, _ = create(sim, spec)
            for number in range(100):
                perform(sim, fd, spec, Operation("update", u32(number), bytes(8)))
            found = walk(sim, fd, spec)
            sim.close(fd)
        return set(found)

    assert survivors(1) == survivors(1)
    assert survivors(1) != survivors(2)
