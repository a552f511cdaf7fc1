"""Open the maps that share_by_pin.py has pinned in the directory given, and remove the pins."""

import os
import sys

import rawbpf

directory = sys.argv[1] if sys.argv[1:] else "/sys/fs/bpf"

# [start:open]
with rawbpf.Map.from_pin(os.path.join(directory, "shared")) as m:
    print(m[1000].count, m[1000].comm)
    m[1000] = m[1000]._replace(count=4)
# [end:open]

# [start:readonly]
with rawbpf.Map.from_pin(os.path.join(directory, "shared"), mode="r") as m:
    print(m[1000])
    try:
        del m[1000]
    except rawbpf.PermissionDenied as error:
        print(error)
# [end:readonly]

# [start:unpin]
for name in ("shared", "pinned_at_once"):
    with rawbpf.Map.from_pin(os.path.join(directory, name)) as m:
        m.unpin()
# [end:unpin]
