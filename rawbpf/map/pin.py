"""Where a map was pinned, so that the pin can be removed again from wherever the process is by then."""

from __future__ import annotations

import os


class Pin:
    """A path in a bpf file system; a relative one starts at `dir_fd`, which stays the caller's to close."""

    __slots__ = ("_directory", "_file", "dir_fd", "path")

    def __init__(self, path: str | bytes, dir_fd: int | None = None) -> None:
        self.path = path
        self.dir_fd = None if os.path.isabs(path) else dir_fd
        self._directory: tuple[int, int] | None = None
        if self.dir_fd is not None:
            self._directory = _identity(self.dir_fd)
        else:
            try:
                self.path = os.path.abspath(path)  # it may be removed after a chdir()
            except OSError:  # where we are has no path
                pass
        self._file = self._found()

    def remove(self) -> None:
        """Remove the pin, if it is still there, and not what others have pinned in its place since.

        Raises: OSError; ValueError where `dir_fd` is another directory now.
        """
        if self.dir_fd is not None:
            try:
                same = _identity(self.dir_fd) == self._directory
            except OSError:
                same = False
            if not same:
                raise ValueError(
                    f"the directory of the pin {self.path!r} (dir_fd {self.dir_fd}) has been closed: "
                    "remove the pin with os.unlink(path, dir_fd=...)"
                )
        if self._found() != self._file:
            return
        try:
            os.unlink(self.path, dir_fd=self.dir_fd)
        except FileNotFoundError:
            pass  # somebody else removed it

    def _found(self) -> tuple[int, int] | None:
        # What is at the path. A bpffs numbers its files anew each time (kernel/bpf/inode.c:bpf_get_inode, v6.12).
        try:
            status = os.lstat(self.path, dir_fd=self.dir_fd)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
