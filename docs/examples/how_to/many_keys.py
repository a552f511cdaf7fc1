"""Ask for many keys in one call, and ask the kernel what else needs all elements."""

import rawbpf

# [start:many]
with rawbpf.HashMap.create(key="u32", value="u64", max_entries=10_000, name="calls") as m:
    m.put_many({pid: pid * 10 for pid in range(5000)})
    print(m.get_many([17, 4711, 123456]))
    print(m.get_many([123456, 17], default=0))
    print(m.delete_many(range(4000, 6000)))
    print(m.pop_many([1, 2, 123456]))
    # [end:many]
    # [start:whole]
    print(m.count(), m.sum(), m.min(), m.max())
    print(m.top(2))
    print(sorted(m.filter("<", 60).items()))
    pids, calls = m.columns()
    print(len(pids), sum(calls) == m.sum())
    # [end:whole]

# [start:fields]
stats = {"calls": "u64", "bytes": "u64"}
with rawbpf.HashMap.create(key="u32", value=stats, max_entries=10_000, name="stats") as m:
    m.put_many((pid, {"calls": pid, "bytes": 100 - pid}) for pid in range(100))
    print(m.sum("calls"), m.max("bytes"))
    print(sorted(m.filter(">=", 98, field="calls")))
    print(m.top(1, by="bytes"))
# [end:fields]

# [start:path]
with rawbpf.LruHashMap.create(key="u32", value="u64", max_entries=10_000) as m:
    for line in m.many_path.split("; "):
        print(line)
# [end:path]
