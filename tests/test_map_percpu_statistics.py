"""What the CPUs counted apart is combined: each ran the same program, and PerCpu adds, compares and averages."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf import PerCpu
from rawbpf.asm import build as b
from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

_ON_CPU = 1  # BPF_F_TEST_RUN_ON_CPU
KINDS = ["percpu_array", "percpu_hash", "lru_percpu_hash"]
STATS: dict[str, Any] = {"calls": "u64", "parts": "u32[2]", "least": "s64"}


def adding(map_fd: int) -> list[Instruction]:
    """Return a program that adds its argument to three fields of the element 1 of this CPU, and its negative to one."""
    return [
        b.load_mem(b.R6, b.R1, 0),
        b.store_imm(b.R10, -4, 1, 4),
        b.ld_map_fd(b.R1, map_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -4),
        b.call(helper_number("map_lookup_elem")),
        b.jump_imm(b.R0, "==", 0, 5),
        b.atomic_add(b.R0, 0, b.R6),
        b.atomic_add(b.R0, 8, b.R6, 4),
        b.atomic_add(b.R0, 12, b.R6, 4),
        b.neg(b.R6),
        b.atomic_add(b.R0, 16, b.R6),
        b.mov_imm(b.R0, 0),
        b.exit_(),
    ]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:raw_tracepoint")
@pytest.mark.parametrize("kind", KINDS)
def test_what_each_cpu_counted_is_combined_by_field(backend: Backend, kind: Any) -> None:
    cpus = backend.host.possible_cpus
    added = {cpu: 10 * (cpu + 1) for cpu in sorted(os.sched_getaffinity(0))}
    with rawbpf.Map.create(kind, key="u32", value=STATS, max_entries=4) as created:
        m: Any = created
        m[1] = PerCpu.filled((0, (0, 0), 0))
        with rawbpf.Program.load("raw_tracepoint", adding(m.fileno())) as program:
            for cpu, number in added.items():
                assert program.run(ctx=struct.pack("=Q", number), cpu=cpu, flags=_ON_CPU).retval == 0
        values = m[1]
        assert m.sum("calls") == sum(added.values())
    each = [added.get(cpu, 0) for cpu in range(cpus)]
    assert [value.calls for value in values] == each
    total, mean = sum(each), sum(each) / cpus
    assert values.sum() == (total, (total, total), -total)
    assert values.max() == (max(each), (max(each), max(each)), -min(each))
    assert values.min() == (min(each), (min(each), min(each)), -max(each))
    assert values.mean() == (mean, (mean, mean), -mean)
    assert values.mean().least == -mean
    assert type(values.sum()) is type(values[0])


def struct_with_nothing_in_it() -> Any:
    builder = Builder()
    u32 = builder.int("unsigned int", 4)
    empty = builder.struct("empty", 0, [])
    none = builder.array(u32, 0)
    number = builder.struct("stats", 4, [("nothing", empty, 0, 0), ("count", u32, 0, 0), ("rest", none, 32, 0)])
    return Btf.from_bytes(builder.to_bytes())[number]


# Two values, and their sum, minimum, maximum and mean.
COMBINED: list[Any] = [
    pytest.param("f64", 1.5, -0.5, (1.0, -0.5, 1.5, 0.5), id="f64"),
    pytest.param("f32", 0.25, 0.5, (0.75, 0.25, 0.5, 0.375), id="f32"),
    pytest.param("s32", -5, 3, (-2, -5, 3, -1.0), id="signed"),
    pytest.param("u64", 2**64 - 1, 2**64 - 1, (2**65 - 2, 2**64 - 1, 2**64 - 1, 2.0**64), id="u64"),
    pytest.param("be32", 1, 2, (3, 1, 2, 1.5), id="big-endian"),
    pytest.param("u16[3]", (1, 20, 3), (10, 2, 3), ((11, 22, 6), (1, 2, 3), (10, 20, 3), (5.5, 11, 3)), id="array"),
    pytest.param(
        {"x": "u8", "rows": "s8[2][2]"},
        (1, ((1, 2), (3, 4))),
        (2, ((-1, -2), (-3, -4))),
        ((3, ((0, 0), (0, 0))), (1, ((-1, -2), (-3, -4))), (2, ((1, 2), (3, 4))), (1.5, ((0, 0), (0, 0)))),
        id="array-of-arrays",
    ),
    pytest.param(
        {"pos": {"x": "f32", "y": "u8"}, "n": "u64"},
        ((0.5, 1), 2),
        ((1.5, 3), 4),
        (((2.0, 4), 6), ((0.5, 1), 2), ((1.5, 3), 4), ((1.0, 2.0), 3.0)),
        id="nested",
    ),
    pytest.param("bool", True, False, (True, True, True, True), id="bool"),
    pytest.param("char[8]", "sh", "rm", ("sh", "sh", "sh", "sh"), id="text"),
    pytest.param("char[8]", "", "rm", ("", "", "", ""), id="empty-text"),
    pytest.param("u8[2]", b"\1\2", b"\3\4", (b"\1\2",) * 4, id="bytes"),
    pytest.param(
        struct_with_nothing_in_it(),
        ((), 1, ()),
        ((), 3, ()),
        (((), 4, ()), ((), 1, ()), ((), 3, ()), ((), 2.0, ())),
        id="empty-fields",
    ),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("value", "first", "other", "combined"), COMBINED)
def test_values_of_each_type_are_combined(
    backend: Backend, kind: Any, value: Any, first: Any, other: Any, combined: tuple[Any, ...]
) -> None:
    cpus = backend.host.possible_cpus
    with rawbpf.Map.create(kind, key="u32", value=value, max_entries=4) as created:
        m: Any = created
        m[1] = [first] * cpus
        m[2] = [other] * cpus
        # Of two, however many CPUs there are.
        pair: PerCpu[Any] = PerCpu([m[1][-1], m[2][0]])
    assert list(pair) == [first, other]
    assert (pair.sum(), pair.min(), pair.max(), pair.mean()) == combined
