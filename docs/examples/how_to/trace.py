"""See the bpf(2) calls of a piece of code, and count them."""

import sys
from collections import Counter

import rawbpf
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.syscall.trace import TraceBackend
from rawbpf.uapi.constants import BPF_MAP_UPDATE_BATCH, BPF_MAP_UPDATE_ELEM

# [start:print]
tracer = TraceBackend(KernelBackend(), sink=lambda call: sys.stdout.write(f"{call}\n"))
with rawbpf.using(tracer), rawbpf.Map.create("array", value=8, max_entries=2, name="traced") as m:
    m[0] = bytes(8)
# [end:print]

# [start:count]
calls: Counter[int] = Counter()
counter = TraceBackend(KernelBackend(), sink=lambda call: calls.update([call.cmd]))
with rawbpf.HashMap.create(key="u32", value="u64", max_entries=1000, backend=counter) as m:
    m.update({key: key * 2 for key in range(1000)})
print(calls[BPF_MAP_UPDATE_BATCH], calls[BPF_MAP_UPDATE_ELEM])
# [end:count]
