"""A program that drains a user ring buffer: it counts records, adds up their numbers, and keeps the last of them."""

from __future__ import annotations

import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import Function, Label
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.asm.instruction import Instruction
    from rawbpf.sim import Simulator
    from rawbpf.syscall.protocol import Backend

NEEDS = ("map_type:user_ringbuf", "prog_type:syscall", "file:/proc/sys/net/core/bpf_jit_enable")
KEPT = 63
_COUNT, _SUM, _LIMIT, _BUFFER = 0, 8, 16, 24
_VALUE = struct.Struct(f"=QQQ{KEPT}sx")


class Drain:
    """The program's side of a ring, on the kernel and on the simulator: `count` and `total` of what it has taken."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self._last = b""

    def take(self, most: int = 0, flags: int = 0) -> int:
        """Take records, `most` if not 0, and return what bpf_user_ringbuf_drain() returned."""
        raise NotImplementedError

    def each(self) -> list[bytes]:
        """Take the records one by one and return what each begins with, `KEPT` bytes with zeros behind."""
        found = []
        while self.take(1) == 1:
            found.append(self._last)
        return found


class _Simulated(Drain):
    def __init__(self, simulator: Simulator, ring: rawbpf.UserRingBufMap) -> None:
        super().__init__()
        self._ring = simulator.user_ringbuf(ring.fileno())

    def take(self, most: int = 0, flags: int = 0) -> int:
        taken = 0

        def seen(record: bytes) -> int:
            nonlocal taken
            taken += 1
            self.count += 1
            self._last = record[:KEPT].ljust(KEPT, b"\0")
            self.total += int.from_bytes(self._last[:8], sys.byteorder)
            return int(taken == most)

        return self._ring.drain(seen, flags)

    def let_go(self) -> None:
        """Hold the ring's memory no longer, as pytest holds this object for a while."""
        del self._ring


class _Program(Drain):
    def __init__(self, program: rawbpf.Program, state: rawbpf.ArrayMap[bytes]) -> None:
        super().__init__()
        self._program = program
        self._state = state

    def take(self, most: int = 0, flags: int = 0) -> int:
        count, total, _, last = _VALUE.unpack(self._state[0])
        self._state[0] = _VALUE.pack(count, total, most, last)
        result = self._program.run(ctx=struct.pack("=Q", flags)).retval
        self.count, self.total, _, self._last = _VALUE.unpack(self._state[0])
        return result - (1 << 32) if result >> 31 else result


@contextmanager
def draining(backend: Backend, ring: rawbpf.UserRingBufMap) -> Iterator[Drain]:
    """Yield what drains `ring`."""
    if backend.name == "sim":
        simulated = _Simulated(backend, ring)  # type: ignore[arg-type]  # by its name
        yield simulated
        simulated.let_go()
        return
    with (
        rawbpf.ArrayMap.create(key="u32", value=_VALUE.size, max_entries=1) as state,
        rawbpf.Program.load("syscall", _code(ring, state), name="drain") as program,
    ):
        yield _Program(program, state)


def _code(ring: rawbpf.UserRingBufMap, state: rawbpf.ArrayMap[bytes]) -> list[Instruction | Label]:
    value = state.fileno()
    return [
        Function("drain", 1),
        b.load_mem(b.R4, b.R1, 0),
        b.ld_map_fd(b.R1, ring.fileno()),
        b.ld_function(b.R2, "take"),
        b.mov_imm(b.R3, 0),
        b.call(helper_number("user_ringbuf_drain")),
        b.exit_(),
        Function("take", 2),
        b.mov_reg(b.R6, b.R1),
        # What the record has of 63 bytes; what it lacks stays 0.
        *[i for at in range(0, KEPT, 8) for i in (b.ld_map_value(b.R1, value, _BUFFER + at), b.store_imm(b.R1, 0, 0))],
        b.mov_imm(b.R7, 0),
        *[i for size in (32, 16, 8, 4, 2, 1) for i in _read(value, size)],
        b.ld_map_value(b.R1, value, 0),
        *[b.load_mem(b.R2, b.R1, _COUNT), b.alu_imm(b.R2, "+=", 1), b.store_reg(b.R1, _COUNT, b.R2)],
        *[b.load_mem(b.R2, b.R1, _SUM), b.load_mem(b.R3, b.R1, _BUFFER), b.alu_reg(b.R2, "+=", b.R3)],
        b.store_reg(b.R1, _SUM, b.R2),
        *[b.load_mem(b.R2, b.R1, _LIMIT), b.mov_imm(b.R0, 0), b.jump_imm(b.R2, "==", 0, "out")],
        *[b.alu_imm(b.R2, "-=", 1), b.store_reg(b.R1, _LIMIT, b.R2), b.jump_imm(b.R2, "!=", 0, "out")],
        b.mov_imm(b.R0, 1),
        Label("out"),
        b.exit_(),
    ]


def _read(value: int, size: int) -> list[Instruction | Label]:
    # So many bytes more, from R7 on, if there are.
    return [
        *[b.ld_map_value(b.R1, value, _BUFFER), b.alu_reg(b.R1, "+=", b.R7), b.mov_imm(b.R2, size)],
        *[b.mov_reg(b.R3, b.R6), b.mov_reg(b.R4, b.R7), b.mov_imm(b.R5, 0)],
        b.call(helper_number("dynptr_read")),
        b.jump_imm(b.R0, "!=", 0, f"no {size}"),
        b.alu_imm(b.R7, "+=", size),
        Label(f"no {size}"),
    ]
