"""Load the object given, which compile.sh made of steady.bpf.c, and send something under its congestion control."""

import os
import socket
import sys
from typing import Any

import rawbpf

NAME = f"steady{os.getpid()}"


def send(size: int) -> None:
    """Send `size` bytes to oneself."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, NAME.encode())
        sender.connect(server.getsockname())
        receiver, _ = server.accept()
        with receiver:
            sender.sendall(bytes(size))
            receiver.recv(size, socket.MSG_WAITALL)


# [start:load]
spec = rawbpf.ObjectSpec.from_file(sys.argv[1])
table: Any = spec.variables["steady"].value
spec.variables["steady"].value = table._replace(name=NAME)
print(spec.maps["steady"].programs)
with spec.load() as obj:
    with obj.attach():
        send(1000)
        print(obj.maps["steady"][0].data.ssthresh == obj.programs["ssthresh"].id)
    print(obj.variables["acks"].value > 0)
# [end:load]
