"""The simulated bpf file system: a real directory, in which a pin is an empty file.

Renaming, linking, removing and permissions are the real file system's own. A pin is known by its inode;
once no name leads to it, what was pinned is let go. Source: kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import os
from errno import EACCES, EEXIST, EINVAL, ELOOP, ENOENT, EPERM

from rawbpf.sim.error import Refused


class BpfFs:
    """Pins below `root`, a directory that is made when it is first asked for and removed by `close`."""

    def __init__(self) -> None:
        self._root: str | None = None
        # A descriptor of the placeholder keeps its inode number from being used again.
        self._pins: dict[tuple[int, int], tuple[int, object]] = {}

    @property
    def root(self) -> str:
        """The directory."""
        if self._root is None:
            import tempfile

            self._root = tempfile.mkdtemp(prefix="rawbpf-sim-")
        return self._root

    def pin(self, path: bytes, at: int | None, content: object) -> None:
        """Make a file at `path`, from the directory `at` on, that leads to `content`.

        Raises: Refused (ENOENT, EEXIST, EPERM: elsewhere, or a dot in the name, ...).
        """
        if not path:
            raise Refused(ENOENT)
        directory, name = os.path.split(path.rstrip(b"/"))
        try:
            parent = os.open(directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            raise Refused(error.errno or EINVAL) from None
        try:
            # What exists is found before the name and the file system are looked at.
            if _exists(name, parent):
                raise Refused(EEXIST)
            if b"." in name or not self._contains(parent):
                raise Refused(EPERM)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        except OSError as error:
            raise Refused(error.errno or EINVAL) from None
        finally:
            os.close(parent)
        status = os.fstat(fd)
        self._pins[status.st_dev, status.st_ino] = (fd, content)

    def get(self, path: bytes, at: int | None, mode: int) -> object:
        """Return what is pinned at `path`, which must allow `mode` (os.O_RDONLY, O_WRONLY, O_RDWR).

        Raises: Refused (ENOENT; EACCES: no permission, or no pin).
        """
        if not path:
            raise Refused(ENOENT)
        try:
            fd = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)
        except IsADirectoryError:
            raise Refused(EACCES) from None
        except OSError as error:
            raise Refused(ENOENT if error.errno == ELOOP else error.errno or EINVAL) from None
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        self.sweep()
        pin = self._pins.get((status.st_dev, status.st_ino))
        if pin is None:
            raise Refused(EACCES)
        return pin[1]

    def sweep(self) -> None:
        """Let go of what has no name left."""
        for identity, (fd, _) in list(self._pins.items()):
            if os.fstat(fd).st_nlink == 0:
                del self._pins[identity]
                os.close(fd)

    def close(self) -> None:
        """Remove the directory and all pins."""
        for fd, _ in self._pins.values():
            os.close(fd)
        self._pins.clear()
        if self._root is not None:
            import shutil

            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def _contains(self, directory: int) -> bool:
        if self._root is None:
            return False
        path = os.readlink(f"/proc/self/fd/{directory}")
        return os.path.commonpath([os.path.realpath(self._root), path]) == os.path.realpath(self._root)


def _exists(name: bytes, parent: int) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True
