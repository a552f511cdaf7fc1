"""Histograms of real maps, which a program filled: every family that can hold slots, as a whole and by section."""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf import Histogram
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.needs("prog_type:raw_tracepoint")]

VALUES = [0, 1, 2, 3, 4, 7, 8, 100, 100, 1023, 1024, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
LOG2_SLOT = [  # r7 = how many binary digits r6 has, 1 at least
    b.mov_imm(b.R7, 1),
    *[
        instruction
        for digits in (32, 16, 8, 4, 2, 1)
        for instruction in (
            b.mov_reg(b.R2, b.R6),
            b.alu_imm(b.R2, ">>=", digits),
            b.jump_imm(b.R2, "==", 0, 2),
            b.mov_reg(b.R6, b.R2),
            b.alu_imm(b.R7, "+=", digits),
        )
    ],
]
BY_TEN = [b.mov_reg(b.R7, b.R6), b.alu_imm(b.R7, "/=", 10)]


def counting(map_fd: int, key_size: int, slot: list[Instruction]) -> list[Instruction]:
    """Return a program that counts its first argument; a key of 8 bytes has its second before the slot."""
    return [
        b.load_mem(b.R6, b.R1, 0),
        b.load_mem(b.R8, b.R1, 8),
        *slot,
        b.store_reg(b.R10, -8, b.R8, 4),
        b.store_reg(b.R10, -4, b.R7, 4),
        b.store_imm(b.R10, -24, 1),  # the count of a new element, and zero for what may stand behind it
        b.store_imm(b.R10, -16, 0),
        b.ld_map_fd(b.R1, map_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -key_size),
        b.call(helper_number("map_lookup_elem")),
        b.jump_imm(b.R0, "!=", 0, 9),
        b.ld_map_fd(b.R1, map_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -key_size),
        b.mov_reg(b.R3, b.R10),
        b.alu_imm(b.R3, "+=", -24),
        b.mov_imm(b.R4, rawbpf.uapi.constants.BPF_NOEXIST),
        b.call(helper_number("map_update_elem")),
        b.jump(2),
        b.mov_imm(b.R1, 1),
        b.atomic_add(b.R0, 0, b.R1),
        b.mov_imm(b.R0, 0),
        b.exit_(),
    ]


def fill(m: Any, slot: list[Instruction], arguments: Iterable[tuple[int, int]]) -> None:
    with rawbpf.Program.load("raw_tracepoint", counting(m.fileno(), m.key_type.size, slot)) as program:
        for value, section in arguments:
            assert program.run(ctx=struct.pack("=2Q", value, section)).retval == 0


KINDS = ["array", "percpu_array", "hash", "percpu_hash", "lru_hash", "lru_percpu_hash"]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("value", "field"), [("u64", None), ({"count": "u64", "last_ns": "u64"}, "count")])
def test_what_a_program_counts_is_what_python_counts(
    backend: Backend, kind: Any, value: Any, field: str | None
) -> None:
    with rawbpf.Map.create(kind, key="u32", value=value, max_entries=1025) as m:
        fill(m, LOG2_SLOT, [(one, 0) for one in VALUES])
        histogram = Histogram.log2(m, field=field)
    assert histogram == Histogram.log2_of(VALUES)
    assert histogram.count == len(VALUES)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_counted_alike(backend: Backend, kind: Any) -> None:
    values = [0, 9, 10, 55, 55, 10249]
    with rawbpf.Map.create(kind, key="u32", value="u64", max_entries=1025) as m:
        fill(m, BY_TEN, [(one, 0) for one in values])
        assert Histogram.linear(m, step=10) == Histogram.linear_of(values, step=10)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("kind", ["hash", "percpu_hash", "lru_hash"])
def test_a_key_with_more_than_the_slot_makes_sections(backend: Backend, kind: Any) -> None:
    by_uid = {1000: VALUES[:9], 0: VALUES[4:], 7: [5]}
    with rawbpf.Map.create(kind, key={"uid": "u32", "slot": "u32"}, value="u64", max_entries=1024) as m:
        fill(m, LOG2_SLOT, [(value, uid) for uid, values in by_uid.items() for value in values])
        histogram = Histogram.log2(m)
        assert Histogram.log2(m, section=()) == Histogram.log2_of(chain(*by_uid.values()))
    assert list(histogram.sections) == [0, 7, 1000]
    assert histogram.sections == {uid: Histogram.log2_of(values) for uid, values in by_uid.items()}
    assert "\nuid = 1000\n     usecs " in histogram.text("usecs")


@pytest.mark.real_kernel("programs run there only")
def test_a_later_look_shows_what_came_in_between(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=64) as m:
        fill(m, LOG2_SLOT, [(one, 0) for one in VALUES])
        before = Histogram.log2(m)
        fill(m, LOG2_SLOT, [(one, 0) for one in (3, 3, 2**50)])
        assert Histogram.log2(m) - before == Histogram.log2_of([3, 3, 2**50])


@pytest.mark.real_kernel("programs run there only")
def test_a_map_without_types_says_how_to_decode_it(backend: Backend) -> None:
    with rawbpf.HashMap.create(key=4, value=8, max_entries=64) as m:
        fill(m, LOG2_SLOT, [(one, 0) for one in VALUES])
        with pytest.raises(TypeError, match=r"gives bytes: pass pairs that codec_for\('u32'\).unpack\(\) and its like"):
            Histogram.log2(m)
        slot, count = rawbpf.codec_for("u32").unpack, rawbpf.codec_for("u64").unpack
        assert Histogram.log2((slot(key), count(value)) for key, value in m.items()) == Histogram.log2_of(VALUES)


def test_a_map_that_lists_no_elements_is_refused(backend: Backend) -> None:
    with rawbpf.Map.create("queue", value="u64", max_entries=4) as m, pytest.raises(TypeError):
        Histogram.log2(m)  # type: ignore[arg-type]  # as a caller without a type checker


def test_an_empty_map_gives_an_empty_histogram(backend: Backend) -> None:
    with rawbpf.HashMap.create(key={"uid": "u32", "slot": "u32"}, value="u64", max_entries=64) as m:
        assert str(Histogram.log2(m)) == "nothing was counted"


def test_a_closed_map_is_refused_as_by_itself(backend: Backend) -> None:
    m = rawbpf.ArrayMap.create(value="u64", max_entries=65)
    m.close()
    with pytest.raises(rawbpf.Closed):
        Histogram.log2(m)
