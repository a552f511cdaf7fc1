"""Let bpf(2) calls fail, to test what a program does then."""

import errno

import rawbpf
from rawbpf.testing import faults

# [start:fault]
with (
    faults({"map_update_elem": [(2, errno.ENOMEM)]}) as failing,  # the second update
    rawbpf.HashMap.create(key="u32", value="u64", max_entries=8, name="frail") as m,
):
    m[1] = 1
    try:
        m[2] = 2
    except rawbpf.BpfError as error:
        print(error)
    m[3] = 3
    print(sorted(m))
print(failing.calls["map_update_elem"], "updates were tried")
# [end:fault]

# [start:unused]
with (
    faults({"map_update_elem": [(2, errno.ENOMEM), (9, errno.EIO)]}) as failing,
    rawbpf.HashMap.create(key="u32", value="u64", max_entries=8) as m,
):
    for key in range(3):
        try:
            m[key] = 1
        except rawbpf.BpfError:
            print(key, "was refused")
print(failing.unused)
# [end:unused]

# [start:always]
with (
    faults({"map_update_batch": rawbpf.errors.ENOTSUPP}),  # each, as on a kernel before 5.6
    rawbpf.HashMap.create(key="u32", value="u64", max_entries=8) as m,
):
    m.update({1: 1, 2: 2, 3: 3})
    print(len(m))
# [end:always]
