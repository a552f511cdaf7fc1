"""Load the object given, which compile.sh made of tail_calls.bpf.c, and exchange what its first program jumps to."""

import sys

import rawbpf
from rawbpf.asm.build import exit_, mov_imm

packet = bytes(64)
with rawbpf.load(sys.argv[1]) as obj:
    # [start:store]
    enter, stages = obj.programs["enter"], obj.maps["stages"]
    print("empty slot:", enter.run(packet).retval)
    stages[0] = obj.programs["discard"]
    print("discard:", enter.run(packet).retval)
    stages[0] = obj.programs["bounce"]
    print("bounce:", enter.run(packet).retval)
    # [end:store]
    # [start:read]
    print(stages[0] == obj.programs["bounce"].id, list(stages), 1 in stages)
    with stages.open(0) as program:
        print(program.name)
    del stages[0]
    print(len(stages))
    # [end:read]
    # [start:refused]
    try:
        stages[0] = obj.programs["discard"].fileno()
    except TypeError as error:
        print(error)
    with rawbpf.Program.load("socket", [mov_imm(0, 0), exit_()], name="keep_none") as keep_none:
        try:
            stages[0] = keep_none
        except rawbpf.BpfError as error:
            print(error)
    # [end:refused]
