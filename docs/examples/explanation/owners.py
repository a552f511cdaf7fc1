"""Who closes what."""

import rawbpf

# [start:take]
with rawbpf.load("bpf/execcount.bpf.o") as obj:
    counts = obj.take("exec_count")
print(counts.closed, len(counts))
counts.close()
# [end:take]

# [start:duplicate]
with rawbpf.HashMap.create(key="u32", value="u64", max_entries=8) as first:
    with rawbpf.Map.from_fd(first.fileno()) as second:
        second[1] = 1
    print(second.closed, first[1], first.same_as(first))
# [end:duplicate]
