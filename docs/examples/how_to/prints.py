"""Load the object given, which compile.sh made of prints.bpf.c, and read what it prints."""

import sys

import rawbpf
from rawbpf.uapi.constants import BPF_STDERR

# [start:trace]
with rawbpf.load(sys.argv[1]) as obj, rawbpf.trace_pipe() as trace:
    obj.programs["say"].run(bytes(64))
    for line in trace:
        if line.function == "bpf_trace_printk" and line.message.startswith("a packet"):
            break
    print(line)
    print(line.message)
# [end:trace]


# [start:streams]
def show(program: rawbpf.Program) -> None:
    """Show what a program printed since the last time, and what the kernel has against it."""
    for line in program.stdout:
        print("printed:", line)
    if trouble := program.stderr.read():
        print("from the kernel:", trouble)


# [end:streams]

# [start:simulated]
with (
    rawbpf.sim.Simulator() as sim,
    rawbpf.using(sim),
    rawbpf.Program.load("xdp", "r0 = 2\nexit") as program,
):
    sim.print(program.fileno(), b"one packet\nand another\n")
    sim.print(program.fileno(), b"too many packets", BPF_STDERR)
    show(program)
    show(program)
# [end:simulated]
