"""Every bpf call seen: printed, decoded, or counted by a test.

Attributes are decoded as they were handed in; pointers are shown, what they point to is not.
"""

from __future__ import annotations

import ctypes
import sys
from itertools import starmap
from operator import call as apply

from rawbpf.errors import errno_name
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi.attr import LAYOUTS
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend


class Call:
    """One bpf call: `cmd`, the attribute's non-zero `fields`, `result`, and `errno` (0 unless result is -1)."""

    __slots__ = ("cmd", "errno", "fields", "result")

    def __init__(self, cmd: int, fields: dict[str, int | bytes], result: int, errno: int) -> None:
        self.cmd = cmd
        self.fields = fields
        self.result = result
        self.errno = errno

    def __repr__(self) -> str:
        return f"<Call {self}>"

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={_shown(value)}" for name, value in self.fields.items())
        end = f"-1 {errno_name(self.errno)}" if self.result < 0 else str(self.result)
        return f"bpf({cmd_name(self.cmd)}, {{{fields}}}) = {end}"


class TraceBackend(Wrapper):
    """Hands each call to `sink` after it was made; by default prints it to standard error."""

    def __init__(self, inner: Backend, sink: Callable[[Call], object] | None = None) -> None:
        super().__init__(inner)
        self._sink = sink or _print

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        """Make the call and hand it to the sink."""
        fields = _decode(cmd, attr, size)
        # In one step, as in `invoke`.
        result, number = starmap(apply, ((call, cmd, attr, size), (ctypes.get_errno,)))
        number = number if result < 0 else 0
        self._sink(Call(cmd, fields, result, number))
        ctypes.set_errno(number)
        return int(result)


def _decode(cmd: int, attr: ByRef, size: int) -> dict[str, int | bytes]:
    layout = LAYOUTS.get(cmd)
    if layout is None:
        return {"attr": ctypes.string_at(attr, size)}
    # Fields that lie beyond the size handed in are what the buffer happened to hold: not part of the call.
    image = ctypes.create_string_buffer(ctypes.string_at(attr, size), 256)
    # Members of a union share an offset: the first name stands for all.
    names = {offset: name for name, offset, _ in reversed(layout.fields) if offset < size}
    values = ((name, layout.get(image, name)) for name in reversed(names.values()))
    return {
        name: value for name, value in values if value and value != bytes(len(value) if isinstance(value, bytes) else 0)
    }


def _shown(value: int | bytes) -> str:
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("ascii", "backslashreplace")
    return str(value) if value < 1 << 32 else hex(value)


def _print(call: Call) -> None:
    sys.stderr.write(f"{call}\n")
