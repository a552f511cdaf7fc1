"""A network of the test's own: a namespace that only the calling thread is in, with veth pairs and raw frames.

What is sent into one end of a pair arrives at the other, where programs see it. Everything that names an
interface (sockets, `if_nametoindex`, attaching, maps of devices) must happen inside the block, and in the
thread that entered it; child processes and threads started inside are inside, too. The namespace goes
with its last user: it has no name, no mount and no process of its own. Tests need `NEEDS`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

NEEDS = ("kernel", "tool:ip", "capability:CAP_SYS_ADMIN", "capability:CAP_NET_ADMIN", "capability:CAP_NET_RAW")
"""What `@pytest.mark.needs(*network.NEEDS)` says for a test in a namespace of its own."""

DEADLINE = 10.0
"""Seconds after which what has not arrived is lost; on a machine that works nothing takes so long."""

ETHERTYPE = 0x88B5
"""For local experiments (IEEE 802): nobody else on the wire speaks it."""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Device:
    """One end of a veth pair, up: `name`, `index` and `mac` (six bytes)."""

    def __init__(self, name: str, mac: bytes) -> None:
        self.name = name
        self.mac = mac
        self.index = socket.if_nametoindex(name)

    def wire(self) -> Wire:
        """Return a socket that sends and receives raw frames here."""
        return Wire(self)


class Wire:
    """A socket on one device: sends any frame, receives those with ETHERTYPE, whomever they are for."""

    def __init__(self, device: Device) -> None:
        # The type of a frame that is not ETH_P_ALL: such a socket does not see what the device itself sends.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        self._socket.bind((device.name, ETHERTYPE))
        self._socket.settimeout(DEADLINE)

    def send(self, content: bytes) -> None:
        """Send a frame: into the veth here, and so out of the one at the other end."""
        self._socket.send(content)

    def receive(self) -> bytes:
        """Return the next frame that arrived. Raises: TimeoutError."""
        return self._socket.recv(65536)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def namespace() -> Iterator[None]:
    """Put this thread into a new network namespace, with loopback up and IPv6 off, for a `with` block."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET))
        try:
            _silence()
            ip("link", "set", "lo", "up")
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def veth_pair(name: str, number: int = 1) -> tuple[Device, Device]:
    """Add a veth pair to this thread's namespace, both ends up, and return them as NAME0 and NAME1.

    `number` (1 to 255) tells the pair's hardware addresses from other pairs': 02:00:00:00:NUMBER:00 and :01.
    """
    macs = [bytes([2, 0, 0, 0, number, end]) for end in (0, 1)]
    names = [f"{name}{end}" for end in (0, 1)]
    near, far = (["name", named, "address", mac.hex(":")] for named, mac in zip(names, macs, strict=True))
    ip("link", "add", *near, "up", "type", "veth", "peer", *far)
    ip("link", "set", names[1], "up")
    return Device(names[0], macs[0]), Device(names[1], macs[1])


def frame(destination: Device, source: Device, content: bytes) -> bytes:
    """Return an Ethernet frame with ETHERTYPE; its `content` is filled up to the 46 bytes that such a frame has."""
    return destination.mac + source.mac + ETHERTYPE.to_bytes(2, "big") + content.ljust(46, b"\0")


def ip(*arguments: str) -> None:
    """Run iproute2's `ip` in this thread's namespace."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def _silence() -> None:
    # Devices that come up would send router solicitations. /proc/sys/net is that of the reader's namespace.
    for which in ("all", "default"):
        try:
            with open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w", encoding="ascii") as file:
                file.write("1")
        except FileNotFoundError:  # this kernel has no IPv6
            return


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
