"""Connected pairs of sockets, and what shows that bytes went another way than the sender meant."""

from __future__ import annotations

import socket
import sys

DEADLINE = 10.0
"""Seconds after which what has not arrived is lost."""

_SO_COOKIE = 57


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return _limited(near, far)


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a Unix connection."""
    return _limited(*socket.socketpair())


def udp(port: int = 0, *, shared: bool = True) -> socket.socket:
    """Return a UDP socket bound to loopback, with SO_REUSEPORT if `shared`."""
    made = socket.socket(type=socket.SOCK_DGRAM)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.settimeout(DEADLINE)
    return made


def cookie(of: socket.socket) -> int:
    """Return the kernel's number of a socket."""
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)


def nothing_arrived(at: socket.socket) -> bool:
    """Return whether there is nothing to receive now."""
    at.setblocking(False)
    try:
        at.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        at.settimeout(DEADLINE)
    return False


def _limited(*pair: socket.socket) -> tuple[socket.socket, socket.socket]:
    for each in pair:
        each.settimeout(DEADLINE)
    return pair[0], pair[1]
