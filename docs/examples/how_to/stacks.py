"""Load the object given, which compile.sh made of stacks.bpf.c, and show which way the kernel came to a tracepoint."""

import os
import sys

import rawbpf


def rename(times: int) -> None:
    """Give this thread another name, `times` times."""
    for i in range(times):
        with open("/proc/thread-self/comm", "w", encoding="ascii") as file:
            file.write(f"name {i}")


# [start:count]
spec = rawbpf.ObjectSpec.from_file(sys.argv[1])
spec.variables["only_pid"].value = os.getpid()
with spec.load() as obj:
    with obj.attach():
        rename(3)
    for stack_id, count in obj.maps["counts"].items():
        if stack_id < 0:
            print(count, "without a stack:", os.strerror(-stack_id))
            continue
        trace = obj.maps["stacks"][stack_id]
        path = [str(symbol or hex(address)) for address, symbol in zip(trace, trace.symbols(), strict=True)]
        print(count, "by way of", " < ".join(path))
# [end:count]
