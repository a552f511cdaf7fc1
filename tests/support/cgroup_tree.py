"""Control groups of a test's own, below the cgroup2 mount, and this process or a child in one of them for a while."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support import child


def mount_point() -> Path:
    """Return where cgroup2 is mounted. Raises: LookupError where it is not."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return Path(where)
    raise LookupError("no cgroup2 is mounted")


try:
    ROOT = mount_point()
except LookupError:
    ROOT = Path("/sys/fs/cgroup")
NEEDS = ("kernel", "capability:CAP_SYS_ADMIN", "capability:CAP_NET_ADMIN", f"file:{ROOT}/cgroup.controllers")
"""What `@pytest.mark.needs(*cgroup_tree.NEEDS)` says for a test with programs on a cgroup of its own."""


def current() -> Path:
    """Return the cgroup of this process."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        path = next(line.split(":", 2)[2] for line in file if line.startswith("0::"))
    return mount_point() / path.strip().lstrip("/")


@contextmanager
def new_cgroup(parent: Path | None = None) -> Iterator[Path]:
    """Make a cgroup, below `parent` or the root, and remove it afterwards if it is still there."""
    path = (parent or mount_point()) / f"rawbpf-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        yield path
    finally:
        if path.exists():
            path.rmdir()


@contextmanager
def inside(cgroup: Path) -> Iterator[None]:
    """Move this process into `cgroup`, and then back."""
    before = current()
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


def run_inside(cgroup: Path, function: Callable[[], str]) -> str:
    """Return what `function` returns in a child process in `cgroup`; an exception of it fails the test."""

    def moved() -> str:
        # Sockets belong to the cgroup in which they are made.
        (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        return function()

    return child.run(moved)
