"""Load the object given, which compile.sh made of sizes.bpf.c: an array of the program's own, in its memory."""

import sys

import rawbpf

# [start:live]
with rawbpf.load(sys.argv[1]) as obj:
    sizes = obj.variables["sizes"].memory()
    for length in (60, 60, 1500):
        obj.programs["count_size"].run(data=bytes(length))
    print(sizes[0], sizes.tolist().index(1))
    sizes[0] = 0
    print(sum(obj.variables["sizes"].value))
# [end:live]
