"""Bloom filters never say no to what was added, and say yes to little else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import xdp

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import slots
from rawbpf.btf import Btf, Builder
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.needs("map_type:bloom_filter")]

EPERM = 1


@pytest.fixture
def bloom(backend: Backend) -> Iterator[rawbpf.BloomFilterMap[int]]:
    with rawbpf.Map.create("bloom_filter", value="u32", max_entries=1000, name="seen") as m:
        yield m


def test_what_was_added_is_in_it_and_hardly_anything_else(bloom: rawbpf.BloomFilterMap[int]) -> None:
    assert 7 not in bloom
    bloom.add(7)
    assert 7 in bloom
    bloom.update(range(0, 2000, 2))
    assert all(value in bloom for value in range(0, 2000, 2))
    # Made for 1000 values and 5 hashes: about 2 in 100, of which the seed is random.
    assert sum(value in bloom for value in range(1, 2000, 2)) < 200


@pytest.mark.parametrize("hashes", [0, 1, 15])
def test_the_number_of_hash_functions_is_map_extra(backend: Backend, hashes: int) -> None:
    with rawbpf.BloomFilterMap.create(value="u64", max_entries=64, map_extra=hashes) as m:
        assert m.info.map_extra == hashes
        m.update(range(64))
        assert all(value in m for value in range(64))


def test_more_hash_functions_than_there_are_is_refused_with_the_limit(backend: Backend) -> None:
    with pytest.raises(rawbpf.BpfError, match="number of hash functions, must be at most 15, not 16"):
        rawbpf.BloomFilterMap.create(value="u64", max_entries=64, map_extra=16)


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(len, id="len"),
        pytest.param(iter, id="iteration"),
        pytest.param(lambda m: m[1], id="reading by key"),
        pytest.param(lambda m: m.remove, id="removing"),
        pytest.param(lambda m: m.clear, id="emptying"),
        pytest.param(lambda m: m.pop, id="taking"),
        pytest.param(lambda m: m.get, id="get"),
    ],
)
def test_what_the_kernel_cannot_do_is_absent(bloom: rawbpf.BloomFilterMap[int], verb: Callable[[Any], object]) -> None:
    bloom.add(1)
    with pytest.raises((TypeError, AttributeError)):
        verb(bloom)


def test_update_encodes_all_before_it_adds_one(bloom: rawbpf.BloomFilterMap[Any]) -> None:
    with pytest.raises(OverflowError, match="expected"):
        bloom.update([1, 2, -1])
    assert 1 not in bloom
    with pytest.raises(TypeError, match="expected"):
        "1" in bloom  # noqa: B015  (it raises)


def test_an_update_that_was_cut_short_says_how_far_it_came(backend: Backend) -> None:
    third = FaultBackend(backend, {c.BPF_MAP_UPDATE_ELEM: [(3, EPERM)]})
    with rawbpf.BloomFilterMap.create(value="u32", max_entries=100, backend=third) as m:
        with pytest.raises(rawbpf.PermissionDenied) as caught:
            m.update([1, 2, 3, 4])
        assert caught.value.applied == 2
        assert (1 in m, 2 in m) == (True, True)


def test_a_frozen_filter_still_answers(bloom: rawbpf.BloomFilterMap[int]) -> None:
    bloom.add(1)
    bloom.freeze()
    with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
        bloom.add(2)
    assert 1 in bloom


def test_a_closed_filter_raises_closed(bloom: rawbpf.BloomFilterMap[int]) -> None:
    bloom.close()
    for verb in (lambda: bloom.add(1), lambda: 1 in bloom):
        with pytest.raises(rawbpf.Closed):
            verb()


def test_a_filter_opened_by_id_has_the_type_of_its_values(backend: Backend) -> None:
    with rawbpf.BloomFilterMap.create(value={"address": "ipv4", "port": "u32"}, max_entries=1000) as m:
        m.add({"address": "10.0.0.1", "port": 80})
        with rawbpf.Map.from_id(m.id) as other:
            assert isinstance(other, rawbpf.BloomFilterMap)
            assert ("10.0.0.1", 80) in other
            assert ("10.0.0.1", 81) not in other
            assert other.raw.value_type.size == 8


def test_a_filter_of_an_object_carries_the_type_of_its_values(backend: Backend) -> None:
    builder = Builder()
    number = builder.struct("host", 4, [("address", builder.int("unsigned int", 4), 0)])
    content = builder.to_bytes()
    host = Btf.from_bytes(content)[number]
    spec = MapSpec("seen", c.BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 8, value=host, value_type_id=number, section=".maps")
    btf_fd = btf_load(backend, content)
    try:
        m: Any = create_from_spec(backend, spec, name="seen", btf_fd=btf_fd)
    finally:
        backend.close(btf_fd)
    with m, rawbpf.Map.from_id(m.id) as other:
        m.add({"address": 1})
        assert other.value_type.name == "struct host"
        assert (1,) in other


# What it is for: most packets need no look-up in the large map --------------------------


def _ask_before_the_hash(bloom: rawbpf.BloomFilterMap[int], blocked: rawbpf.HashMap[int, int]) -> list[Instruction]:
    # The packet's first word is a source: 2 (XDP_PASS) where the filter knows nothing of it, 1 (XDP_DROP)
    # where the hash has it, which counts, and 3 where the filter was wrong.
    count = [b.mov_imm(b.R1, 1), b.atomic_add(b.R0, 0, b.R1), b.mov_imm(b.R0, 1), b.exit_()]
    ask_hash = [
        *xdp.on_stack(blocked.fileno(), "map_lookup_elem"),
        b.jump_imm(b.R0, "==", 0, slots(count)),
        *count,
        b.mov_imm(b.R0, 3),
    ]
    return xdp.reading(
        4,
        [
            b.load_mem(b.R2, b.R7, 0, 4),
            b.store_reg(b.R10, -8, b.R2, 4),
            *xdp.on_stack(bloom.fileno(), "map_peek_elem"),
            b.jump_imm(b.R0, "==", 0, 2),
            b.mov_imm(b.R0, 2),
            b.exit_(),
            *ask_hash,
        ],
    )


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:xdp")
def test_a_program_asks_the_filter_before_the_hash(bloom: rawbpf.BloomFilterMap[int]) -> None:
    bad = set(range(1000, 1100))
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=200) as blocked:
        blocked.update(dict.fromkeys(bad, 0))
        bloom.update(bad)
        with rawbpf.Program.load("xdp", _ask_before_the_hash(bloom, blocked)) as program:
            verdicts = {
                source: program.run(xdp.packet(bloom.value_type.pack(source))).retval for source in range(1000, 1300)
            }
        assert {source for source, verdict in verdicts.items() if verdict == 1} == bad
        assert set(blocked.values()) == {1}
        # The rest went by without a look-up, but for the few that the filter was wrong about.
        wrong = {source for source, verdict in verdicts.items() if verdict == 3}
        assert wrong == {source for source in verdicts if source in bloom} - bad
        assert len(wrong) < 50


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:xdp")
def test_a_program_adds_what_user_space_finds(bloom: rawbpf.BloomFilterMap[int]) -> None:
    copy = [b.load_mem(b.R2, b.R7, 0, 4), b.store_reg(b.R10, -8, b.R2, 4)]
    push = xdp.reading(4, [*copy, *xdp.on_stack(bloom.fileno(), "map_push_elem")])
    with rawbpf.Program.load("xdp", push) as program:
        for source in (5, 6):
            assert program.run(xdp.packet(bloom.value_type.pack(source))).retval == 0
    assert (5 in bloom, 6 in bloom, 7 in bloom) == (True, True, False)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.integers(1, 12).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)),
    entries=st.integers(1, 8),
    hashes=st.integers(0, 15),
)
def test_there_are_no_false_negatives_however_full(
    backend: Backend, values: list[bytes], entries: int, hashes: int
) -> None:
    with rawbpf.BloomFilterMap.create(value=len(values[0]), max_entries=entries, map_extra=hashes) as m:
        for index, value in enumerate(values):
            m.add(value)
            assert all(earlier in m for earlier in values[: index + 1])
