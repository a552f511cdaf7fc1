"""A program that writes records into a ring buffer, as its context says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction

_CONTENT = 16
_COMMAND = struct.Struct("=QQ")


def writer(ring: rawbpf.RingBufMap, size: int) -> rawbpf.Program:
    """Load a program that reserves `size` bytes, fills the first eight, and submits or discards what it has."""
    return rawbpf.Program.load(
        "syscall",
        [
            b.mov_reg(b.R6, b.R1),
            b.ld_map_fd(b.R1, ring.fileno()),
            b.mov_imm(b.R2, size),
            b.mov_imm(b.R3, 0),
            b.call(helper_number("ringbuf_reserve")),
            b.jump_imm(b.R0, "!=", 0, 2),
            b.mov_imm(b.R0, 1),
            b.exit_(),
            *_filling(size),
            b.load_mem(b.R3, b.R6, 8),
            b.mov_reg(b.R1, b.R0),
            b.load_mem(b.R2, b.R6, 0),
            b.jump_imm(b.R3, "!=", 0, 2),
            b.call(helper_number("ringbuf_submit")),
            b.jump(1),
            b.call(helper_number("ringbuf_discard")),
            b.mov_imm(b.R0, 0),
            b.exit_(),
        ],
    )


def _filling(size: int) -> list[Instruction]:
    at, found = 0, []
    for width in (8, 4, 2, 1):
        if at + width <= min(size, 8):
            found += [b.load_mem(b.R1, b.R6, _CONTENT + at, width), b.store_reg(b.R0, at, b.R1, width)]
            at += width
    return found


def write(program: rawbpf.Program, content: bytes, flags: int = 0, *, discard: bool = False) -> int:
    """Run a program of `writer`; return 0, or 1 where there was no room."""
    return program.run(ctx=_COMMAND.pack(flags, discard) + content.ljust(8, b"\0")).retval
