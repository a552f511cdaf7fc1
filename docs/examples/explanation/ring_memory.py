"""A ring buffer's memory: what a program wrote, read by hand."""

import struct

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

ring = rawbpf.RingBufMap.create(max_entries=5000)
program = rawbpf.Program.load(
    "syscall",
    [
        *[i for at in (0, 4, 8) for i in (b.load_mem(b.R2, b.R1, at, 4), b.store_reg(b.R10, at - 16, b.R2, 4))],
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -16),
        b.ld_map_fd(b.R1, ring.fileno()),
        b.mov_imm(b.R3, 12),
        b.mov_imm(b.R4, 0),
        b.call(helper_number("ringbuf_output")),
        b.exit_(),
    ],
)
for text in (b"first record", b"second one  "):
    program.run(ctx=text)

# [start:read]
with ring.memory() as memory:
    print(memory.size, memory.available)
    position, end = memory.consumer[0], memory.producer[0]
    while position < end:
        at = position % memory.size
        (header,) = struct.unpack_from("=I", memory.data, at)
        if header & c.BPF_RINGBUF_BUSY_BIT:
            break  # still being written
        size = header & ~c.BPF_RINGBUF_DISCARD_BIT
        if size == header:
            print(position, bytes(memory.data[at + 8 : at + 8 + size]))
        position += 8 + size + 7 & ~7
    memory.consumer[0] = position
    print(memory.available)
# [end:read]

program.close()
ring.close()
