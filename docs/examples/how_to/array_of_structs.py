"""An array of structs in its own memory: element by element, and one field of all."""

import rawbpf

with rawbpf.ArrayMap.create(value={"level": "u32", "seen": "u64"}, max_entries=4, name="tanks") as tanks:
    # [start:use]
    tanks[1] = {"level": 70, "seen": 12}
    print(tanks[1].level, tanks[1:3])
    # [end:use]
    # [start:column]
    rows = tanks.memory()
    column = tanks.value_type.column(rows, "level")
    column[3] = 40
    print(column.tolist(), tanks[3])
    # [end:column]
    del rows, column
