"""A ring buffer is a queue: what was submitted is read in that order, and what does not fit is refused."""

from __future__ import annotations

import struct
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from support import oracle, rings
from support.map_shapes import PAGE

import rawbpf
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.event.ring_memory import RingMemory
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.needs("map_type:ringbuf", "prog_type:syscall"),
    pytest.mark.real_kernel("programs run there only"),
]

_SIZES = (8, 1, 24, 1000, PAGE - 16, PAGE - 8)
_HEADER = c.BPF_RINGBUF_HDR_SZ


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
        programs = {size: stack.enter_context(rings.writer(ring, size)) for size in _SIZES}
        memory = stack.enter_context(ring.memory())

        @oracle.for_all(
            st.lists(st.tuples(st.sampled_from((0, 0, *_SIZES)), st.integers(0, 255), st.booleans()), max_size=50),
            examples=max(50, oracle.OPERATIONS // 50),
        )
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
                    assert rings.write(programs[size], bytes([byte]), discard=discarded) == (not fits)
                    assert memory.producer[0] == before + needed * fits
                    if fits:
                        written.append(None if discarded else (size, byte))
                        used.append(needed)
                assert memory.available == sum(used)
