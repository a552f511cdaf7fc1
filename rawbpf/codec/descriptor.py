"""Values that are a descriptor on the way in and an id on the way out.

Maps of programs, maps, sockets and cgroups take the descriptor of what they shall hold, and read back
the kernel's id of it: the number that was written is not the number that is read. An int is therefore
refused, because it could be either, and what is read is of a type that says what it is.
"""

from __future__ import annotations

from rawbpf.codec.base import NATIVE, Codec, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rawbpf.btf.build import Builder

    class HasFileno(Protocol):
        """What is open and has a descriptor: a program, a map, a socket, a file."""

        def fileno(self) -> int:
            """Return the descriptor."""


class ProgId(int):
    """The kernel's id of a program; `Program.from_id` opens it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"ProgId({int(self)})"


class MapId(int):
    """The kernel's id of a map; `Map.from_id` opens it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"MapId({int(self)})"


class DescriptorCodec(Codec[int]):
    """A descriptor of `size` bytes (4 or 8), of `noun`, such as "a program"; reads back as an `identity`."""

    def __init__(self, noun: str, identity: type[int] = int, size: int = 4) -> None:
        self.noun = noun
        self.identity = identity
        self.size = self.alignment = size
        # What else may be written in its place, such as a path, is no part of the name.
        self.name = f"descriptor of {noun.partition(',')[0]}"

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return "value"

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of what `value.fileno()` returns; messages open with `where`."""
        return descriptor_of(value, self.noun, where).to_bytes(self.size, NATIVE)

    def decode(self, raw: bytes) -> int:
        """Return the id that the kernel gives for what it holds."""
        return self.identity(int.from_bytes(raw, NATIVE))

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of what `value.fileno()` returns. Raises: TypeError for what has none; ValueError."""
        return self.encode(value, self.label)

    def build(self, builder: Builder) -> int:
        """Add an unsigned int."""
        return builder.int("unsigned int" if self.size == 4 else "unsigned long long", self.size)


def descriptor_of(value: object, noun: str, where: str) -> int:
    """Return the descriptor of `value`, an open object; messages open with `where`.

    Raises: TypeError for what has no fileno(), ints among them; ValueError for what is closed.
    """
    fileno = getattr(value, "fileno", None)
    if fileno is None:
        number = isinstance(value, int)
        why = " (a number may be a descriptor or an id, so that neither is taken)" if number else ""
        raise refuse(where, f"{noun}, open, as an object with fileno(){why}", value)
    fd = fileno()
    if not isinstance(fd, int) or fd < 0:
        raise ValueError(f"{where}: expected {noun} that is open, but {value!r} is closed")
    return fd
