"""Make a map, and pin it in the directory given; it outlives this process."""

import os
import sys

import rawbpf

directory = sys.argv[1] if sys.argv[1:] else "/sys/fs/bpf"

# [start:pin]
with rawbpf.Map.create("hash", key="u32", value={"count": "u64", "comm": "char[16]"}, max_entries=64) as m:
    m[1000] = {"count": 3, "comm": "bash"}
    m.pin(os.path.join(directory, "shared"))
# [end:pin]

# [start:create]
path = os.path.join(directory, "pinned_at_once")
with rawbpf.Map.create("array", value="u64", max_entries=8, name="made", pin=path):
    pass
# [end:create]
