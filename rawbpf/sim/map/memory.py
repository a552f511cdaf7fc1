"""Memory that the simulated kernel shares with its callers: what a mapping of a map shows.

Source: memfd_create(2).
"""

from __future__ import annotations

import mmap
import os


class SharedMemory:
    """`size` bytes, zeros at first; `fd` is a memfd, which stays this object's."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("map", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
            self.view = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def __del__(self) -> None:
        if hasattr(self, "view"):
            os.close(self.fd)
            self.view.close()
