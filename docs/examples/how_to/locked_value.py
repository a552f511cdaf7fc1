"""Fields that change together: a value with a lock."""

import rawbpf
from rawbpf.uapi.constants import BPF_F_LOCK

# [start:lock]
with rawbpf.Map.create(
    "hash", key="u32", value={"lock": "bpf_spin_lock", "packets": "u64", "bytes": "u64"}, max_entries=64
) as m:
    m.put(7, {"packets": 1, "bytes": 1500}, BPF_F_LOCK)
    print(m.lookup(7, BPF_F_LOCK))
    print(m.value_type.explain())
# [end:lock]
