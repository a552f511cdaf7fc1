"""The simulated bpf file system: a real directory, in which a pin is an empty file.

Renaming, linking, removing and permissions are the real file system's own. A pin is known by its inode;
once no name leads to it, what was pinned is let go. Source: kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack, suppress
from errno import EACCES, EEXIST, EINVAL, ENOENT, EPERM, EROFS

from rawbpf.sim.error import Refused
from rawbpf.sim.file import Content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.file import Identity

# A new pin's.
_MODE = 0o600


class BpfFs:
    """Pins below `root`, a directory that is made when it is first asked for.

    It is removed by `close`, or when nobody needs it any more, at the latest when the process ends.
    """

    def __init__(self) -> None:
        self._root: _Root | None = None
        self._pins: dict[Identity, _Pin] = {}

    @property
    def root(self) -> str:
        """The directory."""
        if self._root is None:
            self._root = _Root()
        return self._root.path

    def pin(self, path: bytes, at: int | None, content: object) -> None:
        """Make a file at `path`, from the directory `at` on, that leads to `content`.

        Raises: Refused (ENOENT, EEXIST, EPERM: elsewhere, or a dot in the name, EROFS ...).
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
            # procfs does not even look for a name that it has not.
            if path.endswith(b"/") or os.fstat(parent).st_dev == os.stat("/proc").st_dev:
                raise Refused(ENOENT)
            if os.fstatvfs(parent).f_flag & os.ST_RDONLY:
                raise Refused(EROFS)
            if b"." in name or not self._contains(parent):
                raise Refused(EPERM)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=parent)
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

    def locate(self) -> None:
        """Note of every pin which names lead to it, and its mode, as a copy of this needs to bring them back."""
        self.sweep()
        for pin in self._pins.values():
            pin.names = []
            pin.mode = os.fstat(pin.fd).st_mode & 0o7777
        for directory, _, names in os.walk(self._root.path if self._root is not None else ""):
            for path in (os.path.join(directory, name) for name in names):
                # Another thread may remove it meanwhile.
                with suppress(FileNotFoundError):
                    status = os.lstat(path)
                    found = self._pins.get((status.st_dev, status.st_ino))
                    if found is not None:
                        found.names.append(path)
        for pin in self._pins.values():
            # One that was moved elsewhere, or into a directory that may not be listed.
            pin.names = pin.names or [os.readlink(f"/proc/self/fd/{pin.fd}")]

    def adopt(self, current: BpfFs) -> None:
        """Make the tree of pins what it was when this was copied; files that are no pins stay.

        Raises: OSError, where the tree cannot be so. Then everything is as it was before.
        """
        current.locate()
        with ExitStack() as always, ExitStack() as undo:
            names = _put_away(current, self._pins, always, undo)
            pins = {}
            for identity, pin in self._pins.items():
                kept = current._pins.get(identity)
                if kept is None:
                    pin.fd, mode = _make(pin.names[0], undo), _MODE
                    names[pin.names[0]] = identity
                else:
                    pin.fd, mode = kept.fd, kept.mode
                if mode != pin.mode:
                    os.fchmod(pin.fd, pin.mode)
                    undo.callback(os.fchmod, pin.fd, mode)
                source = next(path for path, target in names.items() if target == identity)
                for path in pin.names:
                    if path not in names:
                        _make_directory(os.path.dirname(path), undo)
                        os.link(source, path)
                        undo.callback(os.unlink, path)
                pins[_identity(pin.fd)] = pin
            undo.pop_all()
        self._root = current._root
        for identity in current._pins.keys() - self._pins.keys():
            os.close(current._pins[identity].fd)
        self._pins = pins

    def close(self) -> None:
        """Let go of all pins, and remove the directory with them."""
        for identity in list(self._pins):
            self._forget(identity)
        if self._root is not None:
            self._root.remove()
        self._root = None

    def _forget(self, identity: Identity) -> None:
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
    # A descriptor of the placeholder keeps its inode number from being used again. The names and the mode are as
    # `locate` found them.
    def __init__(self, fd: int, content: object) -> None:
        self.fd = fd
        self.content = content
        self.names: list[str] = []
        self.mode = _MODE


def _put_away(current: BpfFs, wanted: dict[Identity, _Pin], always: ExitStack, undo: ExitStack) -> dict[str, Identity]:
    # Move the names that pins are not to have out of the way, into a directory that lasts as long as `always`.
    # Return where pins that are there can be found now.
    to_be = {path: identity for identity, pin in wanted.items() for path in pin.names}
    names = {path: identity for identity, pin in current._pins.items() for path in pin.names}
    wrong = [path for path, identity in names.items() if to_be.get(path) != identity]
    if wrong:
        import shutil
        import tempfile

        # On the same file system, or there would be no renaming.
        away = tempfile.mkdtemp(prefix="rawbpf-sim-", dir=os.path.dirname(current.root))
        always.callback(shutil.rmtree, away, ignore_errors=True)
        for number, path in enumerate(wrong):
            moved = os.path.join(away, str(number))
            os.rename(path, moved)
            undo.callback(os.rename, moved, path)
            names[moved] = names.pop(path)
    return names


def _make(path: str, undo: ExitStack) -> int:
    # Make a placeholder.
    _make_directory(os.path.dirname(path), undo)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    undo.callback(os.close, fd)
    undo.callback(os.unlink, path)
    return fd


def _make_directory(path: str, undo: ExitStack) -> None:
    if not os.path.isdir(path):
        _make_directory(os.path.dirname(path), undo)
        os.mkdir(path, 0o700)
        undo.callback(os.rmdir, path)


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _exists(name: bytes, parent: int) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True
