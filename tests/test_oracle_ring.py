"""A ring buffer is a queue: what was submitted is read in that order, and what does not fit is refused."""

from __future__ import annotations

import struct
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from support import oracle
from support.map_shapes import PAGE

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.map.ringbuf import RingMemory
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.needs("map_type:ringbuf", "prog_type:syscall"),
    pytest.mark.real_kernel("programs run there only"),
]

_SIZES = (8, 1, 24, 1000, PAGE - 16, PAGE - 8)
_HEADER = c.BPF_RINGBUF_HDR_SZ


def _writer(ring: rawbpf.RingBufMap, size: int) -> rawbpf.Program:
    # Reserves `size` bytes, copies the first byte of its context there, and submits, or discards by the second byte.
    instructions = [
        b.mov_reg(b.R6, b.R1),
        b.ld_map_fd(b.R1, ring.fileno()),
        b.mov_imm(b.R2, size),
        b.mov_imm(b.R3, 0),
        b.call(helper_number("ringbuf_reserve")),
        b.jump_imm(b.R0, "!=", 0, 2),
        b.mov_imm(b.R0, 1),
        b.exit_(),
        b.load_mem(b.R1, b.R6, 0, 1),
        b.store_reg(b.R0, 0, b.R1, 1),
        b.load_mem(b.R3, b.R6, 1, 1),
        b.mov_reg(b.R1, b.R0),
        b.mov_imm(b.R2, 0),
        b.jump_imm(b.R3, "!=", 0, 2),
        b.call(helper_number("ringbuf_submit")),
        b.jump(1),
        b.call(helper_number("ringbuf_discard")),
        b.mov_imm(b.R0, 0),
        b.exit_(),
    ]
    return rawbpf.Program.load("syscall", instructions)


def _take(memory: RingMemory) -> tuple[int, int] | None:
    # The next record: its length and first byte, None if it was discarded.
    position = memory.consumer[0]
    (length,) = struct.unpack_from("=I", memory.data, position % memory.size)
    assert not length & c.BPF_RINGBUF_BUSY_BIT
    size = length & ~c.BPF_RINGBUF_DISCARD_BIT
    found = size, memory.data[position % memory.size + _HEADER]
    memory.consumer[0] = position + (_HEADER + size + 7 & ~7)
    return None if size != length else found


def test_records_are_read_as_they_were_submitted(backend: Backend) -> None:
    with ExitStack() as stack:
        ring = stack.enter_context(rawbpf.RingBufMap.create(max_entries=PAGE))
        programs = {size: stack.enter_context(_writer(ring, size)) for size in _SIZES}
        memory = stack.enter_context(ring.memory())

        @seed(oracle.SEED)
        @settings(oracle.QUIET, max_examples=max(50, oracle.OPERATIONS // 50))
        @given(st.lists(st.tuples(st.sampled_from((0, 0, *_SIZES)), st.integers(0, 255), st.booleans()), max_size=50))
        def is_a_queue(steps: list[tuple[int, int, bool]]) -> None:
            written: deque[tuple[int, int] | None] = deque()
            used: deque[int] = deque()
            while memory.available:
                _take(memory)
            for size, byte, discarded in steps:
                before = memory.producer[0]
                if not size:
                    if written:
                        assert _take(memory) == written.popleft()
                        used.popleft()
                else:
                    needed = _HEADER + size + 7 & ~7
                    fits = sum(used) + needed <= PAGE - 8
                    context = bytes([byte, discarded]).ljust(8, b"\0")
                    assert (programs[size].run(ctx=context).retval == 0) == fits
                    assert memory.producer[0] == before + needed * fits
                    if fits:
                        written.append(None if discarded else (size, byte))
                        used.append(needed)
                assert memory.available == sum(used)

        is_a_queue()
