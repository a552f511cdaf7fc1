"""Programs of text and of instructions: one counts packets in a map, one adds the counts up in a callback."""

# [start:text]
import rawbpf
from rawbpf.asm import Function, Instruction, Label
from rawbpf.asm import build as b

COUNT = """
count(r1):
    r2 = *(u32 *)(r1 +0)            // xdp_md.data
    r3 = *(u32 *)(r1 +4)            // xdp_md.data_end
    r4 = r2
    r4 += 14                        // bytes of an Ethernet header
    if r4 > r3 goto pass
    r2 = *(u16 *)(r2 +12)           // its protocol
    *(u16 *)(r10 -2) = r2
    r1 = map[packets]
    r2 = r10
    r2 += -2
    call bpf_map_lookup_elem
    if r0 == 0 goto pass
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
pass:
    r0 = 2                          // XDP_PASS
    exit
"""

packets = rawbpf.Map.create("hash", key="be16", value="u64", max_entries=16)
packets.update({0x0800: 0, 0x86DD: 0})
count = rawbpf.Program.load("xdp", COUNT, name="count", maps={"packets": packets})
# [end:text]

# [start:run]
ipv4 = bytes(12) + b"\x08\x00" + bytes(50)
ipv6 = bytes(12) + b"\x86\xdd" + bytes(50)
for frame in (ipv4, ipv4, ipv6):
    count.run(frame)
print(packets[0x0800], packets[0x86DD])
# [end:run]

# [start:callback]
TOTAL: list[Instruction | Label] = [
    Function("total", 1),
    b.store_imm(b.R10, -8, 0),
    b.ld_map_fd(b.R1, "packets"),
    b.ld_function(b.R2, "add"),
    b.mov_reg(b.R3, b.R10),
    b.alu_imm(b.R3, "+=", -8),
    b.mov_imm(b.R4, 0),
    b.call("bpf_for_each_map_elem"),
    b.load_mem(b.R0, b.R10, -8),
    b.exit_(),
    Function("add", 4),  # the map, the key, the value, and what R3 was
    b.load_mem(b.R1, b.R3, 0),
    b.load_mem(b.R2, b.R4, 0),
    b.alu_reg(b.R2, "+=", b.R1),
    b.store_reg(b.R4, 0, b.R2),
    b.mov_imm(b.R0, 0),
    b.exit_(),
]
with rawbpf.Program.load("syscall", TOTAL, maps={"packets": packets}) as total:
    print(total.run(ctx=bytes(8)).retval)
# [end:callback]


# [start:generated]
def dropping(protocols: list[int]) -> list[Instruction | Label]:
    """Return a program that drops Ethernet frames of some protocols."""
    return [
        b.load_mem(b.R2, b.R1, 0, 4),
        b.load_mem(b.R3, b.R1, 4, 4),
        b.mov_reg(b.R4, b.R2),
        b.alu_imm(b.R4, "+=", 14),
        b.mov_imm(b.R0, 2),
        b.jump_reg(b.R4, ">", b.R3, "out"),
        b.load_mem(b.R2, b.R2, 12, 2),
        b.to_be(b.R2, 16),
        b.mov_imm(b.R0, 1),
        *(b.jump_imm(b.R2, "==", protocol, "out") for protocol in protocols),
        b.mov_imm(b.R0, 2),
        Label("out"),
        b.exit_(),
    ]


drop = rawbpf.Program.load("xdp", dropping([0x0806, 0x86DD]), name="dropping")
print(drop.run(ipv4).retval, drop.run(ipv6).retval)
# [end:generated]

# [start:listing]
print(drop.disassemble(), end="")
# [end:listing]

# [start:refused]
try:
    rawbpf.Program.load("xdp", "r0 = 1\nr0 = *(u8 *)(r2 +0)\nexit", name="wrong")
except rawbpf.VerifierError as error:
    print(error)
# [end:refused]

# [start:kernel]
LOCKED = """
    call kernel[bpf_rcu_read_lock]
    call kernel[bpf_rcu_read_unlock]
    r0 = 0
    exit
"""
with rawbpf.Program.load("syscall", LOCKED) as program:
    print(program.run(ctx=bytes(8)).retval)
# [end:kernel]

drop.close()
count.close()
packets.close()
