"""Executes programs as another user, an exact number of times."""

from __future__ import annotations

import os


def execute_as(uid: int, times: int, path: str = "/bin/true") -> None:
    """Call execve(2) exactly `times` in children whose uid is `uid` before the call."""
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            try:
                os.setresuid(uid, uid, uid)
                os.execv(path, [path])
            finally:
                os._exit(127)
        _, status = os.waitpid(pid, 0)
        assert status == 0
