"""Load the object given, which compile.sh made of per_task.bpf.c, and show how many system calls tasks make."""

import os
import subprocess
import sys

import rawbpf

# [start:read]
with rawbpf.load(sys.argv[1]) as obj, obj.attach():
    calls = obj.maps["calls"]
    me = os.pidfd_open(os.getpid())
    before = calls[me].count
    for _ in range(1000):
        os.getppid()
    print(calls[me].count - before >= 1000)
    # [end:read]

    # [start:ended]
    child = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE)
    its = os.pidfd_open(child.pid)
    print(its in calls)
    child.communicate(b"\n")
    print(its in calls)
    # [end:ended]
    os.close(me)
    os.close(its)
