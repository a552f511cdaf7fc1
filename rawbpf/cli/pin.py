"""`--pin DIR`: maps and links under names in a bpffs, and the bpffs itself where there is none.

The library pins where a bpffs is; only the command line mounts one. What was made here is removed
again unless it is kept. Kernel side: kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import struct

from rawbpf.cli.failure import Failure, escaped, tell
from rawbpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Protocol, Self

    class Pinnable(Protocol):
        """A map or a link."""

        def pin(self, path: str) -> None:
            """Give it a name."""


ROOT = "/sys/fs/bpf"
_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC in include/uapi/linux/magic.h (v6.12)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


class Pins:
    """The pins that one run makes in `directory`; at the end of a `with` block they go, unless `keep` was called.

    Of those that stay the user is told. `by_name_only`: they are there because the object says so, and
    nobody asked for them. Raises: Failure when there is no current directory that it could be relative to.
    """

    def __init__(self, directory: str, *, by_name_only: bool = False) -> None:
        try:
            self.directory = os.path.abspath(directory)
        except OSError as error:
            raise Failure(f"--pin {escaped(directory)}: the current directory was removed") from error
        self._by_name_only = by_name_only
        self._pins: list[str] = []
        self._attaching: list[str] = []
        self._directories: list[str] = []
        self._mounted = False
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept:
            self._tell_what_stays()
        else:
            self.remove()

    def prepare(self, names: Iterable[str], shared: Iterable[str] = ()) -> None:
        """Make the directory, and a bpffs below it where there is none.

        `names`: what will be pinned there, which must be free. `shared`: what the loader pins there, or finds.
        Raises: Failure.
        """
        if not _on_bpffs(_existing(self.directory)):
            self._mount()
        self._make(self.directory)
        taken = [name for name in names if os.path.lexists(os.path.join(self.directory, name))]
        if taken:
            what = f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already"
            raise Failure(f"--pin {escaped(self.directory)}: {what}; remove what is there, or choose another directory")
        paths = (os.path.join(self.directory, name) for name in shared)
        self._pins += [path for path in paths if not os.path.lexists(path)]

    def add(self, named: Mapping[str, Pinnable], *, attach: bool = False) -> None:
        """Pin each of `named` under its name, but what cannot be pinned on this kernel.

        `attach`: programs stay attached as long as the pins are there. Raises: BpfError.
        """
        for name, each in named.items():
            path = os.path.join(self.directory, name)
            try:
                each.pin(path)
            except NotSupported as error:
                tell(f"not pinned: {name}: {error.hint}")
            else:
                self._pins.append(path)
                if attach:
                    self._attaching.append(path)

    def keep(self) -> None:
        """Let what was pinned stay."""
        self._kept = True

    def remove(self) -> None:
        """Remove what was made: pins, directories, the mount; what others removed or use meanwhile stays so."""
        for path in self._pins:
            _quietly(os.unlink, path)
        for path in reversed(self._directories):
            _quietly(os.rmdir, path)
        if self._mounted:
            ctypes.CDLL(None).umount2(os.fsencode(ROOT), 0)
        self._pins, self._directories, self._mounted = [], [], False

    def _tell_what_stays(self) -> None:
        left = [path for path in self._pins if os.path.lexists(path)]
        gone = [os.path.basename(path) for path in self._pins if path not in left]
        where = escaped(self.directory)
        mounted = f"; the bpf file system at {ROOT} stays mounted, too: umount {ROOT}" if self._mounted else ""
        if self._by_name_only:
            if left:
                names = ", ".join(map(os.path.basename, left))
                tell(f"the object pins {names} by name, in {where}, and it stays; to remove: {_rm(left)}{mounted}")
            return
        if not left:
            tell(f"nothing is pinned in {where}" + (": others removed what was" if gone else ""))
            return
        directories = [path for path in reversed(self._directories) if os.path.isdir(path)]
        rmdir = f" && rmdir {shlex.join(directories)}" if directories else ""
        attached = any(path in left for path in self._attaching)
        what = ", and still attached; to detach" if attached else "; to remove"
        others = f" (others removed {', '.join(gone)})" if gone else ""
        tell(f"pinned in {where}{others}{what}: {_rm(left)}{rmdir}")

    def _make(self, path: str) -> None:
        if os.path.isdir(path):
            return
        self._make(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            # bpf_mkdir() refuses names with dots by EPERM.
            dots = " (a bpf file system takes no dots in names)" if "." in os.path.basename(path) else ""
            raise Failure(
                f"--pin {escaped(self.directory)}: cannot make {escaped(path)}: {error.strerror}{dots}"
            ) from error
        self._directories.append(path)

    def _mount(self) -> None:
        below = os.path.realpath(self.directory)
        if below != ROOT and not below.startswith(f"{ROOT}/"):
            raise Failure(
                f"--pin {escaped(self.directory)}: not on a bpf file system, where alone maps can be pinned; "
                f"choose a directory under {ROOT}, or mount one: mount -t bpf bpf DIR"
            )
        occupied = _mounted_at(ROOT)
        if occupied or not os.path.isdir(ROOT):
            what = f"holds a {occupied} and no bpf file system" if occupied else "does not exist (no sysfs?)"
            raise Failure(f"--pin {escaped(self.directory)}: {ROOT} {what}; mount one elsewhere: mount -t bpf bpf DIR")
        libc = ctypes.CDLL(None, use_errno=True)
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        if libc.mount(b"bpf", os.fsencode(ROOT), b"bpf", flags, b"mode=0700"):
            reason = os.strerror(ctypes.get_errno())
            raise Failure(f"--pin {escaped(self.directory)}: cannot mount a bpf file system at {ROOT}: {reason}")
        self._mounted = True
        tell(f"mounted a bpf file system at {ROOT}, where there was none")


def _rm(paths: Iterable[str]) -> str:
    return f"rm {shlex.join(paths)}"


def _existing(path: str) -> str:
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _on_bpffs(path: str) -> bool:
    # os.statvfs() keeps the type to itself. It is the first word of struct statfs, 4 or 8 bytes wide.
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).statfs(os.fsencode(path), buffer):
        return False
    return _MAGIC in {*struct.unpack_from("=I", buffer), *struct.unpack_from("=Q", buffer)}


def _mounted_at(path: str) -> str:
    # The type of what is mounted there, empty for nothing. Source: Documentation/filesystems/proc.rst, 3.5 (v6.12)
    found = ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[4] == path:
                found = fields[fields.index("-") + 1]
    return found


def _quietly(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        pass
