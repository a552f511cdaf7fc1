"""An array that is read and written in its own memory."""

import rawbpf

with rawbpf.ArrayMap.create(value="u64", max_entries=4, name="levels") as levels:
    # [start:use]
    levels[0] = 10
    levels[-1] = 40
    print(levels[0], levels[1:], sum(levels))
    # [end:use]
    # [start:memory]
    view = levels.memory()
    for i in range(len(view)):
        view[i] += 1
    print(view.tolist(), levels[3])
    # [end:memory]
    # [start:freeze]
    try:
        levels.freeze()
    except rawbpf.BpfError as error:
        print(error)
    del view
    levels.freeze()
    print(levels[0])
    # [end:freeze]
