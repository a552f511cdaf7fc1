"""Load the object given, which compile.sh made of kernel_facts.bpf.c: what the kernel has, and a value of one's own."""

import os
import sys

import rawbpf

# [start:load]
spec = rawbpf.ObjectSpec.from_file(sys.argv[1])
print(spec.variables["CONFIG_HZ"].value)  # not known yet
spec.variables["CONFIG_HZ"].value = 250  # counts, whatever this kernel was built with
with spec.load() as obj:
    major = obj.programs["facts"].run(data=bytes(64)).retval
    print(major == int(os.uname().release.split(".")[0]), obj.variables["ms_per_tick"].value)
    print(rawbpf.ksym(obj.variables["exit_address"].value))
# [end:load]
