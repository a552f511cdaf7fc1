"""Reading and removing in one step."""

import rawbpf

# [start:remove]
with rawbpf.HashMap.create(key="u32", value="u64", max_entries=8) as m:
    m[1] = 5
    print(m.pop(1), m.get(1))
    m.update({1: 1, 2: 2, 3: 3})
    key, value = next(m.drain())
    print(len(m))
# [end:remove]
