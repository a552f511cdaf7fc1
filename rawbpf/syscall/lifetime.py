"""What everything that owns a descriptor shares: whose it is, where it was opened, and the warning when it is lost.

A number is no proof. Others may have closed the descriptor, by os.close() or because its kernel ended, and the
number may be another file's since: closing that would be a bug in a part of the program that has nothing to do
with maps. So `own` notes what the number led to, and `owns` tells whether it still does.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

# Who opened each number last, by the tuple that `own` returned: the objects of a real kernel share one inode, and of
# two owners of a number the earlier one has lost it. Entries stay, one for each number that was ever used.
_owners: dict[int, tuple[int, int]] = {}


def mark(backend: Backend) -> str:
    """Return what a repr ends with: nothing for the kernel, ` [sim]` for a simulated one."""
    return "" if backend.name == "kernel" else f" [{backend.name}]"


def opened_at() -> str:
    """Return `file:line` of the nearest caller outside rawbpf."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rawbpf."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn_unclosed(owner: object, where: str) -> None:
    """Emit the ResourceWarning for `owner`, which is being dropped without `close()`."""
    # Where nobody imported the module, by an option or a filter of his own, this warning would not be shown.
    warnings = sys.modules.get("warnings")
    if warnings is not None:
        warnings.warn(f"unclosed {owner!r}, opened at {where}", ResourceWarning, source=owner, stacklevel=3)


def identity(fd: int) -> tuple[int, int]:
    """Return what `fd` leads to: device and inode, (-1, -1) where it is not open."""
    try:
        status = os.fstat(fd)
    except (OSError, OverflowError):
        return -1, -1
    return status.st_dev, status.st_ino


def own(fd: int) -> tuple[int, int]:
    """Note that `fd` was opened just now, and return the mark by which its owner knows it again."""
    mark = _owners[fd] = identity(fd)
    return mark


def owns(fd: int, mark: tuple[int, int]) -> bool:
    """Return whether `fd` is still the descriptor that `own` returned `mark` for, and not closed by others since."""
    return _owners.get(fd) is mark and mark != (-1, -1) and identity(fd) == mark
