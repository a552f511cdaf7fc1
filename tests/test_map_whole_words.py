"""Numbers of 8 bytes are never seen half written, however a struct or an array of them is read.

That is the machine's doing, whose copying moves words; so it is for the running kernel, and no guest of an emulator.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm import Instruction, Label, resolve
from rawbpf.asm.build import alu_imm, alu_reg, call, exit_, jump_imm, ld_map_fd, mov_imm, mov_reg, store_imm, store_reg

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

WORDS = 16
READS: dict[str, Callable[[Any], Iterable[int]]] = {
    "by a call": lambda m: m.lookup(0),
    "in memory": lambda m: m[0],
    "a view": lambda m: m.memory().cast("B").cast("Q"),
}


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_words_of_eight_bytes_are_whole_while_a_program_writes(
    backend: Backend, read: Callable[[rawbpf.ArrayMap[Any]], Iterable[int]]
) -> None:
    with rawbpf.ArrayMap.create(value=f"u64[{WORDS}]", max_entries=1) as m:
        store: list[Instruction | Label] = [
            store_imm(10, -4, 0, 4),
            ld_map_fd(1, m.fileno()),
            mov_reg(2, 10),
            alu_imm(2, "+=", -4),
            call(1),
            jump_imm(0, "==", 0, "end"),
            mov_reg(6, 0),
            call(7),  # bpf_get_prandom_u32
            alu_imm(0, "&=", 0xFF),
            mov_reg(1, 0),  # and that byte eight times
        ]
        for shift in (8, 16, 32):
            store += [mov_reg(2, 1), alu_imm(2, "<<=", shift), alu_reg(1, "|=", 2)]
        store += [store_reg(6, 8 * word, 1) for word in range(WORDS)]
        store += [Label("end"), mov_imm(0, 0), exit_()]
        whole = {int.from_bytes(bytes([byte]) * 8, sys.byteorder) for byte in range(256)}
        with rawbpf.Program.load("socket_filter", resolve(store).instructions) as program:
            program.run(data=bytes(64))
            first = list(read(m))
            writer = threading.Thread(target=lambda: program.run(data=bytes(64), repeat=2_000_000))
            writer.start()
            seen: set[int] = set()
            while writer.is_alive():
                seen.update(read(m))
            writer.join()
            assert len({*seen, *first}) > 1
            assert seen <= whole
