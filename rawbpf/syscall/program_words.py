"""A program in words, for messages that say which one is meant and why it does not suit.

Asked only after a refusal.
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.syscall import obj
from rawbpf.uapi.info import PROG_INFO
from rawbpf.uapi.names import prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rawbpf.syscall.protocol import Backend


def wrong_type(backend: Backend, prog_fd: int, types: Iterable[int]) -> str:
    """Return what is wrong with the type of the program behind `prog_fd`; empty if it is one of `types`."""
    info = PROG_INFO.unpack(obj.obj_get_info_by_fd(backend, prog_fd, PROG_INFO.size))
    if info["type"] in types:
        return ""
    wanted = " or ".join(prog_type_name(number) for number in types)
    name = info["name"].rstrip(b"\0").decode("ascii", "replace")
    return f"it takes programs of type {wanted}, and {name!r} is of type {prog_type_name(info['type'])}"


def named_program(backend: Backend, prog_id: int) -> str:
    """Return the program with this id in words: with its name, where this process may ask for it."""
    try:
        fd = obj.prog_get_fd_by_id(backend, prog_id)
    except BpfError:
        return f"program {prog_id}"
    try:
        info = PROG_INFO.unpack(obj.obj_get_info_by_fd(backend, fd, PROG_INFO.size))
    finally:
        backend.close(fd)
    name = info["name"].rstrip(b"\0").decode("ascii", "replace")
    return f"program {name!r} (id {prog_id})" if name else f"program {prog_id}"
