"""What each error looks like to the program that handles it."""

import errno

import rawbpf

m = rawbpf.Map.create("hash", key="u32", value="u64", max_entries=2, name="counts")

# [start:keys]
try:
    print(m[1])
except KeyError:
    m[1] = 0
try:
    m.insert(1, 5)
except rawbpf.KeyExists as error:
    print("there already:", error.key)
print(m.get(2), m.pop(2, "nothing"))
# [end:keys]

# [start:batch]
try:
    m.update({10: 1, 11: 1, 12: 1})
except rawbpf.MapFull as error:
    print(error.applied, "of 3 stored;", error.hint)
# [end:batch]

# [start:attributes]
try:
    rawbpf.Map.create("array", value="u64", max_entries=8, flags=1)  # BPF_F_NO_PREALLOC
except rawbpf.BpfError as error:
    print(error)
    print(error.errno == errno.EINVAL, repr(error.cmd), error.subject)
# [end:attributes]

# [start:before]
for value in ("one", -1, None):
    try:
        m[1] = value
    except (TypeError, OverflowError) as error:
        print(type(error).__name__, "-", error)
try:
    rawbpf.Map.create("array", key="u64", value="u64", max_entries=8)
except ValueError as error:
    print(type(error).__name__, "-", error)
# [end:before]

m.close()
