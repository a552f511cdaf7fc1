"""Records of random sizes, each of which can be told from its number: from a program, or simulated.

Record n has n, the state of a generator of random numbers, and the beginning of `PATTERN`; its size is of the state. So
whoever reads knows what has to come.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.current import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

SMALLEST, SIZES = 16, 256
PATTERN = bytes(range(256))
_MULTIPLIER, _ADDEND = 0x5851F42D, 0x14057B7F
_HEAD = struct.Struct("=QQ")

_REFUSED = 16 + len(PATTERN)
# The value of the map is the next record, with the state of the one before, and behind it how many found no room.
_PROGRAM = f"""
  r6 = map[next]+0
  r7 = *(u64 *)(r6 +8)
  r8 = r7
  r8 *= {_MULTIPLIER}
  r8 += {_ADDEND}
  w8 = w8
  *(u64 *)(r6 +8) = r8
  r3 = r8
  r3 >>= 16
  r3 &= {SIZES - 1}
  r3 += {SMALLEST}
  r1 = map[ring]
  r2 = r6
  r4 = 0
  call bpf_ringbuf_output
  if r0 != 0 goto full
done:
  r1 = *(u64 *)(r6 +0)
  r1 += 1
  *(u64 *)(r6 +0) = r1
  r0 = 2
  exit
full:
  r1 = *(u64 *)(r6 +{_REFUSED})
  r1 += 1
  *(u64 *)(r6 +{_REFUSED}) = r1
"""
_AGAIN = """
  *(u64 *)(r6 +8) = r7
  r0 = 1
  exit
"""
_DROP = "goto done"


def states() -> Iterator[int]:
    """Yield the state of each record."""
    state = 1
    while True:
        state = state * _MULTIPLIER + _ADDEND & 0xFFFFFFFF
        yield state


def record(number: int, state: int) -> bytes:
    """Return the bytes of a record."""
    size = (state >> 16) % SIZES + SMALLEST
    return _HEAD.pack(number, state) + PATTERN[: size - SMALLEST]


class Numbered:
    """Writes numbered records into `ring`. What finds no room is dropped if `dropping`, and else the next again."""

    def __init__(self, ring: rawbpf.RingBufMap, *, dropping: bool = False) -> None:
        self._ring, self._dropping = ring, dropping
        backend = current()
        self._simulated = backend if isinstance(backend, Simulator) else None
        if self._simulated is None:
            self._next = rawbpf.ArrayMap.create(value=_REFUSED + 8, max_entries=1)
            self._next[0] = _HEAD.pack(0, 1) + PATTERN + bytes(8)
            # Each run of an XDP program changes a dispatcher and waits for an RCU grace period.
            code = _PROGRAM + (_DROP if dropping else _AGAIN)
            self._program = rawbpf.Program.load("sched_cls", code, maps={"next": self._next, "ring": ring})
        else:
            self._number, self._refused, self._states = 0, 0, states()
            self._state = next(self._states)

    @property
    def made(self) -> int:
        """How many records there were, dropped ones among them."""
        return self._number if self._simulated is not None else int(_HEAD.unpack_from(self._next[0])[0])

    @property
    def refused(self) -> int:
        """How many times there was no room."""
        return self._refused if self._simulated is not None else int.from_bytes(self._next[0][_REFUSED:], sys.byteorder)

    def run(self, count: int) -> None:
        """Try to write `count` records."""
        if self._simulated is None:
            self._program.run(bytes(64), repeat=count)
            return
        program = self._simulated.ringbuf(self._ring.fileno())
        for _ in range(count):
            full = program.output(record(self._number, self._state)) != 0
            self._refused += full
            if not full or self._dropping:
                self._number += 1
                self._state = next(self._states)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._simulated is None:
            self._program.close()
            self._next.close()
