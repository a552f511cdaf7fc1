"""Count executions per user, step by step; run it in the directory that has bpf/."""

import subprocess

import rawbpf

# [start:read]
spec = rawbpf.ObjectSpec.from_file("bpf/execcount.bpf.o")
print(spec)
# [end:read]

# [start:edit]
spec.variables["min_uid"].value = 12345
spec.maps["exec_count"].max_entries = 1000
# [end:edit]

# [start:load]
with spec.load() as obj:
    print(obj.maps["exec_count"])
    # [end:load]

    # [start:attach]
    links = obj.attach()
    print(links)
    # [end:attach]

    # [start:count]
    for _ in range(3):
        subprocess.run(["/bin/true"], user=12345, check=True)
    counts = obj.maps["exec_count"]
    print(counts[12345], "executions of user 12345")
    print(0 in counts, "- root is below min_uid")
    # [end:count]

    # [start:loop]
    for uid, count in counts.items():
        print(f"user {uid}: {count}")
    # [end:loop]

    # [start:variables]
    print("dropped:", obj.variables["dropped"].value)
    obj.variables["dropped"].value = 0
    try:
        obj.variables["min_uid"].value = 0
    except rawbpf.PermissionDenied as error:
        print(error)
    # [end:variables]

    # [start:stop]
    links.close()
    subprocess.run(["/bin/true"], user=12345, check=True)
    print(counts[12345], "executions of user 12345, and no more")
    # [end:stop]
