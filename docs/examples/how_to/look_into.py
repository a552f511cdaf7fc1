"""Look into an object, edit it, and save it; run it in the directory that has bpf/."""

import os
import tempfile

import rawbpf

# [start:look]
spec = rawbpf.ObjectSpec.from_file("bpf/execcount.bpf.o")
print(spec)
# [end:look]

# [start:code]
listing = spec.programs["count_execve"].disassemble(spec.functions)
print(*listing.splitlines()[:7], sep="\n")
# [end:code]

with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    # [start:save]
    spec.variables["min_uid"].value = 1000
    spec.maps["exec_count"].max_entries = 100
    spec.programs["count_execve"].autoload = False
    spec.save("people.bpf.o")
    print(rawbpf.ObjectSpec.from_file("people.bpf.o"))
    # [end:save]

    # [start:refused]
    del spec.maps[".bss"]
    try:
        spec.save("people.bpf.o")
    except rawbpf.SpecError as error:
        print(error)
    # [end:refused]
