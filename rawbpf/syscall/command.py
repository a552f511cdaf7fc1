"""One bpf(2) command from field values to its result or its error: what all command functions share.

Must not know any single command: `map`, `prog`, `obj`, `btf`, `link` and `misc` have those.
"""

from __future__ import annotations

from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import AttrBuffer, Layout

_U32 = 0xFFFF_FFFF  # what -1 is in a field of the attr


def pack(layout: Layout, values: dict[str, int | bytes]) -> AttrBuffer:
    """Return the attr with `values` in it. A closed descriptor (-1) is for the kernel to refuse, not for struct."""
    attr = layout.pack()
    for field, value in values.items():
        closed = isinstance(value, int) and value < 0 and field.endswith("fd")
        layout.set(attr, field, _U32 if closed and not layout.is_signed(field) else value)
    return attr


def command(
    backend: Backend,
    layout: Layout,
    values: dict[str, int | bytes],
    *,
    subject: str = "",
    map_type: int | None = None,
    blocking: bool = False,
) -> tuple[int, AttrBuffer]:
    """Make the call that `layout` is of; return its result and the attr, into which the kernel may have written.

    `subject` is what messages say it was done to. Raises: BpfError of the class that the error table says.
    """
    attr = pack(layout, values)
    result = invoke(backend, layout.cmd, attr, layout.size, blocking=blocking)
    if result < 0:
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, map_type=map_type, values=values)
    return result, attr
