"""Drop what arrives by UDP at one port of this machine; load the object given, which compile.sh made."""

import socket
import sys

import rawbpf

PORT = 40001

with (
    rawbpf.load(sys.argv[1]) as obj,
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
):
    receiver.bind(("127.0.0.1", PORT))
    dropped = obj.maps["dropped"]
    with obj.programs["drop_ports"].attach_xdp("lo") as link:
        dropped[PORT] = 0
        sender.sendto(b"lost", ("127.0.0.1", PORT))
        sender.sendto(b"lost, too", ("127.0.0.1", PORT))
        print(f"{link.target}: {dropped.pop(PORT)} packets dropped")
        sender.sendto(b"let through", ("127.0.0.1", PORT))
        print(receiver.recv(64).decode())
    # The link is closed, and the program detached.
    sender.sendto(b"as before", ("127.0.0.1", PORT))
    print(receiver.recv(64).decode())
