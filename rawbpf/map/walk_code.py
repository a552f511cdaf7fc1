"""The programs that go through a whole map: they count, add up, compare or copy what they come by.

The memory begins with a header of words: VISITED, how many elements there were (or a negated errno);
LIMIT, what a condition compares with; MATCHED, how many elements met the condition; LOW and HIGH, a sum of
128 bits; BEST, the least or greatest so far; OVERFLOW, whether the values of one key's CPUs together take more
than 64 bits. Behind it lie the values and keys that are copied, as many as there is room for; MATCHED counts
those that found none as well.
Kernel side: kernel/bpf/bpf_iter.c:bpf_for_each_map_elem, kernel/bpf/hashtab.c:bpf_for_each_hash_elem (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.build import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    alu_imm,
    alu_reg,
    call,
    exit_,
    jump,
    jump_imm,
    jump_reg,
    ld_function,
    ld_map_fd,
    ld_map_value,
    load_mem,
    mov_imm,
    mov_reg,
    store_imm,
    store_reg,
)
from rawbpf.asm.label import Function, Label
from rawbpf.map.many_code import HEADER, at, copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.map.runner import Code

VISITED, LIMIT, MATCHED, LOW, HIGH, BEST, OVERFLOW = range(7)
"""Words of the header."""

_FOR_EACH, _LOOKUP_PERCPU = 164, 195  # Source: include/uapi/linux/bpf.h (v6.12)
_SIGNED = {"<": "s<", "<=": "s<=", ">": "s>", ">=": "s>="}


class Number:
    """An integer in a value: `size` bytes at `offset`, in the machine's order."""

    __slots__ = ("offset", "signed", "size")

    def __init__(self, offset: int, size: Literal[1, 2, 4, 8], signed: bool) -> None:
        self.offset = offset
        self.size: Literal[1, 2, 4, 8] = size
        self.signed = signed

    @property
    def least(self) -> int:
        """The least number that one of its kind, widened to 64 bits, can be."""
        return -(1 << 63) if self.signed else 0

    @property
    def most(self) -> int:
        """The greatest one."""
        return (1 << 63) - 1 if self.signed else (1 << 64) - 1

    def compared(self, operator: str) -> str:
        """Return how an instruction is told to compare such numbers by `operator`."""
        return _SIGNED.get(operator, operator) if self.signed else operator

    @property
    def key(self) -> tuple[int, int, bool]:
        """What tells it from others."""
        return self.offset, self.size, self.signed


class Room:
    """Where copies of `capacity` elements lie. `value_size`: of the values of all CPUs together."""

    __slots__ = ("capacity", "key_size", "keys", "size", "value_size", "values")

    def __init__(self, capacity: int, key_size: int, value_size: int) -> None:
        self.capacity = capacity
        self.key_size = key_size
        self.value_size = value_size
        self.values = HEADER
        self.keys = HEADER + (capacity * value_size + 7 & -8)
        self.size = self.keys + capacity * key_size


def walk_code(
    map_fd: int, scratch: int, cpus: int, *, number: Number | None = None, test: str = "", action: Code | None = None
) -> Code:
    """Return the program that does `action` to each element, or to those whose `number` passes `test`, an operator.

    In an action R6 is the number, R7 points to the key, R8 to the value, which is not there where there are `cpus`:
    then R6 is the sum of the numbers of all.
    """
    condition: Code = []
    if test and number is not None:
        condition = [
            ld_map_value(R1, scratch, 8 * LIMIT),
            load_mem(R1, R1, 0),
            jump_reg(R6, number.compared(test), R1, "do"),
            jump("next"),
        ]
    return [
        ld_map_value(R6, scratch, 0),
        *(store_imm(R6, 8 * word, 0) for word in (VISITED, MATCHED, LOW, HIGH, BEST, OVERFLOW)),
        ld_map_fd(R1, map_fd),
        ld_function(R2, "each"),
        mov_imm(R3, 0),
        mov_imm(R4, 0),
        call(_FOR_EACH),
        store_reg(R6, 8 * VISITED, R0),
        mov_imm(R0, 0),
        exit_(),
        Function("each", 4),
        *([mov_reg(R7, R2), mov_reg(R8, R3)] if action or number else []),
        *(_number(number, map_fd, scratch, cpus) if number is not None else []),
        *condition,
        Label("do"),
        *(action or []),
        Label("next"),
        mov_imm(R0, 0),
        exit_(),
    ]


