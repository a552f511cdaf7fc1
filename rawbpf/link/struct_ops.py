"""Tables of functions as something to attach: while its link is open, the kernel calls the programs of a table.

Without BPF_F_LINK filling a table registers it, and deleting its element ends that.
Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_link_create, bpf_struct_ops_map_delete_elem (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.link.base import Attachment, Link
from rawbpf.link.deferral import owned
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import link
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_F_LINK, BPF_LINK_CREATE, BPF_STRUCT_OPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.map.struct_ops import StructOpsMap

_ENOENT, _EBUSY, _EINVAL, _EINPROGRESS = 2, 16, 22, 115
_KEY = bytes(4)


class Registration(Attachment):
    """The registration of a table that was made without BPF_F_LINK: closing it ends that.

    It goes on where the process ends without that; the table is then found by `rawbpf.maps(type="struct_ops")`.
    """

    __slots__ = ()

    _why = "the table was made without BPF_F_LINK, and is registered without a link object"

    def close(self) -> None:
        """End the registration; what uses the table, as a connection, keeps it. Idempotent. Raises: BpfError."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            command.map_delete_elem(self._backend, fd, buffer_of(_KEY))
        except BpfError as error:
            if error.errno not in (_ENOENT, _EINPROGRESS):  # somebody else has ended it
                raise
        finally:
            self._close_own(fd)


def attach_struct_ops(table: StructOpsMap, value: bytes | None = None) -> Link:
    """Register `table` and return the link.

    `value`: what to fill it with before, in the kernel's layout, unless it was filled; None where it was.
    Raises: as `StructOpsMap.attach`.
    """
    backend, shape = table._handle.backend, table._shape
    target = f"struct_ops {shape.name!r}"

    def fill() -> None:
        if value is not None:
            table._handle.call(command.map_update_elem, buffer_of(_KEY), buffer_of(value))

    def register() -> Link:
        with table._handle as fd:
            own = backend.dup(fd)
        try:
            fill()
        except BaseException:
            backend.close(own)
            raise
        return Registration(backend, own, target)

    def attach() -> Link:
        try:
            fill()
        except BpfError as error:
            if error.errno != _EBUSY:  # it is filled once, and links may come and go
                raise
        with table._handle as fd:
            made = link.link_create(backend, prog_fd=fd, attach_type=BPF_STRUCT_OPS, subject=target)
        return Link(backend, made, target)

    if value is None and table.state.name.endswith("_INIT"):
        hint = "the table was not filled: m[0] = {...} does that, and registers it unless it was made with BPF_F_LINK"
        raise BpfError(
            _EINVAL, call="link_create", cmd=BPF_LINK_CREATE, subject=target, hint=hint, backend=backend.name
        )
    return owned(attach if shape.map_flags & BPF_F_LINK else register)
