"""An AF_XDP socket that receives: memory shared with the kernel, and rings in which both say where packets lie.

Just enough to see what an xskmap hands over. Source: Documentation/networking/af_xdp.rst, net/xdp/xsk.c (v6.12).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from support import network

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

AF_XDP = 44
_SOL_XDP = 283
_MMAP_OFFSETS, _RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 1, 2, 4, 5, 6
_PGOFF_RX, _PGOFF_FILL = 0, 0x100000000
_COPY = 1 << 1
_FRAMES, _FRAME_SIZE = 16, 2048
_DESCRIPTOR = struct.Struct("=QII")
_libc = ctypes.CDLL(None, use_errno=True)


class _Ring:
    """A ring in memory that the kernel shares: two counters, and slots of `size` bytes."""

    def __init__(self, sock: socket.socket, page_offset: int, offsets: tuple[int, ...], size: int) -> None:
        self._producer, self._consumer, self._slots, _ = offsets
        self._size = size
        self._memory = mmap.mmap(sock.fileno(), self._slots + _FRAMES * size, offset=page_offset)

    @property
    def produced(self) -> int:
        return int.from_bytes(self._memory[self._producer : self._producer + 4], sys.byteorder)

    @property
    def consumed(self) -> int:
        return int.from_bytes(self._memory[self._consumer : self._consumer + 4], sys.byteorder)

    def produce(self, slots: list[bytes]) -> None:
        """Fill all of an empty ring."""
        self._memory[self._slots : self._slots + len(slots) * self._size] = b"".join(slots)
        self._memory[self._producer : self._producer + 4] = len(slots).to_bytes(4, sys.byteorder)

    def consume(self) -> bytes:
        """Return the next slot, which there is."""
        number = self.consumed
        at = self._slots + number % _FRAMES * self._size
        slot = self._memory[at : at + self._size]
        self._memory[self._consumer : self._consumer + 4] = (number + 1).to_bytes(4, sys.byteorder)
        return slot

    def close(self) -> None:
        """Unmap it: a mapping keeps the socket."""
        self._memory.close()


def set_rx_ring(sock: socket.socket) -> None:
    """Give an AF_XDP socket the ring that it receives by."""
    sock.setsockopt(_SOL_XDP, _RX_RING, _FRAMES.to_bytes(4, sys.byteorder))


class XskSocket:
    """A socket bound to one queue of a device, in copy mode, which any driver has. An object with fileno()."""

    def __init__(self, device: network.Device, queue: int = 0) -> None:
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._socket = stack.enter_context(socket.socket(AF_XDP, socket.SOCK_RAW))
            self._memory = stack.enter_context(mmap.mmap(-1, _FRAMES * _FRAME_SIZE))
            address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            region = struct.pack("=QQIII4x", address, len(self._memory), _FRAME_SIZE, 0, 0)
            self._socket.setsockopt(_SOL_XDP, _UMEM_REG, region)
            for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING):
                self._socket.setsockopt(_SOL_XDP, ring, _FRAMES)
            # struct xdp_mmap_offsets: receiving, sending, fill and completion, four offsets each.
            offsets = struct.unpack("=16Q", self._socket.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
            self._received = stack.enter_context(
                closing(_Ring(self._socket, _PGOFF_RX, offsets[0:4], _DESCRIPTOR.size))
            )
            fill = stack.enter_context(closing(_Ring(self._socket, _PGOFF_FILL, offsets[8:12], 8)))
            fill.produce([(number * _FRAME_SIZE).to_bytes(8, sys.byteorder) for number in range(_FRAMES)])
            self._bind(device.index, queue)
            self._stack = stack.pop_all()

    def _bind(self, index: int, queue: int) -> None:
        address = struct.pack("=HHIII", AF_XDP, _COPY, index, queue, 0)
        if _libc.bind(self._socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def receive(self) -> bytes:
        """Return the next packet, of as many as there are frames. Raises: TimeoutError."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(network.DEADLINE * 1000):
            raise TimeoutError("no packet arrived")
        assert self._received.consumed != self._received.produced
        address, length, _ = _DESCRIPTOR.unpack(self._received.consume())
        return self._memory[address : address + length]

    def close(self) -> None:
        """Unmap the rings and close the socket."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
