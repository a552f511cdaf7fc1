"""What everything that owns a descriptor shares: whose it is, where it was opened, and the warning when it is lost."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


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
