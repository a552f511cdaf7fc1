"""Where maps are not like dict and list."""

import rawbpf

with rawbpf.using(rawbpf.sim.Simulator(cpus=2)):
    # [start:hash]
    m = rawbpf.HashMap.create(key="u32", value="char[8]", max_entries=2)
    m.update({1: "one", 2: "two"})
    m[1] = "uno"
    print(bool(m), len(m), sorted(m.items()))
    try:
        m[3] = "three"
    except rawbpf.MapFull as error:
        print(error)
    try:
        m[1] = "much too long"
    except ValueError as error:
        print(error)
    # [end:hash]

    # [start:copies]
    points = rawbpf.HashMap.create(key="u32", value={"x": "s32", "y": "s32"}, max_entries=2)
    points[1] = {"x": 1, "y": 2}
    point = points[1]
    print(point, point._replace(x=5), points[1])
    points[1] = points[1]._replace(x=5)
    print(points[1])
    # [end:copies]

    # [start:array]
    a = rawbpf.ArrayMap.create(value="u64", max_entries=4)
    a[0], a[-1] = 7, 9
    print(list(a), a[1:3], len(a), 9 in a)
    try:
        a[4] = 1
    except IndexError as error:
        print(error)
    print(hasattr(a, "append"), hasattr(a, "pop"))
    # [end:array]

    # [start:queue]
    q = rawbpf.QueueMap.create(value="u32", max_entries=2)
    q.push(1)
    q.push(2)
    q.push(3, overwrite=True)
    print(q.pop(), q.pop())
    # [end:queue]

    for each in (m, points, a, q):
        each.close()
