"""Load the object given, which compile.sh made of ports.bpf.c: packets take ports out of a pool."""

import sys

import rawbpf

# [start:verbs]
with rawbpf.Map.create("queue", value="u32", max_entries=2) as queue:
    queue.push(1)
    queue.push(2)
    print(queue.peek(), queue.pop(), queue.pop(), queue.pop(None))
    for value in (3, 4, 5):
        queue.push(value, overwrite=True)
    print(list(queue.drain()))
# [end:verbs]

# [start:pool]
with rawbpf.load(sys.argv[1]) as obj:
    for port in (4000, 4001):
        obj.maps["free_ports"].push(port)
    verdicts = [obj.programs["take_port"].run(bytes(size)).retval for size in (64, 100, 200)]
    print(verdicts)
    for taken in obj.maps["in_use"].drain():
        print(f"port {taken.port} for a packet of {taken.length} bytes")
        obj.maps["free_ports"].push(taken.port)
# [end:pool]
