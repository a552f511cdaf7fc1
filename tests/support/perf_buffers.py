"""Programs that write into the buffers of a perf event array, and whoever plays them in a simulator."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import Label
from rawbpf.asm import build as b
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.current import current
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rawbpf.asm.instruction import Instruction

MOST = 65516
"""Bytes of the longest record that a program may write."""
_WORDS = 33
_NUMBERS = struct.Struct("=QQ")


class Producer:
    """What programs on any CPU write to the array `events`, on either kernel. A context manager."""

    def __init__(self, events: rawbpf.PerfEventArrayMap) -> None:
        self._events = events
        self._stack = ExitStack()
        backend = current()
        self._simulated = backend if isinstance(backend, Simulator) else None
        if self._simulated is None:
            self._staging = self._stack.enter_context(rawbpf.ArrayMap.create(value=MOST + 12, max_entries=1))
            instructions: list[Instruction | Label] = [
                b.load_mem(b.R5, b.R1, 0),
                b.ld_map_fd(b.R2, "events"),
                b.ld_imm64(b.R3, c.BPF_F_CURRENT_CPU),
                b.ld_map_value(b.R4, "staging", 0),
                b.mov_imm(b.R0, -errno.E2BIG),
                b.jump_imm(b.R5, ">", MOST + 12, "out"),
                b.call("bpf_perf_event_output"),
                Label("out"),
                b.exit_(),
            ]
            maps = {"events": events, "staging": self._staging}
            self._program = self._stack.enter_context(rawbpf.Program.load("raw_tracepoint", instructions, maps=maps))

    def output(self, record: bytes, cpu: int = 0) -> int:
        """Write a record on a CPU: 0, or a negative errno."""
        if self._simulated is not None:
            return self._simulated.perf_event_array(self._events.fileno()).output(record, cpu=cpu)
        self._staging[0] = record.ljust(MOST + 12, b"\0")
        context = struct.pack("=Q", len(record))
        result = self._program.run(ctx=context, flags=c.BPF_F_TEST_RUN_ON_CPU, cpu=cpu).retval
        return result - (1 << 32) if result >> 31 else result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Flood:
    """What writes numbered records of 8 to 263 bytes, as many as are asked for, on either kernel. A context manager.

    Record n is its number, over and over, in as many bytes as `size_of(n)` says.
    """

    def __init__(self, events: rawbpf.PerfEventArrayMap) -> None:
        self._stack = ExitStack()
        backend = current()
        self._simulated = backend.perf_event_array(events.fileno()) if isinstance(backend, Simulator) else None
        self._numbers = [0, 0]
        if self._simulated is not None:
            return
        self._state = self._stack.enter_context(rawbpf.ArrayMap.create(value=_NUMBERS.size, max_entries=1))
        instructions: list[Instruction | Label] = [
            b.ld_map_value(b.R7, "state", 0),
            b.load_mem(b.R8, b.R7, 0),
            *(b.store_reg(b.R10, -8 * word, b.R8) for word in range(1, _WORDS + 1)),
            b.mov_reg(b.R5, b.R8),
            b.alu_imm(b.R5, "*=", 40503),
            b.alu_imm(b.R5, ">>=", 8),
            b.alu_imm(b.R5, "&=", 0xFF),
            b.alu_imm(b.R5, "+=", 8),
            b.ld_map_fd(b.R2, "events"),
            b.ld_imm64(b.R3, c.BPF_F_CURRENT_CPU),
            b.mov_reg(b.R4, b.R10),
            b.alu_imm(b.R4, "+=", -8 * _WORDS),
            b.call("bpf_perf_event_output"),
            b.alu_imm(b.R8, "+=", 1),
            b.store_reg(b.R7, 0, b.R8),
            b.jump_imm(b.R0, "==", 0, "out"),
            b.load_mem(b.R1, b.R7, 8),
            b.alu_imm(b.R1, "+=", 1),
            b.store_reg(b.R7, 8, b.R1),
            Label("out"),
            b.mov_imm(b.R0, 2),
            b.exit_(),
        ]
        maps = {"events": events, "state": self._state}
        self._program = self._stack.enter_context(rawbpf.Program.load("xdp", instructions, maps=maps))

    @staticmethod
    def size_of(number: int) -> int:
        """Return how many bytes record `number` has."""
        return (number * 40503 >> 8 & 0xFF) + 8

    def write(self, count: int) -> None:
        """Write the next `count` records on the CPU of the calling thread."""
        if self._simulated is None:
            self._program.run(data=bytes(64), repeat=count)
            return
        (cpu,) = os.sched_getaffinity(0)
        for number in range(self._numbers[0], self._numbers[0] + count):
            record = struct.pack("=Q", number) * _WORDS
            self._numbers[0] += 1
            self._numbers[1] += self._simulated.output(record[: self.size_of(number)], cpu=cpu) != 0

    @property
    def refused(self) -> int:
        """How many records found no room."""
        return self._numbers[1] if self._simulated is not None else int(_NUMBERS.unpack(self._state[0])[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
