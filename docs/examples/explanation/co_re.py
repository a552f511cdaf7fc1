"""Show what CO-RE makes of the object given, which compile.sh made of co_re.bpf.c."""

import sys

import rawbpf
from rawbpf.btf import Btf, Builder

path = sys.argv[1]

# [start:relocate]
spec = rawbpf.ObjectSpec.from_file(path)
compiled = spec.programs["process"].instructions
loaded = rawbpf.relocate(spec)["process"]
for before, after in zip(compiled, loaded, strict=True):
    if before.core:
        print(f"{before}   ->   {after}")
# [end:relocate]

print()
# [start:target]
types = Builder()
number = types.int("int", 4, signed=True)
types.struct("task_struct", 48, [("color", number, 320), ("tgid", number, 352)])
other = Btf.from_bytes(types.to_bytes())

for before, after in zip(compiled, rawbpf.relocate(spec, target_btf=other)["process"], strict=True):
    if before.core:
        print(f"{before}   ->   {after}")
# [end:target]

print()
# [start:missing]
try:
    spec.load(only=["unguarded"])
except rawbpf.VerifierError as error:
    print(error)
# [end:missing]
