"""Small XDP programs for the frames of `network`, and what they count: others' frames pass untouched and uncounted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from rawbpf.asm import build as b
from support import network

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction

XDP_DROP, XDP_PASS = 1, 2
PAYLOAD = 14
"""Where the content of a frame begins."""
DOOMED = b"x"
"""What the content of frames begins with that `count_and_filter` drops."""


def count_and_filter(map_fd: int) -> list[Instruction]:
    """Return a program that adds one to the array's first u64 for each frame, and drops DOOMED ones."""
    return for_frames(
        [
            b.load_mem(b.R3, b.R2, PAYLOAD, 1),
            *add_one(map_fd),
            b.mov_imm(b.R0, XDP_DROP),
            b.jump_imm(b.R3, "==", DOOMED[0], 1),
            b.mov_imm(b.R0, XDP_PASS),
            b.exit_(),
        ]
    )


def for_frames(body: list[Instruction]) -> list[Instruction]:
    """Return a program that runs `body` for frames with ETHERTYPE and returns XDP_PASS for all others.

    `body` finds the context in R6, the frame's first byte in R2, of which 15 can be read, and ends with exit.
    """
    return [
        b.mov_reg(b.R6, b.R1),
        b.load_mem(b.R2, b.R1, 0, 4),
        b.load_mem(b.R3, b.R1, 4, 4),
        b.mov_reg(b.R4, b.R2),
        b.alu_imm(b.R4, "+=", PAYLOAD + 1),
        b.jump_reg(b.R4, ">", b.R3, 2),
        b.load_mem(b.R4, b.R2, 12, 2),
        b.jump_imm(b.R4, "==", socket.htons(network.ETHERTYPE), 2),
        b.mov_imm(b.R0, XDP_PASS),
        b.exit_(),
        *body,
    ]


def add_one(map_fd: int) -> list[Instruction]:
    """Return instructions that add one to the array's first u64; they use R4 and R5."""
    return [b.mov_imm(b.R5, 1), b.ld_map_value(b.R4, map_fd), b.atomic_add(b.R4, 0, b.R5)]