def _number(number: Number, map_fd: int, scratch: int, cpus: int) -> Code:
    if not cpus:
        return _loaded(R6, R8, number)
    code: Code = [mov_imm(R6, 0)]
    for cpu in range(cpus):
        code += [
            *_value_of(cpu, map_fd, f"skip {cpu}"),
            *_loaded(R1, R0, number),
            mov_reg(R9, R6),
            alu_reg(R6, "+=", R1),
            *(_overflowed(number, scratch, f"fits {cpu}") if number.size == 8 else []),
            Label(f"skip {cpu}"),
        ]
    return code


def _overflowed(number: Number, scratch: int, fits: str) -> Code:
    # R6 is R9 + R1: note if that took more than 64 bits, as unsigned numbers or as signed ones.
    mark: Code = [ld_map_value(R2, scratch, 8 * OVERFLOW), store_imm(R2, 0, 1), Label(fits)]
    if not number.signed:
        return [jump_reg(R6, ">=", R9, fits), *mark]
    # The sign of the sum differs from those of both numbers.
    signs: Code = [alu_reg(R9, "^=", R6), alu_reg(R1, "^=", R6), alu_reg(R9, "&=", R1), jump_imm(R9, "s>=", 0, fits)]
    return [*signs, *mark]


def _value_of(cpu: int, map_fd: int, missing: str) -> Code:
    return [
        ld_map_fd(R1, map_fd),
        mov_reg(R2, R7),
        mov_imm(R3, cpu),
        call(_LOOKUP_PERCPU),
        jump_imm(R0, "==", 0, missing),
    ]


def _loaded(register: int, pointer: int, number: Number) -> Code:
    code: Code = [load_mem(register, pointer, number.offset, number.size)]
    if number.signed and number.size < 8:
        bits = 64 - 8 * number.size
        code += [alu_imm(register, "<<=", bits), alu_imm(register, "s>>=", bits)]
    return code


# Actions ------------------------------------------------------------------------------


def adding(number: Number, scratch: int) -> Code:
    """Return the action that adds R6 to the sum."""
    low: Code = [ld_map_value(R1, scratch, 8 * LOW), load_mem(R2, R1, 0), alu_reg(R2, "+=", R6), store_reg(R1, 0, R2)]
    carry: Code = [jump_reg(R2, ">=", R6, "next"), *_high(scratch, 1)]
    if not number.signed:
        return [*low, *carry]
    # The upper half of a negative number is all ones: -1 for it and 1 for the carry are 0.
    borrow: Code = [Label("negative"), jump_reg(R2, "<", R6, "next"), *_high(scratch, -1)]
    return [*low, jump_imm(R6, "s<", 0, "negative"), *carry, jump("next"), *borrow]


def _high(scratch: int, step: int) -> Code:
    return [ld_map_value(R1, scratch, 8 * HIGH), load_mem(R2, R1, 0), alu_imm(R2, "+=", step), store_reg(R1, 0, R2)]


def choosing(number: Number, scratch: int, operator: str) -> Code:
    """Return the action that keeps R6 if it is `operator` the best so far, or the first."""
    return [
        ld_map_value(R1, scratch, 8 * MATCHED),
        load_mem(R2, R1, 0),
        store_imm(R1, 0, 1),
        ld_map_value(R1, scratch, 8 * BEST),
        jump_imm(R2, "==", 0, "take"),
        load_mem(R2, R1, 0),
        jump_reg(R6, number.compared(operator), R2, "take"),
        jump("next"),
        Label("take"),
        store_reg(R1, 0, R6),
    ]


def copying(room: Room, map_fd: int, scratch: int, cpus: int, width: int) -> Code:
    """Return the action that copies key and value, while there is room for them.

    `width`: how many bytes a value has on each of the `cpus`, if there are any.
    """
    code: Code = [
        ld_map_value(R1, scratch, 8 * MATCHED),
        load_mem(R9, R1, 0),
        mov_reg(R2, R9),
        alu_imm(R2, "+=", 1),
        store_reg(R1, 0, R2),
        jump_imm(R9, ">=", room.capacity, "next"),
        *at(R2, scratch, room.keys, R9, room.key_size),
        *copy(R2, R7, 0, room.key_size, R1),
    ]
    if not cpus:
        return [*code, *at(R2, scratch, room.values, R9, room.value_size), *copy(R2, R8, 0, room.value_size, R1)]
    stride = room.value_size // cpus
    for cpu in range(cpus):
        code += [
            *_value_of(cpu, map_fd, f"gone {cpu}"),
            *at(R2, scratch, room.values + cpu * stride, R9, room.value_size),
            *copy(R2, R0, 0, width, R1),
            Label(f"gone {cpu}"),
        ]
    return code
