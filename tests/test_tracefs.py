"""Tracepoint ids are found wherever tracefs is, or is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import ctypes, sys
from rawbpf.syscall import tracefs
mounts = open("/proc/self/mounts").read()
opened = []
detached = tracefs._mount_detached
tracefs._mount_detached = lambda: opened.append(1) or detached()
print(tracefs.tracepoint_id("syscalls", "sys_enter_execve"), len(opened))
assert open("/proc/self/mounts").read() == mounts
"""

pytestmark = [
    pytest.mark.real_kernel("it asks about the running kernel"),
    pytest.mark.needs("capability:CAP_SYS_ADMIN", "tool:unshare", "tool:mount"),
]


def _run(setup: str) -> list[str]:
    # In a mount namespace of its own: nothing becomes visible to others, and all of it ends with the process.
    script = f'{setup} exec "$0" -c "$1"'
    command = ["unshare", "-m", "sh", "-ec", script, sys.executable, CODE]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_id_is_the_same_from_a_mount_and_from_a_detached_one() -> None:
    hidden = "umount /sys/kernel/tracing 2>/dev/null || :; umount /sys/kernel/debug/tracing 2>/dev/null || :;"
    unmounted = _run(hidden)
    mounted = _run(f"{hidden} mount -t tracefs tracefs /sys/kernel/tracing;")
    assert int(unmounted[0]) == int(mounted[0]) > 0
    # What is mounted is used; only what is not is mounted detached.
    assert (unmounted[1], mounted[1]) == ("1", "0")
