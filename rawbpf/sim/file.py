"""Descriptors of the simulated kernel, and when the last one of a file is closed.

What the kernel calls `struct file` is a pipe here. The caller has its read end, so a descriptor is a
real one: it can be duplicated, inherited, closed and polled by any means, and its inode, never its
number, says what it is. The simulator keeps the write end, on which poll(2) reports an error once
every read end is closed, by whomever. A byte in the pipe makes the descriptor readable.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from errno import EBADF, EINVAL
from fcntl import F_GETFL, fcntl

from rawbpf.sim.error import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # Device and inode.
    Identity = tuple[int, int]


class Content:
    """What a descriptor leads to. It hears when that ends.

    `users` counts the files and pins that lead to it: the kernel's `usercnt`, which is not about what lives.
    """

    users = 0

    def closed(self, file: File) -> None:
        """Hear that the last descriptor of `file`, which led here, was closed. Source: map_ops.map_release."""

    def abandoned(self) -> None:
        """Hear that no file and no pin leads here any more. Source: map_ops.map_release_uref."""

    def leave(self) -> None:
        """Count a file or a pin less."""
        self.users -= 1
        if not self.users:
            self.abandoned()


class File:
    """An open file: the `content` (a map, program, BTF ...) that it leads to, and what may be done through it.

    `signalled`: whether there is a byte in the pipe.
    """

    __slots__ = ("content", "end", "may_read", "may_write", "signalled")

    def __init__(self, content: object, end: int, may_read: bool, may_write: bool) -> None:
        self.content = content
        self.end = end
        self.may_read = may_read
        self.may_write = may_write
        self.signalled = False

    def signal(self) -> None:
        """Make the descriptors readable."""
        if not self.signalled:
            # Every descriptor may be closed by now.
            with suppress(BrokenPipeError):
                os.write(self.end, b"\0")
            self.signalled = True

    def pulse(self) -> None:
        """Make the descriptors readable anew, which wakes also those who wait for a change (EPOLLET)."""
        if self.signalled:
            # The other end is the caller's, under any number.
            end = os.open(f"/proc/self/fd/{self.end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with suppress(BlockingIOError):
                os.read(end, 1)
            os.close(end)
            self.signalled = False
        self.signal()


class Files:
    """The open files, by the identity of their pipes."""

    def __init__(self) -> None:
        self._open: dict[Identity, File] = {}

    def __iter__(self) -> Iterator[File]:
        return iter(list(self._open.values()))

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._open

    def open(self, content: object, *, may_read: bool = True, may_write: bool = True) -> int:
        """Return a new close-on-exec descriptor that leads to `content`. Raises: OSError (EMFILE)."""
        fd, end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._open[_identity(fd)] = File(content, end, may_read, may_write)
        if isinstance(content, Content):
            content.users += 1
        return fd

    def find(self, fd: int) -> File | None:
        """Return the file behind `fd`; None where it is none of the simulator's.

        Raises: Refused (EBADF): closed, or opened with O_PATH.
        """
        status = usable(fd)
        return self._open.get((status.st_dev, status.st_ino))

    def get(self, fd: int, kind: type[object] | tuple[type[object], ...]) -> File:
        """Return the file behind `fd`, which must lead to a `kind`. Raises: Refused (EBADF; EINVAL)."""
        file = self.find(fd)
        if file is None or not isinstance(file.content, kind):
            raise Refused(EINVAL)
        return file

    def is_ready(self, fd: int) -> bool:
        """Return whether poll(2) reports `fd`, a map's, at once; without a map it says itself what it is.

        Makes the descriptor readable, or no longer so, where positions in shared memory moved without a call.
        """
        from rawbpf.sim.map.base import SimMap

        try:
            file = self.find(fd)
        except Refused:
            return False
        if file is None or not isinstance(file.content, SimMap):
            return False
        ready = file.content.readable()
        if file.signalled and not ready:
            with suppress(BlockingIOError):
                os.read(fd, 1)
            file.signalled = False
        return ready

    def close(self, fd: int) -> None:
        """Close `fd`, and forget its file if that was its last descriptor. Raises: OSError (EBADF)."""
        identity = _identity(fd)
        os.close(fd)
        file = self._open.get(identity)
        if file is not None and _abandoned([file]):
            self._forget(identity)

    def sweep(self) -> None:
        """Forget the files whose descriptors were all closed behind the simulator's back."""
        gone = _abandoned(self._open.values())
        for identity in [identity for identity, file in self._open.items() if file.end in gone]:
            self._forget(identity)

    def adopt(self, current: Files) -> None:
        """Take over the descriptors that are open now, for files that were copied from an earlier moment.

        A file that was closed since stays closed; descriptors opened since lead nowhere.
        """
        for identity in self._open.keys() - current._open.keys():
            del self._open[identity]
        for identity, file in self._open.items():
            file.signalled = current._open[identity].signalled
        for identity in current._open.keys() - self._open.keys():
            current._forget(identity)

    def close_all(self) -> None:
        """Let go of every file; descriptors that are still open lead nowhere."""
        for identity in list(self._open):
            self._forget(identity)

    def _forget(self, identity: Identity) -> None:
        file = self._open.pop(identity, None)
        if file is not None:
            os.close(file.end)
            if isinstance(file.content, Content):
                file.content.closed(file)
                file.content.leave()


def usable(fd: int) -> os.stat_result:
    """Return the status of a descriptor that a call may use.

    Raises: Refused (EBADF): closed, or opened with O_PATH. Source: fs/file.c:__fget_light, FMODE_PATH (v6.12).
    """
    try:
        status = os.fstat(fd)
        names_only = fcntl(fd, F_GETFL) & os.O_PATH
    except (OSError, OverflowError):
        raise Refused(EBADF) from None
    if names_only:
        raise Refused(EBADF)
    return status


def _abandoned(files: Iterable[File]) -> set[int]:
    poller = select.poll()
    for file in files:
        poller.register(file.end, 0)
    return {end for end, _ in poller.poll(0)}


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
