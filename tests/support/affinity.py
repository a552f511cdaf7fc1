"""One CPU for all that happens: what the kernel keeps for each CPU is then one list, and one order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Keep the calling thread on the first of its CPUs, and yield that CPU's number."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)
