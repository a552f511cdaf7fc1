"""Queues and stacks: values without keys, put in at one end and taken out at one.

Programs call bpf_map_push_elem, bpf_map_pop_elem and bpf_map_peek_elem; here they are methods, and the
bpf commands behind them are those of elements with no key. How many values there are, the kernel does
not tell, nor does it show any but the next one. Kernel side: kernel/bpf/queue_stack_maps.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import Empty
from rawbpf.map.base import Map
from rawbpf.map.memory import buffer_of
from rawbpf.map.missing import MISSING, Missing
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_ANY, BPF_EXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, overload

    from typing_extensions import TypeVar

    V = TypeVar("V", default=Any)
    D = TypeVar("D")


class _Values(Map[None, "V"]):
    __slots__ = ()

    _default_key = 0

    def push(self, value: V, overwrite: bool = False) -> None:
        """Put `value` in; where the map is full and `overwrite` is true, in place of the oldest value.

        Raises: MapFull (E2BIG); Closed; PermissionDenied (EPERM: frozen, or opened for reading only);
        TypeError, ValueError, OverflowError for a value that cannot be encoded.
        Since: Linux 4.20.
        Source: kernel/bpf/queue_stack_maps.c:queue_stack_map_push_elem
        """
        flags = BPF_EXIST if overwrite else BPF_ANY
        self._handle.call(command.map_update_elem, None, buffer_of(self._value.pack(value)), flags)

    if TYPE_CHECKING:

        @overload
        def pop(self) -> V: ...
        @overload
        def pop(self, default: D) -> V | D: ...

    def pop(self, default: D | Missing = MISSING) -> V | D | Missing:
        """Take the next value out and return it, or `default` where there is none and a default is given.

        Raises: Empty (ENOENT) without a default; Closed; PermissionDenied (EPERM).
        Since: Linux 4.20.
        Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem
        """
        return self._next(command.map_lookup_and_delete_elem, default)

    if TYPE_CHECKING:

        @overload
        def peek(self) -> V: ...
        @overload
        def peek(self, default: D) -> V | D: ...

    def peek(self, default: D | Missing = MISSING) -> V | D | Missing:
        """Return the next value and leave it where it is, or `default` where there is none.

        Raises: Empty (ENOENT) without a default; Closed; PermissionDenied (EPERM: opened for writing only).
        Since: Linux 4.20.
        Source: kernel/bpf/syscall.c:map_lookup_elem
        """
        return self._next(command.map_lookup_elem, default)

    def drain(self) -> Iterator[V]:
        """Yield values and take each out as it is yielded, until there is none.

        Raises: Closed; PermissionDenied (EPERM).
        """
        while True:
            try:
                value = self.pop()
            except Empty:
                return
            yield value

    def _next(self, call: Callable[..., None], default: D | Missing) -> V | D | Missing:
        room = ctypes.create_string_buffer(self._value.size)
        try:
            self._handle.call(call, None, room)
        except Empty:
            if default is MISSING:
                raise
            return default
        return self._value.unpack(room.raw)


class QueueMap(_Values["V"]):
    """A queue: the value that was pushed first is the next. It holds `max_entries` values, and takes no BTF.

    A map that was opened by id, pin or name has bytes as values, which `codec_for(...)` unpacks.
    """

    __slots__ = ()

    map_type = "queue"


class StackMap(_Values["V"]):
    """A stack: the value that was pushed last is the next. It holds `max_entries` values, and takes no BTF.

    A map that was opened by id, pin or name has bytes as values, which `codec_for(...)` unpacks.
    """

    __slots__ = ()

    map_type = "stack"
