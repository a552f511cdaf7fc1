"""Link the objects given, which compile.sh made of link_main.bpf.c and link_count.bpf.c, and load the result."""

import sys

import rawbpf

# [start:load]
spec = rawbpf.ObjectSpec.link(sys.argv[1:], name="counting")
print(*spec.programs, *spec.variables)
with spec.load() as obj:
    print([obj.programs["count"].run(data=bytes(64)).retval for _ in range(3)], obj.variables["total"].value)
# [end:load]
