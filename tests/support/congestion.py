"""A congestion control in C, which counts its calls, as source that tests vary and compile."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from support import network

AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")

STRUCT = """
struct sock;
struct tcp_congestion_ops {
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
	u32 flags;
	char name[16];
	void *owner;
};
"""
"""Some members of the kernel's struct, in an order of their own."""

PROGRAMS = """
u64 calls;
SEC("struct_ops/ssthresh") u32 the_ssthresh(u64 *ctx) { return 7; }
SEC("struct_ops/cong_avoid") void the_cong_avoid(u64 *ctx) { __sync_fetch_and_add(&calls, 1); }
SEC("struct_ops/undo_cwnd") u32 the_undo_cwnd(u64 *ctx) { return 10; }
"""

MEMBERS = ".ssthresh = (void *)the_ssthresh, .cong_avoid = (void *)the_cong_avoid, .undo_cwnd = (void *)the_undo_cwnd"


def table(name: str = "table", section: str = ".struct_ops.link", members: str = "") -> str:
    """Return the definition of a table with the three functions and `members`."""
    return f'SEC("{section}") struct tcp_congestion_ops {name} = {{{MEMBERS}, .name = "unnamed", {members}}};\n'


def available() -> list[str]:
    """Return the names of the congestion controls that the kernel has now."""
    return AVAILABLE.read_text(encoding="ascii").split()


def vanishes(algorithm: str) -> bool:
    """Tell whether a congestion control goes: the kernel lets go of a pinned link some time after the file."""
    end = time.monotonic() + 30
    while algorithm in available() and time.monotonic() < end:
        time.sleep(0.01)
    return algorithm not in available()


def transfer(algorithm: str, size: int = 1 << 18) -> str:
    """Send `size` bytes to oneself, in a network of one's own, under `algorithm`; return what the socket says it used.

    Raises: FileNotFoundError where there is no such congestion control.
    """
    with network.namespace(), socket.socket() as listener, socket.socket() as sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm.encode())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        with receiver:
            sent = received = 0
            while received < size:
                if sent < size:
                    sent += sender.send(bytes(min(4096, size - sent)))
                received += len(receiver.recv(1 << 16))
        return sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
