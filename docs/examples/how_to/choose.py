"""Load the object given, which compile.sh made of choose.bpf.c, and let it choose between two sockets of a port."""

import socket
import sys

import rawbpf

# [start:choose]
even, odd = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
for worker in (even, odd):
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # before binding
even.bind(("127.0.0.1", 0))
odd.bind(even.getsockname())
with even, odd, socket.socket(type=socket.SOCK_DGRAM) as client, rawbpf.load(sys.argv[1]) as obj:
    obj.programs["by_first_byte"].attach_reuseport(even)  # one of them, for all
    obj.maps["workers"].update({0: even, 1: odd})
    for number in (7, 8, 9):
        client.sendto(bytes([number]), even.getsockname())
    print("odd", odd.recv(1)[0], odd.recv(1)[0])
    print("even", even.recv(1)[0])
# [end:choose]
