"""An array's memory as typed views, whole and by field, and columns of any map by field."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm import Instruction, Label, resolve
from rawbpf.asm.build import alu_imm as alu
from rawbpf.asm.build import atomic_add, call, exit_, jump_imm, ld_map_fd, mov_imm, mov_reg, store_imm

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

PACKET = {"source": "ipv4", "port": "be16", "proto": "u8", "hits": "u64", "name": "char[5]"}
ROWS: list[Any] = [
    ("10.0.0.1", 80, 6, 1, "one"),
    ("10.0.0.2", 443, 6, 2**40, ""),
    ("192.168.0.1", 53, 17, 3, "five5"),
]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("value", "numbers", "stored"),
    [
        ("u64", [1, 2**64 - 1], [1, 2**64 - 1]),
        ("s64", [-1, 2], [-1, 2]),
        ("f64", [0.5, -1.0], [0.5, -1.0]),
        ("u32", [1, 2**32 - 1], [1, 2**32 - 1]),
        ("s16", [-1, 2], [-1, 2]),
        ("u8", [1, 255], [1, 255]),
        ("f32", [0.5, -1.0], [0.5, -1.0]),
        ("bool", [1, 0], [True, False]),
        (Level, [1, 2], [Level.LOW, Level.HIGH]),
    ],
)
def test_the_memory_of_an_array_of_numbers_is_a_view_of_numbers(
    backend: Backend, value: Any, numbers: list[float], stored: list[Any]
) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=3) as m:
        view: Any = m.memory()
        assert (view.ndim, len(view), view.readonly) == (1, 3, False)
        view[0], view[2] = numbers
        assert [m.lookup(0), m.lookup(2)] == [m[0], m[2]] == stored
        m.raw[1] = m.raw.lookup(2)
        assert view.tolist() == [numbers[0], numbers[1], numbers[1]]
        assert view[1:].tolist() == [numbers[1]] * 2


def test_the_memory_of_an_array_of_arrays_has_a_dimension_more(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value="u32[4]", max_entries=3) as m:
        view: Any = m.memory()
        view[2, 3] = 7
        assert m.lookup(2) == (0, 0, 0, 7)
        assert view.shape == (3, 4)
    with rawbpf.ArrayMap.create(value="u32[3]", max_entries=3) as m:
        # There is a gap behind each, so that it is rows of bytes.
        assert m.memory().shape == (3, 16)


@pytest.mark.parametrize("value", [PACKET, {"a": "u32", "hits": "u32", "c": "u8"}], ids=["24 bytes", "12 bytes"])
def test_the_memory_of_an_array_of_structs_has_rows_and_columns(backend: Backend, value: Any) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=4) as m:
        codec = m.value_type
        rows: Any = m.memory()
        assert rows.shape == (4, (codec.size + 7) // 8 * 8)
        m.raw[2] = bytes(range(1, codec.size + 1))
        assert bytes(rows[2:3])[: codec.size] == m.raw.lookup(2)
        assert list(codec.iter_unpack(rows)) == list(m)
        hits = codec.column(rows, "hits")
        hits[3] = 99
        assert m.lookup(3).hits == m[3].hits == 99
        assert hits.tolist() == [each.hits for each in m]


@pytest.mark.real_kernel("programs run there only")
def test_a_column_shows_what_a_program_counts(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value={"a": "u32", "hits": "u64"}, max_entries=2) as m:
        hits = m.value_type.column(m.memory(), "hits")
        count: list[Instruction | Label] = [
            store_imm(10, -4, 1, 4),
            ld_map_fd(1, m.fileno()),
            mov_reg(2, 10),
            alu(2, "+=", -4),
            call(1),
            jump_imm(0, "==", 0, "end"),
            mov_imm(1, 5),
            atomic_add(0, 8, 1),
            Label("end"),
            mov_imm(0, 0),
            exit_(),
        ]
        with rawbpf.Program.load("socket_filter", resolve(count).instructions) as program:
            program.run(data=bytes(64), repeat=4)
            assert hits.tolist() == [0, 20]
            hits[1] = 100
            program.run(data=bytes(64))
            assert hits[1] == 105


def test_columns_are_read_as_records_and_by_field(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value=PACKET, max_entries=3) as m:
        m.update(dict(enumerate(ROWS)))
        keys, values = m.columns()
        assert dict(zip(keys, m.value_type.iter_unpack(values), strict=True)) == m.snapshot()
        hits = dict(zip(keys, m.value_type.column(values, "hits"), strict=True))
        assert hits == {0: 1, 1: 2**40, 2: 3}
