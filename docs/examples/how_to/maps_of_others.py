"""Find and read maps that other programs made."""

import rawbpf

# Stands for the other program here.
theirs = rawbpf.Map.create("hash", key="u32", value={"hits": "u64", "misses": "u64"}, max_entries=16, name="their_map")
theirs[7] = (10, 2)
map_id = theirs.id

# --8<-- [start:list]
for info in rawbpf.maps(type="hash", name="their_map"):
    print(info)
# --8<-- [end:list]

# --8<-- [start:name]
with rawbpf.Map.from_name("their_map") as m:
    print(m[7].hits, m[7].misses)
# --8<-- [end:name]

# --8<-- [start:id]
with rawbpf.Map.from_id(map_id) as m:
    print(m.snapshot())
    print(m.raw.snapshot())
# --8<-- [end:id]

# --8<-- [start:missing]
theirs.close()
try:
    rawbpf.Map.from_name("no_such_map")
except rawbpf.BpfError as error:
    print(error)
# --8<-- [end:missing]
