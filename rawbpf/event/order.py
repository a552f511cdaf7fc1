"""What keeps loads and stores of memory that the kernel writes at the same time in order.

A reader of a ring does four things that must not change places:

1. It loads the producer's position, then headers below it. The kernel stores the position last, by
   `smp_store_release(&rb->producer_pos, ...)` in kernel/bpf/ringbuf.c:__bpf_ringbuf_reserve (v6.12), when the header
   is there, marked busy. `loads()` between the two makes the load an acquire.
2. It loads headers, then the records of those that are not busy. The kernel clears the bit last, by
   `xchg(&hdr->len, ...)` in bpf_ringbuf_commit, when the record is there. `loads()` between the two.
3. It loads the records, then stores the consumer's position, which gives the room back: the kernel loads it by
   `smp_load_acquire(&rb->consumer_pos)` in __bpf_ringbuf_reserve and may write there. `loads()` between the two makes
   the store a release.
4. It stores the consumer's position and, before it sleeps, loads the producer's once more. The kernel does the
   opposite: it commits a record, a full barrier, and wakes only a reader whose position has come to that record
   (bpf_ringbuf_commit). If the store could be overtaken by the load, each would miss what the other did, and the reader
   would sleep beside a record. `full()` between the two.

x86 keeps loads in order with loads and with later stores, so that the first three need nothing there (Intel SDM 3A,
9.2.2: "Reads are not reordered with other reads", "Writes ... not with older reads"); no machine keeps the fourth.
Elsewhere a lock that is released and then taken is the fence: its release keeps what is before it from moving behind
it, its acquire what is behind it from moving before it, and on Arm and RISC-V, whose instructions for that are
sequentially consistent among themselves, the acquire does not overtake the release. On x86 each of both is a full
barrier. On POWER the pair orders all but a store with a later load: there a reader may sleep beside a record until the
next one comes.

Each load and store is one of the machine's: CPython copies an item of a memoryview by a memcpy of its size, which
compilers turn into one instruction (Objects/memoryobject.c:unpack_single, pack_single). And Python's own compiler moves
nothing.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_IN_ORDER = ("x86_64", "i386", "i486", "i586", "i686")


class Order:
    """The fences of one reader, which one thread uses at a time. `loads` and `full` are as the module says."""

    __slots__ = ("full", "loads")

    def __init__(self, machine: str = "") -> None:
        self.full: Callable[[], None] = _fence()
        self.loads: Callable[[], None] = _nothing if (machine or os.uname().machine) in _IN_ORDER else self.full


def _nothing() -> None:
    pass


def _fence() -> Callable[[], None]:
    lock = allocate_lock()
    take, release = lock.acquire, lock.release

    # The lock is held between calls. No step waits, and a signal handler may come between any two of them: it leaves
    # the lock as it found it, or held.
    def fence() -> None:
        take(False)
        release()
        take(False)

    return fence
