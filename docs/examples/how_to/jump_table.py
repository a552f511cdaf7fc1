"""A program that jumps to one of three of its instructions, by a table."""

import sys

import rawbpf
from rawbpf.asm import build as b

with rawbpf.InsnArrayMap.create(max_entries=3, name="cases") as cases:
    code = [
        b.load_mem(b.R2, b.R1, 0, 4),  # 0: the number that it is run with
        b.mov_imm(b.R0, 99),
        b.jump_imm(b.R2, ">=", 3, 6),
        b.alu_imm(b.R2, "<<=", 3),
        b.ld_map_value(b.R3, cases.fileno()),  # 4 and 5
        b.alu_reg(b.R3, "+=", b.R2),
        b.load_mem(b.R3, b.R3, 0),
        b.jump_indirect(b.R3),
        b.exit_(),  # 9
        *(b.mov_imm(b.R0, 10), b.exit_()),  # 10
        *(b.mov_imm(b.R0, 20), b.exit_()),  # 12
        *(b.mov_imm(b.R0, 30), b.exit_()),  # 14
    ]
    cases.update({0: 10, 1: 12, 2: 14})
    cases.freeze()
    with rawbpf.Program.load("syscall", code) as program:
        print([program.run(ctx=number.to_bytes(4, sys.byteorder)).retval for number in range(4)])
    print(cases[1])
