"""A list in shared memory: user space builds it, a program follows it and leaves its sum there."""

import struct

import rawbpf
from rawbpf.asm import build as b

# [start:build]
NODE = struct.Struct("=QQ")  # next, value

arena = rawbpf.ArenaMap.create(max_entries=16)  # pages
memory = arena.memory()
first = arena.address
for number in range(1, 11):
    following = first + number * NODE.size if number < 10 else 0
    NODE.pack_into(memory, (number - 1) * NODE.size, following, number)
# [end:build]

# [start:typed]
node = rawbpf.codec_for({"next": "u64", "value": "u64"})
nodes = arena.view(node, 0, 10)  # rows of bytes
print(node.column(nodes, "value").tolist())
print(arena.view("u64", 8, 1)[0])
# [end:typed]

# [start:follow]
program = rawbpf.Program.load(
    "syscall",
    [
        b.load_mem(b.R1, b.R1, 0),  # the first node, from the context
        b.ld_map_fd(b.R2, arena.fileno()),  # says which arena the pointers are of
        b.mov_imm(b.R0, 0),
        b.mov_imm(b.R3, 0),
        b.jump_imm(b.R1, "==", 0, 7),
        b.jump_imm(b.R3, ">=", 100, 6),  # the verifier wants an end
        b.addr_space_cast(b.R1, b.R1, 0, 1),  # for the program to follow
        b.load_mem(b.R2, b.R1, 8),
        b.alu_reg(b.R0, "+=", b.R2),
        b.load_mem(b.R1, b.R1, 0),
        b.alu_imm(b.R3, "+=", 1),
        b.jump(-8),
        b.exit_(),
    ],
)
print(program.run(ctx=struct.pack("=Q", first)).retval)
# [end:follow]

program.close()
arena.close()
