"""A congestion control of TCP made of three programs: a window that never changes."""

import os
import socket
from pathlib import Path

import rawbpf
from rawbpf.asm import build as b

NAME = f"steady{os.getpid()}"

# [start:load]
table = rawbpf.Map.create("struct_ops", value="tcp_congestion_ops")
ten = [b.mov_imm(b.R0, 10), b.exit_()]
ssthresh = rawbpf.Program.load("struct_ops", ten, **table.target("ssthresh"))
undo_cwnd = rawbpf.Program.load("struct_ops", ten, **table.target("undo_cwnd"))
cong_avoid = rawbpf.Program.load("struct_ops", ten, **table.target("cong_avoid"))
# [end:load]

available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
# [start:register]
table[0] = {"name": NAME, "ssthresh": ssthresh, "undo_cwnd": undo_cwnd, "cong_avoid": cong_avoid}
try:
    print(NAME in available.read_text().split(), table.state.name)
    print(table[0].data.ssthresh == ssthresh.id, table[0].data.set_state)
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, NAME.encode())
finally:
    del table[0]
print(NAME in available.read_text().split(), table.state.name)
# [end:register]

for each in (ssthresh, undo_cwnd, cong_avoid, table):
    each.close()
