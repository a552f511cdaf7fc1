"""Events of a ring buffer: one by one, many at once, and what happens when there is no room."""

import asyncio
import struct

import rawbpf

EVENT = {"pid": "u32", "size": "u32", "comm": "char[8]"}
PROGRAM = """
  r2 = r1
  r1 = map[events]
  r3 = *(u64 *)(r2 +0)
  *(u64 *)(r10 -16) = r3
  r3 = *(u64 *)(r2 +8)
  *(u64 *)(r10 -8) = r3
  r2 = r10
  r2 += -16
  r3 = 16
  r4 = 0
  call bpf_ringbuf_output
  if r0 == 0 goto out
  r1 = map[dropped]+0
  r2 = 1
  lock *(u64 *)(r1 +0) += r2
out:
  exit
"""

ring = rawbpf.RingBufMap.create(max_entries=4096, name="events")
dropped = rawbpf.ArrayMap.create(value="u64", max_entries=1, name="dropped")
program = rawbpf.Program.load("syscall", PROGRAM, maps={"events": ring, "dropped": dropped})


def happen(*pids: int) -> None:
    """Have the program write an event for each of `pids`."""
    for pid in pids:
        program.run(ctx=struct.pack("=II8s", pid, 100 * pid, b"sh"))


happen(1, 2, 3)
# [start:loop]
with ring.reader(EVENT) as events:
    for event in events:  # waits for the next one
        print(event.pid, event.comm, event.size)
        if event.pid == 3:
            break
# [end:loop]

happen(4, 5, 6, 7)
# [start:ways]
with ring.reader(EVENT) as events:
    print(events.read(timeout=1.0))
    print(events.drain(max=2))
    with events.lease(timeout=1.0) as memory:
        if memory is not None:
            print(bytes(memory[8:10]))
    print(events.read(timeout=0))
# [end:ways]

happen(8, 9)
# [start:callback]
with ring.reader(EVENT, callback=lambda event: print("called with", event.pid)) as events:
    print(events.poll(timeout=1.0))
# [end:callback]

happen(*range(10, 20))
# [start:batches]
with ring.reader(EVENT) as events:
    for batch in events.batches(timeout=0):
        sizes = batch.column("size")
        print(len(batch), sizes.format, sum(sizes), max(sizes))
        print(batch.records()[0], batch.bytes()[0][8:10])
# [end:batches]

happen(20, 21)


# [start:asyncio]
async def watch() -> None:
    """Print events until the last one."""
    with ring.reader(EVENT) as events:
        async for event in events:
            print(event.pid)
            if event.pid == 21:
                return


asyncio.run(watch())
# [end:asyncio]

alarms = rawbpf.RingBufMap.create(max_entries=4096, name="alarms")
# [start:several]
with ring.reader(EVENT).add(alarms, "u32") as events:
    print(events.drain())
# [end:several]
alarms.close()

happen(*range(200))
# [start:stats]
with ring.reader(EVENT) as events:
    print(len(events.drain()), events.stats.high_water, "of", ring.max_entries, "bytes")
    print(dropped[0], "found no room")
# [end:stats]

program.close()
dropped.close()
ring.close()
