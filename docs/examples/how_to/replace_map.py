"""An object that counts into a map of the caller's."""

import rawbpf

# [start:replace]
with rawbpf.Map.create("hash", key="u32", value="u64", max_entries=10240, name="both") as counts:
    with rawbpf.load("bpf/execcount.bpf.o", maps={"exec_count": counts}) as obj:
        print(obj.maps["exec_count"].same_as(counts))
    print(counts.closed)
# [end:replace]
