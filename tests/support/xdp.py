"""XDP programs that look at the packet that they are run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawbpf.asm import build as b
from rawbpf.asm import slots
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.asm.instruction import Instruction

PASS = 2
PACKET = 64
"""Bytes of a packet that every driver takes."""


def reading(size: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Return a program that runs `body` with R7 at a packet of `size` bytes at least, and returns R0."""
    end = [b.exit_()]
    return [
        b.load_mem(b.R7, b.R1, 0, 4),
        b.load_mem(b.R8, b.R1, 4, 4),
        b.mov_imm(b.R0, 0),
        b.mov_reg(b.R2, b.R7),
        b.alu_imm(b.R2, "+=", size),
        b.jump_reg(b.R2, ">", b.R8, slots(body)),
        *body,
        *end,
    ]


def on_stack(map_fd: int, helper: str, flags: int = 0) -> list[Instruction]:
    """Return a call of a helper of maps with the map, what lies at R10 - 8, and flags."""
    return [
        b.ld_map_fd(b.R1, map_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -8),
        b.mov_imm(b.R3, flags),
        b.call(helper_number(helper)),
    ]


def packet(start: bytes) -> bytes:
    """Return a packet that starts with `start`."""
    return start.ljust(PACKET, b"\0")
