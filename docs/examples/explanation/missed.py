"""How often a program was not run because its CPU was busy with another, or with a map."""

import rawbpf

# [start:misses]
with rawbpf.load("bpf/execcount.bpf.o") as obj:
    obj.attach()
    print(obj.programs["count_execve"].info.recursion_misses)
    print(obj.variables["dropped"].value)
# [end:misses]
