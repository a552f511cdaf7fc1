"""One operation of a map, again and again inside the kernel, timed there.

A program is generated for the map: it takes the time, calls the helper once per operand in a callback of
bpf_loop, and takes the time again. Operands, the number of them and the results lie in an array of one element.
What is timed holds the loop itself, a few nanoseconds each time round; `NOTHING` does nothing else.

Source: kernel/bpf/bpf_iter.c:bpf_loop, kernel/bpf/helpers.c:bpf_map_lookup_elem (v6.12).
"""

from __future__ import annotations

import struct

from rawbpf.asm import Function, Label
from rawbpf.asm import build as b
from rawbpf.errors import NotSupported, VerifierError
from rawbpf.map.array import ArrayMap
from rawbpf.program.program import Program
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from rawbpf.asm import Instruction
    from rawbpf.map.base import Map
    from rawbpf.syscall.protocol import Backend

NOTHING = ""
MOST_OPERANDS = 1 << 20
"""How many bytes of operands a loop takes: an array of this size is made by every kernel."""

_KTIME_GET_NS, _LOOP = 5, 181
# The array's element: how many operands there are, the nanoseconds, how often it worked; a value; the operands.
_COUNT, _SPENT, _WORKED, _VALUE = 0, 8, 16, 24
_HEAD = struct.Struct("=QQQ")
# By helper: its number, and what it takes. A value to store lies in one place, a value to be asked for is an operand.
_HELPERS = {
    "bpf_map_lookup_elem": (1, ("operand",)),
    "bpf_map_update_elem": (2, ("operand", "value", "flags")),
    "bpf_map_delete_elem": (3, ("operand",)),
    "bpf_map_push_elem": (87, ("value", "flags")),
    "bpf_map_pop_elem": (88, ("value",)),
    "bpf_map_peek_elem": (89, ("value",)),
    "bpf_map_push_elem of values": (87, ("operand", "flags")),
    "bpf_map_peek_elem of values": (89, ("operand",)),
}
# A packet for the program to be run on, where it is of a type that takes one: an Ethernet header, and some.
_PACKET = bytes(64)


class Loop:
    """A loaded program that calls `helper` for up to `count` operands of `size` bytes; `value` is what it stores.

    `worked` says how often it succeeded in the last run.
    Raises: BpfError where the kernel has no bpf_loop (before Linux 5.17), or the helper is not for this map.
    """

    def __init__(self, backend: Backend, m: Map[Any, Any], helper: str, *, size: int, count: int, value: bytes) -> None:
        self.worked = 0
        self._count = count
        self._operands_at = _VALUE + -(-len(value) // 8) * 8
        total = self._operands_at + count * size
        self._scratch: ArrayMap[bytes] = ArrayMap.create(
            value=total, max_entries=1, flags=c.BPF_F_MMAPABLE, name="bench_scratch", backend=backend
        )
        try:
            self._scratch.memory().cast("B")[_VALUE : _VALUE + len(value)] = value
            self._program = self._load(backend, m.fileno(), helper, size)
        except BaseException:
            self._scratch.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unload the program. Idempotent."""
        self._program.close()
        self._scratch.close()

    def put(self, operands: bytes) -> None:
        """Take these as the operands, side by side."""
        end = self._operands_at + len(operands)
        self._scratch.memory().cast("B")[self._operands_at : end] = operands

    def run(self, count: int) -> int:
        """Do it for the first `count` operands and return the nanoseconds that it took."""
        memory = self._scratch.memory().cast("B")
        memory[: _HEAD.size] = _HEAD.pack(count, 0, 0)
        if self._program.type == c.BPF_PROG_TYPE_SYSCALL:
            self._program.run()
        else:
            self._program.run(_PACKET)
        _, spent, self.worked = _HEAD.unpack(memory[: _HEAD.size])
        return int(spent)

    def _load(self, backend: Backend, map_fd: int, helper: str, size: int) -> Program:
        code = self._instructions(map_fd, helper, size)
        try:
            return Program.load("syscall", code, name="bench", backend=backend)
        except (VerifierError, NotSupported):
            # Programs that may sleep, as this type does, are not for maps of every type.
            return Program.load("socket_filter", code, name="bench", backend=backend)

    def _instructions(self, map_fd: int, helper: str, size: int) -> list[Instruction | Label]:
        scratch = self._scratch.fileno()
        return [
            b.call(_KTIME_GET_NS),
            b.mov_reg(b.R6, b.R0),
            b.ld_map_value(b.R7, scratch),
            b.load_mem(b.R1, b.R7, _COUNT),
            b.ld_function(b.R2, "once"),
            b.mov_imm(b.R3, 0),
            b.mov_imm(b.R4, 0),
            b.call(_LOOP),
            b.call(_KTIME_GET_NS),
            b.alu_reg(b.R0, "-=", b.R6),
            b.store_reg(b.R7, _SPENT, b.R0),
            b.mov_imm(b.R0, 0),
            b.exit_(),
            Function("once", 2),
            # The verifier wants to see that the operand is one of those that there are.
            b.jump_imm(b.R1, ">=", self._count, "no more"),
            *(self._call(scratch, map_fd, helper, size) if helper else []),
            b.ld_map_value(b.R1, scratch),
            b.load_mem(b.R2, b.R1, _WORKED),
            b.alu_imm(b.R2, "+=", 1),
            b.store_reg(b.R1, _WORKED, b.R2),
            Label("failed"),
            b.mov_imm(b.R0, 0),
            b.exit_(),
            Label("no more"),
            b.mov_imm(b.R0, 1),
            b.exit_(),
        ]

    def _call(self, scratch: int, map_fd: int, helper: str, size: int) -> list[Instruction | Label]:
        number, takes = _HELPERS[helper]
        found: list[Instruction | Label] = []
        # From the last to the first: the index is in R1, where the map goes.
        for register, what in reversed(list(enumerate(takes, start=b.R2))):
            if what == "flags":
                found.append(b.mov_imm(register, 0))
            elif what == "value":
                found.append(b.ld_map_value(register, scratch, _VALUE))
            else:
                found += [
                    b.ld_map_value(register, scratch, self._operands_at),
                    b.alu_imm(b.R1, "*=", size),
                    b.alu_reg(register, "+=", b.R1),
                ]
        found += [b.ld_map_fd(b.R1, map_fd), b.call(number)]
        # A look-up returns a pointer, others an error.
        found.append(b.jump_imm(b.R0, "==" if number == 1 else "!=", 0, "failed"))
        return found
