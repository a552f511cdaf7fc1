"""The programs that work on many keys: each goes through the keys in shared memory and does one thing to each.

The memory begins with a header of words: START and COUNT, from which key on and up to which; FLAGS, for
updates; DONE, the key that the map refused, or COUNT; MISSED, how many keys were missing. END is the
program's own: COUNT, or how many values that many keys have.
Behind it lie the values, the keys, and a byte for each key that tells whether it was found.

The kernel calls a function of ours for each element of another array, of as many `steps` as it takes. Linux
5.17 has a loop for that, which is no faster: most of a turn is the call, so that each does several keys.

A key or value is used where it lies, so that nothing is copied but what is read. A value is copied in
words of 8 bytes, as the kernel itself does it.
Kernel side: kernel/bpf/helpers.c, kernel/bpf/arraymap.c:bpf_for_each_array_elem,
kernel/bpf/verifier.c:check_map_access (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.build import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.map.runner import Code

COUNT, FLAGS, DONE, MISSED, START, END = range(6)
"""Words of the header."""
HEADER = 64

# Source: include/uapi/linux/bpf.h (v6.12)
_LOOKUP, _UPDATE, _DELETE, _FOR_EACH, _LOOKUP_PERCPU = 1, 2, 3, 164, 195
_ENOENT = 2
_UNROLLED, _BLOCK = 512, 256
_AT_ONCE = 8


class Layout:
    """Where keys, values and marks of `capacity` keys lie; with `cpus` each key has that many values.

    Values of CPUs begin at multiples of 8 bytes, `stride` bytes apart.
    """

    __slots__ = ("capacity", "cpus", "found", "key_size", "keys", "size", "steps", "stride", "value_size", "values")

    def __init__(self, capacity: int, key_size: int, value_size: int, cpus: int) -> None:
        self.capacity = capacity
        self.key_size = key_size
        self.value_size = value_size
        self.stride = value_size + 7 & -8 if cpus else value_size
        self.cpus = cpus
        self.values = HEADER
        self.keys = HEADER + (capacity * self.stride * (cpus or 1) + 7 & -8)
        self.found = self.keys + capacity * key_size
        self.size = self.found + capacity
        self.steps = max(-(-capacity * (cpus or 1) // _AT_ONCE), value_size // _BLOCK)


def get_code(layout: Layout, map_fd: int, scratch: int, steps: int, *, delete: bool = False) -> Code:
    """Return the program that copies the value of each key, and with `delete` takes the key out of the map."""
    locate: Code = [mov_reg(R7, R6)]
    helper: Code = [call(_LOOKUP)]
    if layout.cpus:
        # One value after the other: R6 is the number of the value, R7 of its key, R8 of its CPU.
        locate += [
            alu_imm(R7, "/=", layout.cpus),
            mov_reg(R8, R6),
            alu_imm(R8, "%=", layout.cpus),
            jump_imm(R7, ">=", layout.capacity, "stop"),
        ]
        helper = [mov_reg(R3, R8), call(_LOOKUP_PERCPU)]
    found: Code = [*at(R1, scratch, layout.found, R7, 1), store_imm(R1, 0, 1, 1)]
    if layout.cpus:
        # What was missing for an earlier CPU stays missing.
        found = [jump_imm(R8, "!=", 0, "next"), *found]
    taken: Code = []
    if delete:
        taken = [
            *at(R2, scratch, layout.keys, R7, layout.key_size),
            ld_map_fd(R1, map_fd),
            call(_DELETE),
            jump_imm(R0, "==", 0, "taken"),
            jump_imm(R0, "==", -_ENOENT, "missing"),
            *_refused(scratch),
            Label("taken"),
        ]
    body = [
        *locate,
        *at(R2, scratch, layout.keys, R7, layout.key_size),
        ld_map_fd(R1, map_fd),
        *helper,
        jump_imm(R0, "==", 0, "missing"),
        *at(R2, scratch, layout.values, R6, layout.stride),
        *_copied(layout.value_size, steps),
        *taken,
        *found,
        jump("next"),
        Label("missing"),
        *at(R1, scratch, layout.found, R7, 1),
        store_imm(R1, 0, 0, 1),
        *_counted(scratch, MISSED),
    ]
    return [
        *_for_each_key(scratch, steps, layout.capacity, body, layout.cpus or 1),
        *(_block(layout.value_size) if layout.value_size > _UNROLLED else []),
    ]


def put_code(layout: Layout, map_fd: int, scratch: int, steps: int) -> Code:
    """Return the program that stores the value of each key, up to the first that the map refuses."""
    body = [
        ld_map_value(R1, scratch, 8 * FLAGS),
        load_mem(R4, R1, 0),
        *at(R2, scratch, layout.keys, R6, layout.key_size),
        *at(R3, scratch, layout.values, R6, layout.value_size),
        ld_map_fd(R1, map_fd),
        call(_UPDATE),
        jump_imm(R0, "==", 0, "next"),
        *_refused(scratch),
    ]
    return _for_each_key(scratch, steps, layout.capacity, body)


def delete_code(layout: Layout, map_fd: int, scratch: int, steps: int) -> Code:
    """Return the program that deletes each key, and counts those that were missing."""
    body = [
        *at(R2, scratch, layout.keys, R6, layout.key_size),
        ld_map_fd(R1, map_fd),
        call(_DELETE),
        jump_imm(R0, "==", 0, "next"),
        jump_imm(R0, "==", -_ENOENT, "missing"),
        *_refused(scratch),
        Label("missing"),
        *_counted(scratch, MISSED),
    ]
    return _for_each_key(scratch, steps, layout.capacity, body)


def copy(to: int, source: int, start: int, end: int, using: int) -> Code:
    """Return what copies bytes `start` to `end` from where `source` points to where `to` points, by way of `using`."""
    code: Code = []
    at = start
    width: Literal[1, 2, 4, 8]
    for width in (8, 4, 2, 1):
        while end - at >= width:
            code += [load_mem(using, source, at, width), store_reg(to, at, using, width)]
            at += width
    return code


def _copied(size: int, steps: int) -> Code:
    # The value that R0 points to goes to where R2 points: a long one by blocks, or the verifier would take long.
    if size <= _UNROLLED:
        return copy(R2, R0, 0, size, R1)
    blocks = size // _BLOCK
    return [
        store_reg(R10, -8, R0),
        store_reg(R10, -16, R2),
        ld_map_fd(R1, steps),
        ld_function(R2, "block"),
        mov_reg(R3, R10),
        alu_imm(R3, "+=", -16),
        mov_imm(R4, 0),
        call(_FOR_EACH),
        load_mem(R0, R10, -8),
        load_mem(R2, R10, -16),
        alu_imm(R0, "+=", blocks * _BLOCK),
        alu_imm(R2, "+=", blocks * _BLOCK),
        *copy(R2, R0, 0, size % _BLOCK, R1),
    ]


def _block(size: int) -> Code:
    # Copy one block; R4 points to the addresses of the copy and of the value.
    return [
        Function("block", 4),
        load_mem(R1, R2, 0, 4),
        jump_imm(R1, ">=", size // _BLOCK, "stop"),
        alu_imm(R1, "*=", _BLOCK),
        load_mem(R3, R4, 8),
        load_mem(R4, R4, 0),
        alu_reg(R3, "+=", R1),
        alu_reg(R4, "+=", R1),
        *copy(R4, R3, 0, _BLOCK, R5),
        mov_imm(R0, 0),
        exit_(),
        Label("stop"),
        mov_imm(R0, 1),
        exit_(),
    ]


def _for_each_key(scratch: int, steps: int, capacity: int, body: Code, per_key: int = 1) -> Code:
    # `body` finds the number of the key, or of one of its `per_key` values, in R6, keeps R9 as it is, and ends by going
    # on behind itself or to "next", or to "stop" for no more keys.
    return [
        ld_map_value(R6, scratch, 0),
        store_imm(R6, 8 * MISSED, 0),
        load_mem(R1, R6, 8 * COUNT),
        store_reg(R6, 8 * DONE, R1),
        *([alu_imm(R1, "*=", per_key)] if per_key > 1 else []),
        store_reg(R6, 8 * END, R1),
        ld_map_fd(R1, steps),
        ld_function(R2, "each"),
        mov_imm(R3, 0),
        mov_imm(R4, 0),
        call(_FOR_EACH),
        mov_imm(R0, 0),
        exit_(),
        Function("each", 4),
        load_mem(R6, R2, 0, 4),
        alu_imm(R6, "*=", _AT_ONCE),
        ld_map_value(R1, scratch, 8 * START),
        load_mem(R1, R1, 0),
        alu_reg(R6, "+=", R1),
        mov_imm(R9, _AT_ONCE),
        Label("key"),
        ld_map_value(R1, scratch, 8 * END),
        load_mem(R1, R1, 0),
        jump_reg(R6, ">=", R1, "stop"),
        # The verifier wants to see the bound, which is never reached.
        jump_imm(R6, ">=", capacity * per_key, "stop"),
        *body,
        Label("next"),
        alu_imm(R6, "+=", 1),
        alu_imm(R9, "-=", 1),
        jump_imm(R9, "!=", 0, "key"),
        mov_imm(R0, 0),
        exit_(),
        Label("stop"),
        mov_imm(R0, 1),
        exit_(),
    ]


def at(register: int, scratch: int, region: int, index: int, size: int) -> Code:
    """Return what puts the address of element `index`, a register, of a region into `register`, by way of R5."""
    return [
        mov_reg(register, index),
        *([alu_imm(register, "*=", size)] if size != 1 else []),
        ld_map_value(R5, scratch, region),
        alu_reg(register, "+=", R5),
    ]


def _counted(scratch: int, word: int) -> Code:
    return [ld_map_value(R1, scratch, 8 * word), load_mem(R2, R1, 0), alu_imm(R2, "+=", 1), store_reg(R1, 0, R2)]


def _refused(scratch: int) -> Code:
    return [ld_map_value(R1, scratch, 8 * DONE), store_reg(R1, 0, R6), jump("stop")]
