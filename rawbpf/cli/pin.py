"""`--pin DIR`: maps and links under names in a bpffs, and the bpffs itself where there is none.

The library pins where a bpffs is; only the command line mounts one. What was made here is removed
again unless it is kept. Kernel side: kernel/bpf/inode.c (v6.12).
"""

from __future__ import annotations

import ctypes
import os
import struct

from rawbpf.cli.failure import Failure, tell
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
    """The pins that one run makes in `directory`; at the end of a `with` block they go, unless `keep` was called."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self._pins: list[str] = []
        self._directories: list[str] = []
        self._mounted = False
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
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
            raise Failure(f"--pin {self.directory}: {what}; remove what is there, or choose another directory")
        paths = (os.path.join(self.directory, name) for name in shared)
        self._pins += [path for path in paths if not os.path.lexists(path)]

    def add(self, named: Mapping[str, Pinnable]) -> None:
        """Pin each of `named` under its name, but what cannot be pinned on this kernel. Raises: BpfError."""
        for name, each in named.items():
            path = os.path.join(self.directory, name)
            try:
                each.pin(path)
            except NotSupported as error:
                tell(f"not pinned: {name}: {error.hint}")
            else:
                self._pins.append(path)

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

    def _make(self, path: str) -> None:
        if os.path.isdir(path):
            return
        self._make(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            # bpf_mkdir() refuses names with dots by EPERM.
            dots = " (a bpf file system takes no dots in names)" if "." in os.path.basename(path) else ""
            raise Failure(f"--pin {self.directory}: cannot make {path}: {error.strerror}{dots}") from error
        self._directories.append(path)

    def _mount(self) -> None:
        below = os.path.realpath(self.directory)
        if below != ROOT and not below.startswith(f"{ROOT}/"):
            raise Failure(
                f"--pin {self.directory}: not on a bpf file system, where alone maps can be pinned; "
                f"choose a directory under {ROOT}, or mount one: mount -t bpf bpf DIR"
            )
        occupied = _mounted_at(ROOT)
        if occupied or not os.path.isdir(ROOT):
            what = f"holds a {occupied} and no bpf file system" if occupied else "does not exist (no sysfs?)"
            raise Failure(f"--pin {self.directory}: {ROOT} {what}; mount one elsewhere: mount -t bpf bpf DIR")
        libc = ctypes.CDLL(None, use_errno=True)
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        if libc.mount(b"bpf", os.fsencode(ROOT), b"bpf", flags, b"mode=0700"):
            reason = os.strerror(ctypes.get_errno())
            raise Failure(f"--pin {self.directory}: cannot mount a bpf file system at {ROOT}: {reason}")
        self._mounted = True
        tell(f"mounted a bpf file system at {ROOT}, where there was none")


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
