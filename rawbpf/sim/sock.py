"""Sockets of the calling process, as far as getsockopt(2) and its relatives tell: real ones, which the simulator
neither makes nor keeps.

What the kernel reads in `struct sock` is asked for here. A socket that is closed cannot be told from one
that another process still has. Source: net/socket.c:sockfd_lookup (v6.12).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import stat
import sys
from errno import EBUSY, ENOTSOCK

from rawbpf.sim.error import Refused
from rawbpf.sim.file import usable

_SO_COOKIE = 57
_SO_ACCEPTCONN = 30
_TCP_ESTABLISHED = 1
AF_XDP = 44
_XDP_PGOFF_RX_RING = 0  # Source: include/uapi/linux/if_xdp.h
_libc = ctypes.PyDLL(None)
_ADDRESS = ctypes.c_char * 128
_PORT = slice(2, 4)


class Sock:
    """The socket behind `fd` when it was handed in; its state is asked for when it matters.

    Raises: Refused (EBADF; ENOTSOCK).
    """

    __slots__ = ("_fd", "_identity", "cookie", "domain", "protocol", "type")

    def __init__(self, fd: int) -> None:
        status = usable(fd)
        if not stat.S_ISSOCK(status.st_mode):
            raise Refused(ENOTSOCK)
        self._fd = fd
        self._identity = (status.st_dev, status.st_ino)
        self.domain = self._option(socket.SOL_SOCKET, socket.SO_DOMAIN)
        self.type = self._option(socket.SOL_SOCKET, socket.SO_TYPE)
        self.protocol = self._option(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        self.cookie = int.from_bytes(self._bytes(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)

    def __deepcopy__(self, memo: dict[int, object]) -> Sock:
        return self

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Sock) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def is_inet(self) -> bool:
        """Whether it is an IPv4 or IPv6 socket."""
        return self.domain in (socket.AF_INET, socket.AF_INET6)

    @property
    def is_tcp(self) -> bool:
        """Whether it is a TCP socket."""
        return self.is_inet and self.type == socket.SOCK_STREAM and self.protocol == socket.IPPROTO_TCP

    @property
    def is_udp(self) -> bool:
        """Whether it is a UDP socket."""
        return self.is_inet and self.type == socket.SOCK_DGRAM and self.protocol == socket.IPPROTO_UDP

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._option(socket.SOL_SOCKET, _SO_ACCEPTCONN))

    @property
    def is_established(self) -> bool:
        """Whether it is connected, both ways; for TCP and Unix streams."""
        if self.is_tcp:
            return self._tcp_state() == _TCP_ESTABLISHED
        return self._name(_libc.getpeername) is not None

    @property
    def is_bound(self) -> bool:
        """Whether an IP socket has a port."""
        name = self._name(_libc.getsockname)
        return name is not None and name[_PORT] != b"\0\0"

    @property
    def shares_port(self) -> bool:
        """Whether SO_REUSEPORT is set."""
        return bool(self._option(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    @property
    def has_receive_ring(self) -> bool:
        """Whether an AF_XDP socket has a ring to receive from; assumed of one that is bound, which does not tell."""
        try:
            mmap.mmap(self._fd, mmap.PAGESIZE, offset=_XDP_PGOFF_RX_RING).close()
        except OSError as error:
            return error.errno == EBUSY
        return True

    @property
    def is_closed(self) -> bool:
        """Whether this process has no descriptor of it any more."""
        return not self._found()

    def _tcp_state(self) -> int:
        return self._bytes(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def _found(self) -> bool:
        # The descriptor may have been closed and another one be open: any that leads there will do.
        if _leads(self._fd, self._identity):
            return True
        for name in os.listdir("/proc/self/fd"):
            if _leads(int(name), self._identity):
                self._fd = int(name)
                return True
        return False

    def _option(self, level: int, name: int) -> int:
        return int.from_bytes(self._bytes(level, name, 4), sys.byteorder)

    def _bytes(self, level: int, name: int, size: int) -> bytes:
        # Zeros where the socket does not know the option.
        value = ctypes.create_string_buffer(size)
        _libc.getsockopt(self._fd, level, name, value, ctypes.byref(ctypes.c_uint32(size)))
        return value.raw

    def _name(self, call: ctypes._FuncPointer) -> bytes | None:
        address = _ADDRESS()
        if call(self._fd, address, ctypes.byref(ctypes.c_uint32(len(address)))):
            return None
        return address.raw


def _leads(fd: int, identity: tuple[int, int]) -> bool:
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity
