"""Programs that write records into a ring buffer, as their context says, and whoever plays them in a simulator."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import Label
from rawbpf.asm import build as b
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.current import current
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

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


class Producer:
    """What programs do with the ring buffer `ring`, on either kernel. A context manager."""

    def __init__(self, ring: rawbpf.RingBufMap) -> None:
        self._ring = ring
        self._stack = ExitStack()
        backend = current()
        self._simulated = backend if isinstance(backend, Simulator) else None
        self._discarding: dict[int, rawbpf.Program] = {}
        if self._simulated is None:
            size = ring.max_entries
            self._staging = self._stack.enter_context(rawbpf.ArrayMap.create(value=size, max_entries=1))
            self._program = self._stack.enter_context(
                rawbpf.Program.load(
                    "syscall",
                    [
                        b.load_mem(b.R3, b.R1, 0),
                        b.load_mem(b.R4, b.R1, 8),
                        b.ld_map_value(b.R2, "staging", 0),
                        b.ld_map_fd(b.R1, "ring"),
                        b.mov_imm(b.R0, -1),
                        b.jump_imm(b.R3, ">", size, "out"),
                        b.call("bpf_ringbuf_output"),
                        Label("out"),
                        b.exit_(),
                    ],
                    maps={"staging": self._staging, "ring": ring},
                )
            )

    def output(self, record: bytes, flags: int = 0, *, discard: bool = False) -> int:
        """Submit or discard a record: 0, or a negative errno (for what is discarded -1) where it did not fit."""
        if self._simulated is not None:
            here = self._simulated.ringbuf(self._ring.fileno())
            if not discard:
                return here.output(record, flags)
            reserved = here.reserve(len(record))
            if reserved is None:
                return -1
            reserved.data[:] = record
            reserved.discard(flags)
            return 0
        if discard:
            size = len(record)
            if size not in self._discarding:
                self._discarding[size] = self._stack.enter_context(writer(self._ring, size))
            return -write(self._discarding[size], record[:8], flags, discard=True)
        self._staging[0] = record.ljust(self._ring.max_entries, b"\0")
        result = self._program.run(ctx=_COMMAND.pack(len(record), flags)).retval
        return result - (1 << 32) if result >> 31 else result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
