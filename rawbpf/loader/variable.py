"""A global variable of a loaded object: read and written in the memory that the program uses.

The data section's map is mapped into this process where the kernel allows it (Linux 5.5): a write
then touches that variable alone. Elsewhere the section is read whole, and writing is refused, because
writing it whole would undo what programs change meanwhile.
"""

from __future__ import annotations

import sys
from types import GenericAlias

from rawbpf.codec import codec_for
from rawbpf.codec.array import ArrayCodec
from rawbpf.errors import NotSupported, PermissionDenied
from rawbpf.map.mapped import live_memory, map_array
from rawbpf.map.mapping import refused
from rawbpf.map.memory import cast_view
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi.constants import BPF_F_MMAPABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from typing import Any, Generic, NoReturn

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.codec.dtype import Array
    from rawbpf.map.base import Map
    from rawbpf.spec.variable import VariableSpec

    T = TypeVar("T", default=Any)

    class _Base(Generic[T]):
        pass
else:

    class _Base:
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


_EPERM, _EINVAL = 1, 22
_WORDS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Section:
    """The memory of one data section's map, mapped when it is first read, and for writing when it is first written.

    It is among what the map lets go of when it is frozen or closed (`Handle.mapped`).
    """

    __slots__ = ("_mapped", "map")

    def __init__(self, section: Map[Any, Any]) -> None:
        self.map = section
        self._mapped: dict[bool, mmap.mmap] = {}
        section._handle.mapped.append(self)

    def view(self, *, writable: bool) -> memoryview | None:
        """Return the section's memory; None where it cannot be mapped.

        Raises: Closed; PermissionDenied (EPERM: frozen), if it is to be written.
        """
        handle, shape = self.map._handle, self.map._shape
        with handle as fd:
            if not shape.map_flags & BPF_F_MMAPABLE:
                return None
            mapped = self._mapped.get(writable)
            if mapped is None:
                try:
                    mapped = map_array(handle, fd, shape, writable=writable)
                except PermissionError as error:
                    if writable:
                        raise refused(handle, error) from None
                    return None
                except OSError:  # a lock among the variables, for one
                    return None
                mapped = self._mapped.setdefault(writable, mapped)
        if handle.fd < 0:
            self.drop()
        return memoryview(mapped)

    def live(self, *, writable: bool) -> memoryview:
        """Return the section's memory for somebody to keep. Raises: as `live_memory`."""
        return live_memory(self.map._handle, self.map._shape, writable=writable)

    def stop_writing(self) -> None:
        """Let go of the memory for writing: the map cannot be frozen while it is mapped so."""
        self._mapped.pop(True, None)

    def drop(self) -> None:
        """Let go of the memory, which keeps the map alive in the kernel. Idempotent."""
        self._mapped.clear()

    close = drop


class Variable(_Base["T"]):
    """A variable of a loaded object: `obj.variables["dropped"].value`. `constant`: it lies in `.rodata`."""

    __slots__ = ("_codec", "_section", "constant", "name", "offset", "size")

    def __init__(self, spec: VariableSpec[T], section: Section) -> None:
        self.name = spec.name
        self.offset = spec.offset
        self.size = spec.size
        self.constant = spec.constant
        self._section = section
        described = spec.size if spec.type is None else spec.type
        self._codec: Codec[Any] = codec_for(described, byteorder=spec.byteorder)

    @property
    def value_type(self) -> Codec[T]:
        """The codec of its type; of so many bytes where the object has no type for it."""
        return self._codec

    @property
    def value(self) -> T:
        """What the variable holds now; bytes where the object has no type for it.

        Raises: Closed. Setting raises TypeError, ValueError, OverflowError for what does not fit its type;
        PermissionDenied for a constant; NotSupported where data sections cannot be mapped.
        """
        view = self._section.view(writable=False)
        if view is None:
            view = memoryview(self._section.map.raw[0])
        value: T = self._codec.unpack(fetch(view, self.offset, self.size))
        return value

    @value.setter
    def value(self, value: T) -> None:
        subject = f"variable {self.name!r}"
        if self.constant:
            hint = f"it is constant once loaded: set spec.variables[{self.name!r}].value before load()"
            raise PermissionDenied(_EPERM, call="write", subject=subject, hint=hint)
        try:
            content = self._codec.pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"{subject}: {error}") from error
        view = self._section.view(writable=True)
        if view is None:
            hint = "this kernel cannot map data sections into memory; use a map, or set the variable before load()"
            raise NotSupported(_EINVAL, call="write", subject=subject, hint=hint)
        store(view, self.offset, content)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"variable {self.name!r} cannot be copied or pickled: take its value")

    def memory(self) -> memoryview:
        """Return the variable itself, in the memory that programs use: to read, and to write unless it is a constant.

        A number is the one item of the view; an array has its own dimensions, and of what is no number there are
        bytes: `variable.value_type.column(view, field)` makes items of the fields of structs. It stays valid after
        the object is closed; as long as it is there and can be written, the section's map cannot be frozen.
        Raises: Closed; NotSupported where data sections cannot be mapped; PermissionDenied (EPERM: frozen).
        Since: Linux 5.5.
        """
        octets, codec = self._octets(), self._items()
        view = codec.view(octets)
        return octets if view.ndim > 1 and codec is self._codec else view

    def as_numpy(self) -> Array:
        """Return the variable itself as a numpy array; what is no array in C is an array of one.

        Raises: as `memory()`; ImportError where numpy is not installed.
        """
        return self._items().as_numpy(self._octets())

    def _octets(self) -> memoryview:
        return self._section.live(writable=not self.constant)[self.offset : self.offset + self.size]

    def _items(self) -> Codec[Any]:
        return self._codec.element if isinstance(self._codec, ArrayCodec) else self._codec

    def __repr__(self) -> str:
        of = self._section.map
        return f"<Variable {self.name!r}: {self._codec.name} at {of.name}+{self.offset}{mark(of._handle.backend)}>"


def fetch(view: memoryview, offset: int, size: int) -> bytes:
    """Return `size` bytes from `offset`: a scalar in one load, so that half of a program's write is never seen."""
    form = _WORDS.get(size)
    part = view[offset : offset + size]
    if form is None or offset % size:
        return bytes(part)
    word: int = cast_view(part, form)[0]
    return word.to_bytes(size, sys.byteorder)


def store(view: memoryview, offset: int, content: bytes) -> None:
    """Write `content` at `offset`: a scalar in one store, so that a program never reads half of it."""
    form = _WORDS.get(len(content))
    part = view[offset : offset + len(content)]
    if form is None or offset % len(content):
        part[:] = content
    else:
        cast_view(part, form)[0] = int.from_bytes(content, sys.byteorder)
