"""The kernel's times as wall-clock times.

Programs take times with bpf_ktime_get_ns(), nanoseconds of CLOCK_MONOTONIC, which stands still while
the machine is suspended; bpf_ktime_get_boot_ns() counts on. Neither knows a date: the distance to the
wall clock is measured here when it is asked for, so that a corrected clock corrects earlier times too.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

_NS = 1_000_000_000


def wall(ktime_ns: int, *, boot: bool = False) -> datetime:
    """Return the local time at which the kernel's clock showed `ktime_ns`, aware of its zone.

    `boot`: the time is of bpf_ktime_get_boot_ns(). Microseconds are the finest that the result holds.
    Raises: OverflowError, ValueError for a number that is no time of this machine.
    Source: kernel/bpf/helpers.c:bpf_ktime_get_ns
    """
    from datetime import UTC, datetime

    seconds, rest = divmod(ktime_ns + offset_ns(boot=boot), _NS)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.astimezone()


def offset_ns(*, boot: bool = False) -> int:
    """Return what to add to a time of the kernel's clock to get nanoseconds since 1970."""
    clock = time.CLOCK_BOOTTIME if boot else time.CLOCK_MONOTONIC
    # The wall clock is read between two readings of the other: half their distance is the error.
    before = time.clock_gettime_ns(clock)
    now = time.time_ns()
    after = time.clock_gettime_ns(clock)
    return now - (before + after) // 2
