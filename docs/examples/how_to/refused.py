"""Load the object given, which compile.sh made of refused.bpf.c, and look at the refusal."""

import sys

import rawbpf

path = sys.argv[1]

# [start:load]
try:
    rawbpf.load(path)
except rawbpf.VerifierError as error:
    print(error)
    # [end:load]
    print()
    # [start:fields]
    print(error.summary)
    print(error.instruction)
    print(error.source_line)
    print(len(error.log.splitlines()), "lines of log")
    # [end:fields]
