"""Cgroups of the test's own, of version 2, and what is done inside them. Tests need `NEEDS`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _mounted() -> Path:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        places = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    return Path(places[0] if places else "/sys/fs/cgroup")


ROOT = _mounted()
NEEDS = ("kernel", "capability:CAP_SYS_ADMIN", "capability:CAP_NET_ADMIN", f"file:{ROOT}/cgroup.controllers")
"""What `@pytest.mark.needs(*cgroups.NEEDS)` says for a test with a cgroup of its own."""


@contextmanager
def cgroup(parent: Path = ROOT) -> Iterator[Path]:
    """Yield the directory of a new cgroup, which is removed with the block; nothing may run in it then."""
    path = Path(tempfile.mkdtemp(prefix="rawbpf-test-", dir=parent))
    try:
        yield path
    finally:
        path.rmdir()


def run_inside(path: Path, function: Callable[[], str]) -> str:
    """Return what `function` returns in a child process in the cgroup at `path`; an exception as its repr."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            answer = file.read()
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}: {answer}"
        return answer
    status = 1
    try:
        # Sockets belong to the cgroup in which they are made.
        (path / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        os.write(writer, function().encode())
        status = 0
    except BaseException as error:  # noqa: BLE001 (nothing may leave the child but its answer)
        os.write(writer, repr(error).encode())
    finally:
        os._exit(status)
