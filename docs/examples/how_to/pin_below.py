"""Pin a map in a directory that is known by its descriptor alone."""

import os
import sys

import rawbpf

path = sys.argv[1] if sys.argv[1:] else "/sys/fs/bpf"

# [start:below]
directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
with rawbpf.Map.create("array", value="u64", max_entries=8) as m:
    m.pin("below", dir_fd=directory)
    m[0] = 5
    with rawbpf.Map.from_pin("below", mode="r", dir_fd=directory) as again:
        print(again[0])
    m.unpin()
os.close(directory)
# [end:below]
