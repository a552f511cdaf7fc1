"""Maps as numpy arrays: copies of all elements, and the memory of an array itself."""

from ipaddress import IPv4Address

import rawbpf

FLOW = {"source": "ipv4", "port": "be16", "packets": "u64", "bytes": "u64"}

with rawbpf.HashMap.create(key="u32", value=FLOW, max_entries=1000, name="flows") as flows:
    flows.update({i: (f"10.0.{i % 4}.1", 443 if i % 3 else 53, i, 100 * i) for i in range(1, 301)})
    # [start:copy]
    ids, values = flows.to_numpy()
    print(values.dtype.names, values["port"].dtype)
    web = values["port"] == 443
    print(values["bytes"][web].sum())
    print(ids[values["packets"].argmax()])
    # [end:copy]
    # [start:address]
    print((values["source"] == int(IPv4Address("10.0.1.1"))).sum())
    # [end:address]

with rawbpf.ArrayMap.create(value={"packets": "u64", "bytes": "u64"}, max_entries=4, name="ports") as ports:
    # [start:live]
    live = ports.as_numpy()
    live["packets"] = [3, 1, 4, 1]
    live["bytes"] += live["packets"] * 1500
    print(ports[2])
    ports[0] = (9, 0)
    print(live["packets"].sum())
    # [end:live]
    del live

with rawbpf.PerCpuArrayMap.create(value="u64", max_entries=3, name="drops") as drops:
    drops[1] = rawbpf.PerCpu.filled(5)
    # [start:percpu]
    _, counts = drops.to_numpy()
    print(counts.ndim, (counts.max(axis=1)).tolist())
    # [end:percpu]
