"""What the verifier says of a program that it accepts."""

import rawbpf

# [start:log]
with rawbpf.load("bpf/execcount.bpf.o", log_level=1) as obj:
    program = obj.programs["count_execve"]
    print(program.log.splitlines()[-1])
    print(program.info.verified_insns, "instructions verified,", program.info.xlated_size, "bytes")
# [end:log]
