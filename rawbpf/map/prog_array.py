"""Arrays of programs, for tail calls.

The kernel checks that all programs of an array fit each other when one is stored or refers to the
array: the first settles what the others must be. Kernel side: kernel/bpf/arraymap.c:prog_fd_array_get_ptr,
kernel/bpf/core.c:__bpf_prog_map_compatible (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import ProgId
from rawbpf.map.slot import ReadableSlotMap
from rawbpf.syscall import opener
from rawbpf.syscall.obj import obj_get_info_by_fd
from rawbpf.uapi.info import PROG_INFO
from rawbpf.uapi.names import prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.errors import BpfError
    from rawbpf.syscall.opener import AnyProgram

_EINVAL = 22


class ProgArrayMap(ReadableSlotMap[int, ProgId]):
    """An array of programs that programs jump into, a dict of its slots: `m[i] = program`, `m[i]` is a ProgId.

    A program that jumps to an empty slot, or beyond the last, goes on behind the call.
    """

    __slots__ = ()

    map_type = "prog_array"
    _index_keys = True
    _default_key = "u32"
    _noun = "a program"
    _bpf_kind = "program"
    _identity = ProgId

    def open(self, key: int) -> AnyProgram:
        """Return the program in slot `key` as an open `Program`.

        Raises: KeyNotFound for an empty slot; IndexOutOfRange; PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, lambda held: opener.open_program(self._handle.backend, int(held)))

    def _why(self, error: BpfError, value: HasFileno) -> str:
        why = super()._why(error, value)
        owner = None if why or error.errno != _EINVAL else self.info.owner_prog_type
        if owner is None:
            return why
        backend = self._handle.backend
        info = PROG_INFO.unpack(obj_get_info_by_fd(backend, value.fileno(), PROG_INFO.size))
        name = info["name"].rstrip(b"\0").decode("ascii", "replace")
        if info["type"] == owner:
            alike = "programs of an array also agree in JIT compilation, XDP fragments, cgroup storage and attach type"
            return f"{error.hint}; {alike}"
        settled = f"its first program, stored here or referring to it, made this an array of {prog_type_name(owner)}"
        return f"{settled} programs, and {name!r} is of type {prog_type_name(info['type'])}"
