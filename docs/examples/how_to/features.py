"""What the running kernel supports."""

from rawbpf import features

# --8<-- [start:ask]
if features.map_type("ringbuf"):
    print("ring buffers")
if features.prog_type("tracing"):
    print("programs on functions, by BTF")
if features.helper("tracepoint", "get_current_uid_gid"):
    print("the uid in tracepoints")
# --8<-- [end:ask]

# --8<-- [start:answer]
answer = features.helper("xdp", "get_stackid")
print(answer.answer.value, "-", answer.reason)
# --8<-- [end:answer]

# --8<-- [start:unknown]
try:
    features.map_type("hashmap")
except ValueError as error:
    print(error)
# --8<-- [end:unknown]
