"""Arrays of programs, for tail calls.

The kernel checks that all programs of an array fit each other when one is stored or refers to the
array: the first settles what the others must be. Kernel side: kernel/bpf/arraymap.c:prog_fd_array_get_ptr,
kernel/bpf/core.c:__bpf_prog_map_compatible (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import ProgId
from rawbpf.map.slot import ReadableSlotMap
from rawbpf.syscall import opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.opener import AnyProgram


class ProgArrayMap(ReadableSlotMap[int, ProgId]):
    """An array of programs that programs jump into, a dict of its slots: `m[i] = program`, `m[i]` is a ProgId.

    A program that jumps to an empty slot, or beyond the last, goes on behind the call.
    """

    __slots__ = ()

    map_type = "prog_array"
    _index_keys = True
    _default_key = "u32"
    _noun = "a program"
    _kind = "program"
    _identity = ProgId

    def open(self, key: int) -> AnyProgram:
        """Return the program in slot `key` as an open `Program`.

        Raises: KeyNotFound for an empty slot; IndexOutOfRange; PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, lambda held: opener.open_program(self._handle.backend, held))
