"""Memory that the simulated kernel shares with its callers: what a mapping of a map shows.

Source: memfd_create(2).
"""

from __future__ import annotations

import mmap
import os


class SharedMemory:
    """`size` bytes, zeros at first; `fd` is a memfd, which stays this object's; `view` is all of it.

    A copy is of the bytes: it has the same memfd, which `wake` fills again.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pages = _Pages(size)
        self._saved: bytes | None = None

    @property
    def fd(self) -> int:
        """A descriptor of the memory."""
        return self._pages.fd

    @property
    def view(self) -> mmap.mmap:
        """The memory."""
        return self._pages.view

    def __deepcopy__(self, memo: dict[int, object]) -> SharedMemory:
        copied = SharedMemory.__new__(SharedMemory)
        copied.size = self.size
        copied._pages = self._pages
        copied._saved = self.view[:] if self._saved is None else self._saved
        memo[id(self)] = copied
        return copied

    def wake(self) -> None:
        """Put the bytes back that a copy was made of."""
        if self._saved is not None:
            self.view[:] = self._saved
            self._saved = None


class _Pages:
    # The memfd and the simulator's own mapping of it, for as long as anything refers to them.
    def __init__(self, size: int) -> None:
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
