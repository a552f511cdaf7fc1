"""How much kernel memory a map will take, before there is one."""

import rawbpf

# [start:estimate]
flow = {"source": "ipv4", "target": "ipv4", "port": "be16"}
counters = {"packets": "u64", "bytes": "u64"}
for kind in ("hash", "lru_hash"):
    size = rawbpf.Map.estimate_memory(kind, key=flow, value=counters, max_entries=100_000)
    print(f"{kind}: {size / 2**20:.1f} MiB")
# [end:estimate]

# [start:info]
with rawbpf.Map.create("hash", key=flow, value=counters, max_entries=100_000) as m:
    print(f"{(m.info.memory or 0) / 2**20:.1f} MiB")
# [end:info]

# [start:refused]
try:
    rawbpf.Map.create("array", value=4096, max_entries=2**31 - 1)
except rawbpf.BpfError as error:
    print(error)
# [end:refused]
