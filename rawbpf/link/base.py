"""What all links share: closing detaches, pinning keeps attached, and what the kernel tells of them.

How a program is attached is not known here: each hook has a file of its own. Kernel side:
kernel/bpf/syscall.c:bpf_link_new_fd (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.errors import NotSupported
from rawbpf.syscall import link as command
from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import Descriptor
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi.constants import BPF_F_REPLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Self

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.link.info import LinkInfo
    from rawbpf.syscall.protocol import Backend


_EOPNOTSUPP = 95


class Link(Descriptor):
    """A program's attachment. `close()`, the end of a `with` block, or the end of the process detaches it.

    `target` says what it is attached to, as `tracepoint sched/sched_switch`, `program_name` of which
    program it is. A pinned link stays attached until its pin is removed as well.
    """

    __slots__ = ("_program_name", "_target")

    def __init__(self, backend: Backend, fd: int, target: str) -> None:
        super().__init__(backend, fd)
        self._target = target
        # The program that attaches fills it in: whoever attaches a bare descriptor has no name to give.
        self._program_name = ""

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str], *, backend: Backend | None = None) -> Self:
        """Return the link that is pinned at `path`.

        Raises: NotFound (ENOENT); BpfError (EINVAL: it is no link); PermissionDenied (EACCES). Since: Linux 5.7.
        """
        backend = backend or current()
        return cls._checked(backend, obj.obj_get(backend, os.fsencode(path)))

    @classmethod
    def from_id(cls, link_id: int, *, backend: Backend | None = None) -> Self:
        """Return the link with this id. Raises: NotFound (ENOENT); PermissionDenied (EPERM). Since: Linux 5.8."""
        backend = backend or current()
        return cls._checked(backend, obj.link_get_fd_by_id(backend, link_id))

    @classmethod
    def _checked(cls, backend: Backend, fd: int) -> Self:
        from rawbpf.link.info import read_info
        from rawbpf.syscall.descriptor import require_kind

        try:
            require_kind(backend, fd, "link")
            target = read_info(backend, fd).describe()
        except BaseException:
            backend.close(fd)
            raise
        return cls(backend, fd, target)

    @property
    def target(self) -> str:
        """What it is attached to."""
        return self._target

    @property
    def program_name(self) -> str:
        """The name of the program that it was attached by; empty for a link that was opened: see `info.prog_id`."""
        return self._program_name

    @property
    def info(self) -> LinkInfo:
        """What the kernel tells of the link now. Raises: Closed; NotSupported where there is no link object."""
        from rawbpf.link.info import read_info

        return read_info(self._backend, self.fileno())

    @property
    def id(self) -> int:
        """The kernel's id of the link. Raises: as `info`."""
        return self.info.id

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the link a name in a bpf file system: it stays attached without this process.

        Raises: Closed; KeyExists (EEXIST); NotFound (ENOENT); PermissionDenied (EPERM: no bpf file system);
        NotSupported where there is no link object. Since: Linux 5.7.
        """
        obj.obj_pin(self._backend, self.fileno(), os.fsencode(path), subject=f"{self._target} at {os.fspath(path)!r}")

    def update(self, program: HasFileno, *, expected: HasFileno | None = None) -> None:
        """Put `program` in the place of the one that is attached: none of what happens meanwhile is missed.

        `program` and `expected` are loaded for the same place. With `expected` that one must be attached now.
        Raises: Closed; BpfError (EINVAL: this kind of link keeps its program, or `program` is of another
        type; ENOLINK: what it was attached to is gone); PermissionDenied (EPERM: another than `expected`
        is attached); NotSupported where there is no link object. Since: Linux 5.7.
        Source: kernel/bpf/syscall.c:link_update
        """
        command.link_update(
            self._backend,
            self.fileno(),
            new_prog_fd=program.fileno(),
            old_prog_fd=None if expected is None else expected.fileno(),
            flags=0 if expected is None else BPF_F_REPLACE,
            subject=self._target,
        )
        self._program_name = getattr(program, "name", "")

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"fd {self._fd}"
        of = f", of {self._program_name!r}" if self._program_name else ""
        return f"<{type(self).__name__} {self._target}, {where}{of}{mark(self._backend)}>"


class Attachment(Link):
    """An attachment on a kernel that has no link object for it: it has no id and cannot be pinned.

    The program stays attached until this is closed.
    """

    __slots__ = ()

    # Why there is none.
    _why: ClassVar[str] = ""

    @property
    def info(self) -> LinkInfo:
        """Not to be had. Raises: Closed, NotSupported."""
        self.fileno()
        raise self._lacking("get info of")

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Not to be had. Raises: Closed, NotSupported."""
        self.fileno()
        raise self._lacking(f"pin at {os.fspath(path)!r}")

    def update(self, program: HasFileno, *, expected: HasFileno | None = None) -> None:
        """Not to be had. Raises: Closed, NotSupported."""
        del program, expected
        self.fileno()
        raise self._lacking("update")

    def _lacking(self, verb: str) -> NotSupported:
        return NotSupported(_EOPNOTSUPP, call=verb, subject=self._target, hint=self._why, backend=self._backend.name)


class EventLink(Attachment):
    """An attachment by perf event on kernels before 5.15, which have no link objects for those."""

    __slots__ = ()

    _why = "it is attached by ioctl, because this kernel has no link objects for perf events (since Linux 5.15)"
