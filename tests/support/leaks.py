"""What a test left behind in this process and on this machine.

Two snapshots, before and after, are compared; garbage is collected only when they differ, so that an
object that was dropped and never closed still shows as the ResourceWarning that it is.
"""

from __future__ import annotations

import gc
import os
import threading

_PSEUDO = ("cgroup", "proc", "sysfs")


class Snapshot:
    """The open descriptors, children, threads, mounts and pins of one moment."""

    def __init__(self) -> None:
        self.parts = {
            "descriptor": _descriptors(),
            "child process": _children(),
            "thread": {f"{thread.name}" for thread in threading.enumerate()},
            "mount": (mounts := _mounts()),
            "pin": _pins(mounts),
        }

    def added(self, later: Snapshot) -> list[str]:
        """Return what `later` has that this one has not, in words."""
        return [f"{kind} {what}" for kind, had in self.parts.items() for what in sorted(later.parts[kind] - had)]


def left_since(before: Snapshot) -> list[str]:
    """Return what exists now and did not at `before`."""
    if not before.added(Snapshot()):
        return []
    gc.collect()
    return before.added(Snapshot())


def _descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            pass  # the descriptor of the listing itself
    return found


def _children() -> set[str]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # what nearly every test sees; walking /proc takes milliseconds
    me = os.getpid()
    found = set()
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The name stands in parentheses and may contain anything, spaces and parentheses too.
        if int(text.rpartition(")")[2].split()[1]) == me:
            found.add(f"{pid} {text[text.index('(') : text.rindex(')') + 1]}")
    return found


def _mounts() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    return {f"{fields[4]} ({fields[fields.index('-') + 1]})" for fields in lines}


def _pins(mounts: set[str]) -> set[str]:
    roots = [
        mount.removesuffix(" (bpf)").encode().decode("unicode_escape") for mount in mounts if mount.endswith(" (bpf)")
    ]
    return {
        os.path.join(folder, name)
        for root in roots
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    }
