"""Load the object given, which compile.sh made of blocked.bpf.c: a filter spares most packets a look-up."""

import sys

import rawbpf

# [start:verbs]
with rawbpf.Map.create("bloom_filter", value="u32", max_entries=1000, map_extra=7) as seen:
    seen.add(1)
    seen.update(range(10, 20))
    print(1 in seen, 15 in seen)
# [end:verbs]

# [start:block]
with rawbpf.load(sys.argv[1]) as obj:
    for host in range(100):
        obj.maps["blocked"][host] = 0
        obj.maps["perhaps_blocked"].add(host)
    program = obj.programs["drop_blocked"]
    verdicts = [program.run(host.to_bytes(4, sys.byteorder) + bytes(60)).retval for host in range(1000)]
    print(verdicts.count(1), "dropped,", verdicts.count(2), "passed")
    print(obj.variables["looked_up"].value < 150)
# [end:block]
