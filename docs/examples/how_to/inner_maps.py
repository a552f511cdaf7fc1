"""Load the object given, which compile.sh made of inner_maps.bpf.c, and give its program one table after the other."""

import sys

import rawbpf

# [start:exchange]
with rawbpf.load(sys.argv[1]) as obj:
    first_limit, current = obj.programs["first_limit"], obj.maps["current"]
    print("no table:", first_limit.run().retval)
    for limits in ([10, 20, 30, 40], [11, 21, 31, 41]):
        with rawbpf.Map.create("array", value="u64", max_entries=4, flags=0) as table:
            table.update(enumerate(limits))
            current[0] = table
        print("first limit:", first_limit.run().retval)
    # [end:exchange]
    # [start:open]
    with current.open(0) as table:
        print(table.id == current[0], list(table))
    # [end:open]
    # [start:refused]
    with rawbpf.Map.create("array", value="u32", max_entries=4) as table:
        try:
            current[0] = table
        except rawbpf.BpfError as error:
            print(error)
    # [end:refused]

# [start:create]
flags = 0x1000  # BPF_F_INNER_MAP: programs then check the index against the array that they found
with (
    rawbpf.Map.create("array", value="u64", max_entries=1, flags=flags) as template,
    rawbpf.Map.create("array", value="u64", max_entries=500, flags=flags) as table,
    rawbpf.Map.create("hash_of_maps", key="u32", max_entries=100, inner=template) as tables,
):
    tables[1000] = table
    print(list(tables), len(tables))
# [end:create]
