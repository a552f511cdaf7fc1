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

Who reads a perf buffer does the first three (`perf_source`), who writes a user ring the like (`ring_writer`).

Where each comes from, by machine:

- x86 keeps loads in order with loads and with later stores, and stores in their order (Intel SDM 3A, 9.2.2: "Reads are
  not reordered with other reads", "Writes ... not with older reads"): nothing is done for the first three.
- s390x does the same (z/Architecture Principles of Operation, chapter 5; the kernel's arch/s390/include/asm/barrier.h
  (v6.12) has `barrier()`, which is for the compiler alone, for `rmb()`, `wmb()`, and in `__smp_load_acquire` and
  `__smp_store_release`).
- Everywhere else, arm64 among them, and on any machine that nobody thought of, all four are a fence. So is the fourth
  on x86 and s390x: no machine keeps a store before a later load.

The fence is a lock that is released and then taken. CPython's is a semaphore (Python/thread_pthread.h), from 3.14 on
its own (Python/lock.c). glibc releases one by `atomic_compare_exchange_weak_release` and takes it by
`atomic_compare_exchange_weak_acquire` (nptl/sem_post.c, nptl/sem_waitcommon.c). The release keeps what is before it
from moving behind it, the acquire what is behind it from moving before it. That the acquire does not overtake the
release, which the fourth needs, is true

- on arm64: a load-acquire comes after each store-release that is before it (Arm ARM, B2.3, "Barrier-ordered-before");
- on RISC-V: `.aq` and `.rl` are RCsc (Unprivileged ISA, RVWMO, rule 7);
- on x86 and s390x: both are atomic instructions, `lock cmpxchg` and `cs`, each of which is a full barrier.

On POWER the pair orders all but a store with a later load: there a reader may sleep beside a record until the next one
comes.

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

_IN_ORDER = ("x86_64", "i386", "i486", "i586", "i686", "s390x")


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
