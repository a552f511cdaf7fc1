"""What the running kernel supports."""

from rawbpf import features

# [start:ask]
if features.map_type("ringbuf"):
    print("ring buffers")
if features.prog_type("tracing"):
    print("programs on functions, by BTF")
if features.helper("tracepoint", "get_current_uid_gid"):
    print("the uid in tracepoints")
if features.btf_feature("enum64"):
    print("enumerations of 64 bits in BTF")
# [end:ask]

# [start:answer]
answer = features.helper("xdp", "get_stackid")
print(answer.answer.value, "-", answer.reason)
# [end:answer]

# [start:unknown]
try:
    features.map_type("hashmap")
except ValueError as error:
    print(error)
# [end:unknown]
