"""Read what a program writes to a perf event array: all of it, what found no room, and the newest alone."""

import os
import sys

import rawbpf

# What programs write lies in the buffer of the CPU that they run on.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

# [start:program]
WRITE = """
    r2 = *(u32 *)(r1 +0)            // xdp_md.data
    r3 = *(u32 *)(r1 +4)            // xdp_md.data_end
    r4 = r2
    r4 += 8
    if r4 > r3 goto out
    r2 = *(u64 *)(r2 +0)
    *(u64 *)(r10 -8) = r2
    r2 = map[events]
    w3 = -1                         // BPF_F_CURRENT_CPU
    r4 = r10
    r4 += -8
    r5 = 8
    call bpf_perf_event_output
out:
    r0 = 2                          // XDP_PASS
    exit
"""
events = rawbpf.PerfEventArrayMap.create(name="events")
program = rawbpf.Program.load("xdp", WRITE, maps={"events": events})
# [end:program]


def write(number: int) -> None:
    """Have the program write a number of 8 bytes."""
    program.run(number.to_bytes(8, sys.byteorder) + bytes(56))


# [start:read]
with events.reader("u64") as reader:
    for n in range(4):
        write(n)
    print(reader.read(), reader.drain(), reader.read(timeout=0.1))
# [end:read]

# [start:cpu]
with events.reader("u64") as reader:
    write(4)
    for event in reader:
        print(event, "from CPU", reader.cpu)
        break
# [end:cpu]

# [start:bytes]
with events.reader() as reader:
    write(5)
    record = reader.read()
    if record is not None:
        print(len(record), int.from_bytes(record[:8], sys.byteorder))
# [end:bytes]


# [start:lost]
def missed(cpu: int, count: int) -> None:
    """Say what found no room."""
    print("CPU", cpu, "lost", count, "records")


with events.reader("u64", size_per_cpu=4096, on_lost=missed) as reader:
    for n in range(1000):
        write(n)
    print(len(reader.drain()), reader.stats.lost)
    write(1000)
    print(reader.drain(), reader.stats.lost)
# [end:lost]

# [start:newest]
with events.reader("u64", size_per_cpu=4096, overwrite=True) as recorder:
    for n in range(1000):
        write(n)
    newest = recorder.drain()
    print(len(newest), "from", newest[0], "to", newest[-1])
# [end:newest]

program.close()
events.close()
