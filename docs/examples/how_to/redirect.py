"""Join two cables: what arrives at in1 leaves by out0, and the other way round. Load the object given."""

import socket
import sys

import rawbpf

with rawbpf.load(sys.argv[1]) as obj:
    count = obj.programs["count_sent"]
    out_of = obj.maps["out_of"]
    out_of[socket.if_nametoindex("in1")] = "out0", count
    out_of[socket.if_nametoindex("out0")] = "in1", count
    for interface in ("in1", "out0"):
        obj.programs["forward"].attach_xdp(interface, mode="skb")  # detached with the end of the block

    # Whoever is at the other ends now sees each other.
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as other,
    ):
        one.bind(("in0", 0))
        other.bind(("out1", 0x88B5))
        one.send(b"\xff" * 6 + b"\2" * 6 + b"\x88\xb5" + b"over two cables".ljust(46))
        print(other.recv(64)[14:].decode().rstrip())
    print(f"{obj.variables['sent'].value} sent by {count.name}")
    print("to", ", ".join(sorted(socket.if_indextoname(target.ifindex) for target in out_of.values())))
