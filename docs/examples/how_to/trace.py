"""See the bpf(2) calls of a piece of code, and count them."""

import sys

import rawbpf
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.syscall.trace import TraceBackend
from rawbpf.testing import trace

# [start:print]
tracer = TraceBackend(KernelBackend(), sink=lambda call: sys.stdout.write(f"{call}\n"))
with rawbpf.using(tracer), rawbpf.Map.create("hash", key=4, value=8, max_entries=2, name="traced") as m:
    m[bytes(4)] = bytes(8)
# [end:print]

# [start:count]
with trace() as calls, rawbpf.HashMap.create(key="u32", value="u64", max_entries=100) as m:
    m.update({key: key * 2 for key in range(100)})
print(calls.count("map_update_batch"), calls.count("map_update_elem"))
print(calls.counts())
# [end:count]
