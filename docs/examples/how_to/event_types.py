"""Load the object given, which compile.sh made of event_types.bpf.c: records of two types are read."""

import sys

import rawbpf

with rawbpf.load(sys.argv[1]) as obj:
    ring = obj.maps["events"]

    # [start:one]
    with ring.reader("started") as events:
        obj.programs["tell"].run(bytes(64))
        first = events.read()
        print(first.pid, first.comm)
    # [end:one]

    with ring.reader() as rest:
        rest.drain()

    # [start:tag]
    types = {"STARTED": "started", "ENDED": "ended"}
    with ring.reader(types, tag="kind") as events:
        obj.programs["tell"].run(bytes(64))
        for event in events.drain():
            print(event)
    # [end:tag]

    # [start:missing]
    try:
        ring.reader("strated")
    except rawbpf.SpecError as error:
        print(error)
    # [end:missing]

    # [start:described]
    started = {"kind": "u32", "pid": "s32", "comm": "char[16]"}
    with rawbpf.Map.from_id(ring.id) as again, again.reader(started) as events:
        obj.programs["tell"].run(bytes(64))
        print(events.read())
    # [end:described]
