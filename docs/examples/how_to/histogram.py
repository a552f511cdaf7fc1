"""Histograms of maps, whose slots and counts a program would write."""

import rawbpf

sizes = rawbpf.ArrayMap.create(value="u64", max_entries=65)
sizes.update({4: 10, 5: 25, 7: 5})
waits = rawbpf.HashMap.create(key={"comm": "char[16]", "slot": "u32"}, value="u64", max_entries=1024)
waits.update({("sshd", 4): 3, ("sshd", 5): 9, ("cron", 3): 1})

# [start:log2]
h = rawbpf.Histogram.log2(sizes)
print(h.text("bytes"))
# [end:log2]

# [start:numbers]
print(h.count, "sizes, on average about", round(h.mean))
print("half of them are at most", h.percentile(50)[1])
for low, high, count in h.buckets[3:]:
    print(f"{low} to {high}: {count}")
# [end:numbers]

# [start:sections]
by_name = rawbpf.Histogram.log2(waits)
print(by_name.text("usecs"))
print(by_name.sections["sshd"].percentile(99))
# [end:sections]

# [start:interval]
before = rawbpf.Histogram.log2(waits)
waits["cron", 6] = 4
print((rawbpf.Histogram.log2(waits) - before).text("usecs", strip_leading_zero=True))
# [end:interval]

# [start:svg]
picture = h.svg(title="Sizes of reads", unit="bytes")
print(picture.splitlines()[1])
# [end:svg]

# [start:linear]
print(rawbpf.Histogram.linear_of([12, 47, 49, 55], step=10).text("ms"))
# [end:linear]

sizes.close()
waits.close()
waits = rawbpf.HashMap.create(key="u32", value={"slots": "u32[8]", "comm": "char[16]"}, max_entries=16)
waits[7] = ([0, 0, 2, 1, 0, 0, 0, 0], "sshd")

# [start:lists]
pairs = [((each.comm, slot), count) for each in waits.values() for slot, count in enumerate(each.slots)]
print(rawbpf.Histogram.log2(pairs, first=0).text("usecs", label="comm"))
# [end:lists]

waits.close()
