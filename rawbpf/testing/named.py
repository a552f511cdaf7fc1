"""What stands for a descriptor in plain data: a name, that each kernel resolves to an object of its own.

Programs, inner maps, sockets and cgroups have other descriptors and ids on each kernel that is compared. An
operation names them (`Named("program 2")`), and what a kernel reads back as an id is named again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple


def told(row: tuple[object, ...]) -> Iterator[str]:
    """Yield `field=value` of a NamedTuple, for the fields that are not what they are by default, as can be pasted."""
    defaults: dict[str, object] = getattr(row, "_field_defaults", {})
    for field, value in zip(getattr(row, "_fields", ()), row, strict=True):
        if field not in defaults or value != defaults[field]:
            yield f"{field}={spelled(value)}"


def spelled(value: object) -> str:
    """Return `value` as Python: long bytes that repeat themselves as a product."""
    if isinstance(value, bytes) and len(value) > 8:
        for unit in (1, 8):
            times, rest = divmod(len(value), unit)
            if not rest and value == value[:unit] * times:
                return f"{value[:unit]!r} * {times}"
    if type(value) is tuple:
        return f"({', '.join(map(spelled, value))}{',' * (len(value) == 1)})"
    return repr(value)


class Named(NamedTuple):
    """The descriptor of the object `name`, in the last bytes of a key or value of `size` bytes.

    `before`: the bytes in front of it (an ifindex). The same stands for the id, or cookie, that is read back.
    """

    name: str
    before: bytes = b""
    size: int = 4

    def __repr__(self) -> str:
        return f"Named({', '.join(told(self))})"


class Objects:
    """The objects of one kernel: `fds` by name, and the names by what is read back: (kind, id or cookie).

    Holds descriptors for nobody: who adds one closes it.
    """

    def __init__(self) -> None:
        self.fds: dict[str, int] = {"descriptor -1": -1}
        self.names: dict[tuple[str, int], str] = {}

    def add(self, name: str, fd: int, kind: str = "", number: int = 0) -> None:
        """Let `name` stand for `fd`; `kind` is program, map or socket and `number` its id or cookie."""
        self.fds[name] = fd
        if kind:
            self.names[kind, number] = name

    def encode(self, named: Named) -> bytes:
        """Return the bytes that this kernel takes for `named`. Raises: ValueError for an unknown name."""
        fd = self.fds.get(named.name)
        if fd is None:
            raise ValueError(f"nothing is called {named.name!r} here: {', '.join(sorted(self.fds))}")
        width = named.size - len(named.before)
        return named.before + (fd & (1 << 8 * min(width, 4)) - 1).to_bytes(width, sys.byteorder)

    def decode(self, kind: str, offset: int, value: bytes) -> bytes | Named:
        """Return `value`, whose bytes from `offset` are an id or cookie, with the object's name if it has one."""
        name = self.names.get((kind, int.from_bytes(value[offset:], sys.byteorder)))
        return value if name is None else Named(name, value[:offset], len(value))


NOTHING = Objects()
"""For maps that hold no objects."""
