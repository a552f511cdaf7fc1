"""Small tracing programs that count only what this process does on purpose, and the doing.

`getpgid(MAGIC)` shows in the system call tracepoints, a thread that calls itself MARK in `task_rename`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction

MAGIC = 0x5EED1234
"""No process has so great an id."""

MARK = b"tickmark"
"""A thread's name of eight letters, the first of the name's bytes."""

GETPGID = ("syscalls", "sys_enter_getpgid")
_PR_SET_NAME = 15
_prctl = ctypes.CDLL(None).prctl


def call_getpgid(times: int = 1) -> None:
    """Call getpgid(MAGIC), which fails, `times` times."""
    for _ in range(times):
        try:
            os.getpgid(MAGIC)
        except ProcessLookupError:
            continue
        raise AssertionError(f"there is a process {MAGIC}")


def rename_thread(times: int = 1) -> None:
    """Call this thread MARK `times` times, and then what it was called before."""
    with open("/proc/thread-self/comm", "rb") as file:
        before = file.read().rstrip(b"\n")
    for _ in range(times):
        _prctl(_PR_SET_NAME, MARK + b"\0", 0, 0, 0)
    _prctl(_PR_SET_NAME, before + b"\0", 0, 0, 0)


def count_getpgid(map_fd: int) -> list[Instruction]:
    """Return a program for GETPGID that adds one to the array's first u64 for each getpgid(MAGIC)."""
    return [
        b.load_mem(b.R2, b.R1, 16),  # args[0], after the common fields and the system call's number
        b.alu_imm(b.R2, "<<=", 32),
        b.alu_imm(b.R2, ">>=", 32),
        b.jump_imm(b.R2, "!=", MAGIC, 4),
        *_add_one(map_fd),
    ]


def count_renames(map_fd: int) -> list[Instruction]:
    """Return a program for the raw tracepoint task_rename that counts renamings to MARK in the array's first u64."""
    return [
        b.load_mem(b.R3, b.R1, 8),  # the tracepoint's second argument, the new name
        b.mov_reg(b.R1, b.R10),
        b.alu_imm(b.R1, "+=", -16),
        b.mov_imm(b.R2, 16),
        b.call(helper_number("probe_read_kernel_str")),
        b.load_mem(b.R1, b.R10, -16),
        b.ld_imm64(b.R2, int.from_bytes(MARK, sys.byteorder)),
        b.jump_reg(b.R1, "!=", b.R2, 4),
        *_add_one(map_fd),
    ]


def store_cookie(map_fd: int) -> list[Instruction]:
    """Return a program for GETPGID that stores its cookie in the array's first u64 at getpgid(MAGIC)."""
    return [
        b.mov_reg(b.R6, b.R1),
        b.load_mem(b.R2, b.R1, 16),
        b.alu_imm(b.R2, "<<=", 32),
        b.alu_imm(b.R2, ">>=", 32),
        b.jump_imm(b.R2, "!=", MAGIC, 5),
        b.mov_reg(b.R1, b.R6),
        b.call(helper_number("get_attach_cookie")),
        b.ld_map_value(b.R1, map_fd),
        b.store_reg(b.R1, 0, b.R0),
        *returning(0),
    ]


def returning(value: int) -> list[Instruction]:
    """Return the program that returns `value`."""
    return [b.mov_imm(b.R0, value), b.exit_()]


def _add_one(map_fd: int) -> list[Instruction]:
    # Four slots, over which the programs jump, and the end.
    return [b.mov_imm(b.R2, 1), b.ld_map_value(b.R1, map_fd), b.atomic_add(b.R1, 0, b.R2), *returning(0)]
