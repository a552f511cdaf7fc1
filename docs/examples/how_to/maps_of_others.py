"""Find and read maps that other programs made."""

import rawbpf

# Stands for the other program here.
theirs = rawbpf.Map.create("hash", key="u32", value={"hits": "u64", "misses": "u64"}, max_entries=16, name="their_map")
theirs[7] = (10, 2)
map_id = theirs.id

# [start:list]
for info in rawbpf.maps(type="hash", name="their_map"):
    print(info)
# [end:list]

# [start:name]
with rawbpf.Map.from_name("their_map") as m:
    print(m[7].hits, m[7].misses)
# [end:name]

# [start:id]
with rawbpf.Map.from_id(map_id) as m:
    print(m.snapshot())
    print(m.raw.snapshot())
# [end:id]

# [start:typed]
with rawbpf.Map.from_id(map_id, key="u32", value={"found": "u64", "not_found": "u64"}) as m:
    print(m[7].found)
try:
    rawbpf.Map.from_id(map_id, key="u64", value={"found": "u64", "ratio": "f64"})
except rawbpf.SpecError as error:
    print(error)
# [end:typed]

# [start:missing]
theirs.close()
try:
    rawbpf.Map.from_name("no_such_map")
except rawbpf.BpfError as error:
    print(error)
# [end:missing]
