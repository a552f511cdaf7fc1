"""Types of the kernel and of an object, written as C and as Python."""

import rawbpf

# [start:kernel]
print(rawbpf.btf.vmlinux().to_c(["pid_t", "list_head"]), end="")
# [end:kernel]

# [start:object]
types = rawbpf.ObjectSpec.from_file("bpf/exec_events.bpf.o").btf
assert types is not None
print(types.to_python("exec_event"), end="")
# [end:object]

# [start:map]
space: dict[str, type] = {}
exec(types.to_python("exec_event"), space)
with rawbpf.Map.create("hash", key="u32", value=space["exec_event"], max_entries=16) as recent:
    recent[1] = {"pid": 7, "ppid": 1, "uid": 0, "comm": "sh", "filename": "/bin/sh"}
    print(recent[1].comm)
# [end:map]
