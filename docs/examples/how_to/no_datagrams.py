"""Let no process in a cgroup make datagram sockets: load the object given and attach it to the cgroup given."""

import subprocess
import sys

import rawbpf

CHILD = """
import socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        socket.socket(socket.AF_INET, kind).close()
        print(kind.name, "made")
    except OSError as error:
        print(kind.name, error.strerror)
"""

cgroup = sys.argv[2]
with rawbpf.load(sys.argv[1]) as obj, obj.programs["no_datagrams"].attach_cgroup(cgroup):
    subprocess.run([sys.executable, "-c", CHILD, cgroup], check=True)
