"""Keep values for files, sockets and cgroups, without a program."""

import os
import socket
import tempfile

import rawbpf
from rawbpf.uapi.constants import BPF_F_CLONE

# [start:file]
value = {"checked": "bool", "by": "char[16]"}
with rawbpf.InodeStorageMap.create(value=value) as notes, tempfile.NamedTemporaryFile() as file:
    notes[file] = (True, "scanner")
    os.link(file.name, file.name + "-2")
    print(notes[file.name + "-2"].by)
    os.unlink(file.name + "-2")
# [end:file]

# [start:socket]
with (
    rawbpf.SkStorageMap.create(value="u32", flags=BPF_F_CLONE) as budget,
    socket.create_server(("127.0.0.1", 0)) as server,
):
    budget[server] = 500
    with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        print(budget[accepted])
        budget[accepted] -= 1
        print(budget[accepted], budget[server])
# [end:socket]

# [start:pid]
with rawbpf.TaskStorageMap.create(value="u64") as m:
    try:
        m[1 << 22]
    except rawbpf.BpfError as error:
        print(error)
# [end:pid]
