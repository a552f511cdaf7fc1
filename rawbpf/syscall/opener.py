"""How a program is opened by its id, for layers that do not know programs: `default` fills it in.

A map that holds programs reads back their ids; what opens one is above it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from rawbpf.syscall.protocol import Backend

    # A `rawbpf.Program`, which this layer and those that call it cannot name.
    AnyProgram: TypeAlias = Any

program: Callable[[int, Backend], AnyProgram] | None = None


def open_program(backend: Backend, prog_id: int) -> AnyProgram:
    """Return the program with this id, open. Raises: BpfError (ENOENT); PermissionDenied (EPERM)."""
    if program is None:
        raise RuntimeError("nothing opens programs: import rawbpf first")
    return program(prog_id, backend)
