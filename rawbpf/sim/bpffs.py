"""The simulated bpf file system: a real directory, in which a pin is an empty file.

Renaming, linking, removing and permissions are the real file system's own. A pin is known by its inode;
once no name leads to it, what was pinned is let go. Source: kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import copy
import os
import weakref
from errno import EACCES, EEXIST, EINVAL, ENOENT, EPERM

from rawbpf.sim.error import Refused
from rawbpf.sim.file import Content


class BpfFs:
    """Pins below `root`, a directory that is made when it is first asked for.

    It is removed by `close`, or when nobody needs it any more, at the latest when the process ends.
    """

    def __init__(self) -> None:
        self._root: _Root | None = None
        self._pins: dict[tuple[int, int], _Pin] = {}

    @property
    def root(self) -> str:
        """The directory."""
        if self._root is None:
            self._root = _Root()
        return self._root.path

    def pin(self, path: bytes, at: int | None, content: object) -> None:
        """Make a file at `path`, from the directory `at` on, that leads to `content`.

        Raises: Refused (ENOENT, EEXIST, EPERM: elsewhere, or a dot in the name, ...).
        """
        if not path:
            raise Refused(ENOENT)
        directory, name = os.path.split(path.rstrip(b"/"))
        if not name:
            raise Refused(EEXIST)
        try:
            parent = os.open(directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            raise Refused(error.errno or EINVAL) from None
        try:
            # What exists is found before the name and the file system are looked at.
            if _exists(name, parent):
                raise Refused(EEXIST)
            if path.endswith(b"/"):
                raise Refused(ENOENT)
            if b"." in name or not self._contains(parent):
                raise Refused(EPERM)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        except OSError as error:
            raise Refused(error.errno or EINVAL) from None
        finally:
            os.close(parent)
        self._pins[_identity(fd)] = _Pin(fd, content)
        if isinstance(content, Content):
            content.users += 1

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
        except FileNotFoundError:
            raise Refused(EPERM if self._is_reserved(path, at) else ENOENT) from None
        except OSError as error:
            raise Refused(error.errno or EINVAL) from None
        try:
            pin = self._pins.get(_identity(fd))
        finally:
            os.close(fd)
        if pin is None:
            raise Refused(EACCES)
        return pin.content

    def sweep(self) -> None:
        """Let go of what has no name left."""
        for identity, pin in list(self._pins.items()):
            if os.fstat(pin.fd).st_nlink == 0:
                self._forget(identity)

    def adopt(self, current: BpfFs) -> None:
        """Make the directory what it was when this was copied: unlink pins made since, make again those removed."""
        current.sweep()
        self._root = current._root
        for identity in current._pins.keys() - self._pins.keys():
            pin = current._pins[identity]
            os.unlink(pin.path)
            os.close(pin.fd)
        for identity in self._pins.keys() - current._pins.keys():
            pin = self._pins.pop(identity)
            os.makedirs(os.path.dirname(pin.path), 0o700, exist_ok=True)
            pin.fd = os.open(pin.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._pins[_identity(pin.fd)] = pin

    def close(self) -> None:
        """Let go of all pins, and remove the directory with them."""
        for identity in list(self._pins):
            self._forget(identity)
        if self._root is not None:
            self._root.remove()
        self._root = None

    def _forget(self, identity: tuple[int, int]) -> None:
        pin = self._pins.pop(identity)
        os.close(pin.fd)
        if isinstance(pin.content, Content):
            pin.content.leave()

    def _is_reserved(self, path: bytes, at: int | None) -> bool:
        # Whether a name that is not there could not be there: names with a dot are the kernel's own.
        directory, name = os.path.split(path)
        if b"." not in name:
            return False
        try:
            parent = os.open(directory or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        except OSError:
            return False
        try:
            return self._contains(parent)
        finally:
            os.close(parent)

    def _contains(self, directory: int) -> bool:
        if self._root is None:
            return False
        path = os.readlink(f"/proc/self/fd/{directory}")
        root = os.path.realpath(self._root.path)
        return os.path.commonpath([root, path]) == root


class _Root:
    # The directory; copies of the file system share it.
    def __init__(self) -> None:
        import tempfile

        self.path = tempfile.mkdtemp(prefix="rawbpf-sim-")
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def __deepcopy__(self, memo: dict[int, object]) -> _Root:
        return self


def _remove(root: str, pid: int) -> None:
    # It is the process's that made it, not a forked child's.
    if os.getpid() == pid:
        import shutil

        shutil.rmtree(root, ignore_errors=True)


class _Pin:
    # A descriptor of the placeholder keeps its inode number from being used again. A copy remembers the path.
    def __init__(self, fd: int, content: object) -> None:
        self.fd = fd
        self.content = content
        self._path = ""

    @property
    def path(self) -> str:
        return self._path or os.readlink(f"/proc/self/fd/{self.fd}")

    def __deepcopy__(self, memo: dict[int, object]) -> _Pin:
        copied = _Pin(self.fd, copy.deepcopy(self.content, memo))
        copied._path = self.path
        return copied


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _exists(name: bytes, parent: int) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True
