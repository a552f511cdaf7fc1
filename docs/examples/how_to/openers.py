"""Load the object given, which compile.sh made of openers.bpf.c, and show who opened files."""

import os
import sys

import rawbpf

spec = rawbpf.ObjectSpec.from_file(sys.argv[1])
spec.variables["only_uid"].value = os.getuid()
with spec.load() as obj:
    with obj.attach():
        for _ in range(3):
            open("/dev/null").close()
    opener = obj.maps["openers"][os.getpid()]
    print(f"{opener.comm} opened {opener.count} files, the last at {rawbpf.clock.wall(opener.last_ns):%H:%M:%S}")
