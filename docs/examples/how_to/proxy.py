"""Load the object given, which compile.sh made of proxy.bpf.c, and let the kernel join two connections."""

import socket
import sys

import rawbpf

# [start:forward]
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h


def cookie(connection: socket.socket) -> int:
    """Return the kernel's number of a socket."""
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


def connected() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return socket.create_connection(listener.getsockname()), listener.accept()[0]


(client, inlet), (outlet, server) = connected(), connected()
with client, inlet, outlet, server, rawbpf.load(sys.argv[1]) as obj:
    outlets = obj.maps["outlets"]
    link = obj.programs["forward"].attach_sockmap(outlets)
    outlets[cookie(inlet)] = outlet  # what inlet receives goes out of outlet
    outlets[cookie(outlet)] = inlet  # and the other way round
    client.sendall(b"question")
    print(server.recv(100))
    server.sendall(b"answer")
    print(client.recv(100))
    print(link.info.kind, len(outlets), outlets[cookie(inlet)] == cookie(outlet))
    # [end:forward]
    # [start:closed]
    outlet.close()
    print(len(outlets))
    with socket.socket() as unconnected:
        try:
            outlets[1] = unconnected
        except rawbpf.NotSupported as error:
            print(error)
    # [end:closed]
