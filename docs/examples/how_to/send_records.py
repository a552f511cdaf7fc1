"""Load the object given, which compile.sh made of send_records.bpf.c, and send it requests."""

import sys
import threading
from array import array

import rawbpf

# [start:send]
REQUEST = {"user": "u32", "bytes": "u32"}

obj = rawbpf.load(sys.argv[1])
requests = obj.maps["requests"].producer(REQUEST)


def add_up() -> int:
    """Have the program take what is there; the number of records."""
    return obj.programs["add_up"].run(ctx=bytes(8)).retval


requests.post((1000, 500))
requests.post_many([{"user": 1000, "bytes": 70}, (0, 3)])
print(add_up(), sorted(obj.maps["totals"].items()))
# [end:send]

# [start:reserve]
with requests.record() as view:
    view.cast("I")[0] = 1000
    view.cast("I")[1] = 30
view = requests.reserve()
requests.post((0, 4))
print(add_up())
requests.discard(view)
print(add_up(), sorted(obj.maps["totals"].items()))
# [end:reserve]

# [start:memory]
requests.post_many(array("I", [1000, 1, 0, 2, 1000, 3]))
print(add_up(), sorted(obj.maps["totals"].items()))
# [end:memory]

# [start:full]
many = array("I", [0, 1] * 1000)
try:
    requests.post_many(many)
except rawbpf.MapFull as error:
    print(error)
    print(error.applied, requests.free)
# [end:full]

# [start:wait]
finished = threading.Event()


def keep_adding() -> None:
    """Take records until told to stop."""
    while add_up() or not finished.is_set():
        pass


program = threading.Thread(target=keep_adding)
program.start()
requests.post_many(many, timeout=1.0)
print(requests.wait(1.0, size=4000))
finished.set()
program.join()
print(sorted(obj.maps["totals"].items()))
# [end:wait]

requests.close()
obj.close()
