"""What every codec offers, and what they share: names of places in messages, and how values are shown.

A codec turns the bytes of one C type into a Python value and back. Each does it twice: `encode` and
`decode` are the reference, plain and with the path of the field in every message; `pack` and
`unpack` do the same fast, and hand what they refuse to the reference, which says why. Nothing here
knows maps, kernels or where types come from.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Generic, Literal, TypeVar

    from rawbpf.btf.build import Builder
    from rawbpf.btf.types import Type
    from rawbpf.codec.dtype import Array, DType

    T_co = TypeVar("T_co", covariant=True)
    Raw = bytes | bytearray | memoryview
    ByteOrder = Literal["little", "big"]
else:
    # typing costs 7 ms to import; Generic[T_co] needs only to be a class to inherit from.
    T_co = None

    class Generic:
        """Stands in for typing.Generic at run time."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))


NATIVE: ByteOrder = sys.byteorder

_SHOWN = 60


class Codec(Generic[T_co]):
    """Bytes of one C type to values of `T_co` and back.

    `size` and `alignment` are bytes, `name` is what C or rawbpf calls the type. `format` is the one
    native struct character with which `memoryview.cast` reads and writes the whole value, None where
    the value needs more. `hashable`: values can be keys of a dict.

    A codec of one's own sets `size` and `name` and overrides `pack` and `unpack`; `field_names` if its values have
    attributes that `sum()` and its like may be asked for.
    """

    name: str
    size: int
    alignment: int = 1
    format: str | None = None
    hashable: bool = True
    leaves: int = 1
    """How many single values one value holds; what bounds the time that reading takes."""
    special: bool = False
    """Whether the kernel keeps it for itself, so that records of a struct with it have no such field."""
    field_names: tuple[str, ...] = ()
    """By what names the parts of a value are read."""
    source: Type | None = None
    """The BTF type that this is the codec of."""

    def pack(self, value: object, /) -> bytes:
        """Return the `size` bytes of `value`.

        Raises: TypeError for a value of the wrong kind, OverflowError for a number out of range,
        ValueError for a wrong length; each names the field and what was expected.
        """
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> T_co:
        """Return the value of exactly `size` bytes, which are copied. Raises ValueError for another size."""
        return self.decode(exactly(buffer, self.size, self.name))

    def encode(self, value: object, where: str) -> bytes:
        """Return what `pack` does, by the reference; `where` opens the messages, such as `event.pos.x`."""
        try:
            return self.pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise located(error, where) from error

    def decode(self, raw: bytes) -> T_co:
        """Return what `unpack` does, by the reference; `raw` has the right size."""
        return self.unpack(raw)

    def unpack_many(self, buffer: Raw, count: int) -> list[T_co]:
        """Return the first `count` values of `buffer`, which lie side by side."""
        size, unpack, view = self.size, self.unpack, memoryview(buffer)
        if len(view) < count * size:
            raise ValueError(f"expected {count} times {size} bytes ({self.name}), got {len(view)}")
        if not size:
            return [unpack(b"") for _ in range(count)]
        return [unpack(view[at : at + size]) for at in range(0, count * size, size)]

    def pack_many(self, values: Iterable[object]) -> bytes:
        """Return the bytes of all `values` side by side. Raises what `pack` does, with the index."""
        values = values if isinstance(values, (list, tuple)) else list(values)
        try:
            return b"".join(map(self.pack, values))
        except (TypeError, ValueError, OverflowError):
            for index, value in enumerate(values):
                self.encode(value, f"[{index}]")
            raise

    def iter_unpack(self, memory: object, /) -> Iterator[T_co]:
        """Yield the values that lie in `memory`: side by side or, if it has rows, one at the start of each row.

        Raises: ValueError where that is not so; TypeError for what is no memory, or has gaps.
        """
        from rawbpf.codec.view import iter_values

        return iter_values(self, memory)

    def view(self, memory: object, /) -> memoryview:
        """Return the values that lie in `memory` as a view of it, in which reading and writing is a matter of indices.

        Numbers in native order are items, arrays of them a dimension more, enumerations and truth values numbers;
        all else is a row of bytes for each value. `memory`: as `iter_unpack` takes it. Raises: as `iter_unpack`.
        """
        from rawbpf.codec.view import view_of

        return view_of(self, memory)

    def column(self, memory: object, field: str, /) -> memoryview:
        """Return one field of the structs that lie in `memory`, as a view of numbers, an item per struct.

        `field` may be a path, such as `pos.x`; of per-CPU values there is an item per CPU, value by value.
        `memory`: as `iter_unpack` takes it.
        Raises: ValueError for no such field, one that is no number in native order, or one that a view cannot
        step to (offsets and distances have to be multiples of its size); as `iter_unpack`.
        """
        from rawbpf.codec.view import column_of

        return column_of(self, memory, field)

    @property
    def dtype(self) -> DType:
        """The dtype of such values in numpy, with every field where C has it.

        Raises: ImportError where numpy is not installed; ValueError for more bytes than it can count.
        """
        from rawbpf.codec.dtype import dtype_of

        return dtype_of(self)

    def as_numpy(self, memory: object, /) -> Array:
        """Return the values that lie in `memory` as a numpy array over it: nothing is copied.

        `memory`: as `iter_unpack` takes it. Raises: as `iter_unpack` and `dtype`.
        """
        from rawbpf.codec.dtype import array_of

        return array_of(self, memory)

    def explain(self) -> str:
        """Return in words how the bytes are laid out."""
        return f"{self.name}: {counted(self.size)}, aligned to {self.alignment}"

    def add_to(self, builder: Builder) -> int:
        """Add this type to `builder` and return its BTF id; 0 for no bytes, of which there is no type."""
        if self.source is not None and self.source.btf.byteorder == builder.byteorder:
            return builder.add(self.source)
        return self.build(builder)

    def build(self, builder: Builder) -> int:
        """Do what `add_to` does for a codec that did not come from BTF: its bytes, where it says no more."""
        return builder.array(builder.int("unsigned char", 1), self.size) if self.size else 0

    def __call__(self, *values: object, **named: object) -> T_co:
        """Return the value that reading back `values` (one, or the fields of a struct) would give."""
        if named or len(values) != 1:
            raise TypeError(f"{self.name} takes one value")
        return self.unpack(self.pack(values[0]))

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return self.name.rpartition(" ")[2]

    def __repr__(self) -> str:
        return f"<codec {self.name}, {counted(self.size)}>"


def exactly(buffer: Raw, size: int, name: str) -> bytes:
    """Return `buffer` as bytes. Raises ValueError unless it has `size`."""
    raw = bytes(buffer)
    if len(raw) != size:
        raise ValueError(f"{name}: expected {size} bytes, got {len(raw)}")
    return raw


def inside(where: str, name: str) -> str:
    """Return the path of the field `name` of what is at `where`."""
    return f"{where}.{name}" if where else name


def refuse(where: str, expected: str, value: object) -> TypeError:
    """Return the TypeError that says what was `expected` at `where` instead of `value`."""
    return TypeError(f"{where}: expected {expected}, got {shown(value)} ({type(value).__name__})")


def counted(size: int) -> str:
    """Return `size` with its unit."""
    return "1 byte" if size == 1 else f"{size} bytes"


def shown(value: object) -> str:
    """Return the repr of `value`, short enough for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def located(error: Exception, where: str) -> TypeError | ValueError | OverflowError:
    """Return an error of the same kind whose message opens with `where`."""
    message = f"{where}: {error}"
    if isinstance(error, OverflowError):
        return OverflowError(message)
    return TypeError(message) if isinstance(error, TypeError) else ValueError(message)
