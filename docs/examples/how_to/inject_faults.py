"""Let bpf(2) calls fail, to test what a program does then."""

import errno

import rawbpf
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi.constants import BPF_MAP_UPDATE_ELEM

# [start:fault]
faulty = FaultBackend(KernelBackend(), {BPF_MAP_UPDATE_ELEM: [(2, errno.ENOMEM)]})  # the second update
with rawbpf.using(faulty), rawbpf.HashMap.create(key="u32", value="u64", max_entries=8, name="frail") as m:
    m[1] = 1
    try:
        m[2] = 2
    except rawbpf.BpfError as error:
        print(error)
    m[3] = 3
    print(sorted(m))
print(faulty.calls[BPF_MAP_UPDATE_ELEM], "updates were tried")
# [end:fault]
