"""Structs of a whole map by field, without numpy."""

import rawbpf

FLOW = {"source": "ipv4", "port": "be16", "packets": "u64", "bytes": "u64"}

with rawbpf.HashMap.create(key="u32", value=FLOW, max_entries=1000, name="flows") as flows:
    flows.update({i: (f"10.0.{i % 4}.1", 443, i, 100 * i) for i in range(1, 301)})
    # [start:field]
    ids, rows = flows.columns()
    packets = flows.value_type.column(rows, "packets")
    print(packets.format, len(packets), sum(packets))
    most = max(packets)
    print(most, ids[packets.tolist().index(most)])
    # [end:field]
    # [start:records]
    total = 0
    for flow in flows.value_type.iter_unpack(rows):
        if flow.source.packed[2] == 1:
            total += flow.bytes
    print(total)
    # [end:records]
