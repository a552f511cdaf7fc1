"""A global variable of a loaded object: read and written in the memory that the program uses.

The data section's map is mapped into this process where the kernel allows it (Linux 5.5): a write
then touches that variable alone. Elsewhere the section is read whole, and writing is refused, because
writing it whole would undo what programs change meanwhile.
"""

from __future__ import annotations

import sys

from rawbpf.codec import codec_for
from rawbpf.errors import NotSupported, PermissionDenied
from rawbpf.map.memory import cast_view
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi.constants import BPF_F_MMAPABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.base import Map
    from rawbpf.spec.variable import VariableSpec

_EPERM, _EINVAL = 1, 22
_WORDS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Section:
    """The memory of one data section's map, mapped when it is first read."""

    __slots__ = ("_mapped", "map")

    def __init__(self, section: Map[Any, Any]) -> None:
        self.map = section
        self._mapped: mmap.mmap | None = None

    def view(self, *, writable: bool) -> memoryview | None:
        """Return the section's memory; None where it cannot be mapped. Raises: Closed."""
        handle = self.map._handle
        with handle as fd:
            if not self.map._shape.map_flags & BPF_F_MMAPABLE:
                return None
            if self._mapped is None:
                page = handle.backend.host.page_size
                length = self.map._shape.value_size + page - 1 & -page
                self._mapped = handle.backend.mmap(fd, length, writable=writable)
        return memoryview(self._mapped)

    def close(self) -> None:
        """Let go of the memory, which keeps the map alive in the kernel. Idempotent."""
        self._mapped = None


class Variable:
    """A variable of a loaded object: `obj.variables["dropped"].value`. `constant`: it lies in `.rodata`."""

    __slots__ = ("_codec", "_section", "constant", "name", "offset", "size")

    def __init__(self, spec: VariableSpec, section: Section) -> None:
        self.name = spec.name
        self.offset = spec.offset
        self.size = spec.size
        self.constant = spec.constant
        self._section = section
        described = spec.size if spec.type is None else spec.type
        self._codec: Codec[Any] = codec_for(described, byteorder=spec.byteorder)

    @property
    def value(self) -> Any:  # noqa: ANN401  (as the C type)
        """What the variable holds now; bytes where the object has no type for it.

        Raises: Closed. Setting raises TypeError, ValueError, OverflowError for what does not fit its type;
        PermissionDenied for a constant; NotSupported where data sections cannot be mapped.
        """
        view = self._section.view(writable=not self.constant)
        if view is None:
            view = memoryview(self._section.map.raw[0])
        return self._codec.unpack(fetch(view, self.offset, self.size))

    @value.setter
    def value(self, value: object) -> None:
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
