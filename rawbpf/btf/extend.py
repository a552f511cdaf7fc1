"""BTF with types and strings added behind those that it has: ids and offsets that others wrote down stay true.

Also `.BTF.ext`, which calls sections by such offsets. Knows nothing of what is added.

Format: Documentation/bpf/btf.rst (v6.12)
"""

from __future__ import annotations

import struct
from array import array

from rawbpf.btf.btf import Btf
from rawbpf.btf.build import assemble
from rawbpf.btf.kind import PTR
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rawbpf.btf.types import Var

_KFLAG = 1 << 31


class Extension:
    """The BTF in `data`, to be added to; `btf` is what it was. Raises: FormatError when it is none."""

    def __init__(self, data: bytes) -> None:
        self.btf = Btf.from_bytes(data)
        self._words = array("I", self.btf.words)
        self._strings = bytearray(self.btf.strings)
        self._next = len(self.btf)

    def string(self, text: str) -> int:
        """Return the offset of `text` in the string section, to which it is added if it is not there."""
        encoded = text.encode("utf-8", "surrogateescape") + b"\0"
        # The first string is the empty one, so that a NUL stands before each.
        at = 0 if encoded == b"\0" else self._strings.find(b"\0" + encoded) + 1
        if encoded != b"\0" and not at:
            at = len(self._strings)
            self._strings += encoded
        return at

    def add(
        self,
        kind: int,
        size_or_type: int,
        tail: Sequence[int] = (),
        *,
        name: int = 0,
        vlen: int = 0,
        kflag: bool = False,
    ) -> int:
        """Add a record as it stands in BTF, its `name` an offset and its `tail` in words; return its id."""
        self._words.extend((name, (_KFLAG if kflag else 0) | kind << 24 | vlen, size_or_type, *tail))
        self._next += 1
        return self._next - 1

    def pointer(self, type: int) -> int:
        """Add a pointer to the type of that id; return its id."""
        return self.add(PTR, type)

    def retype(self, variable: Var, type: int) -> None:
        """Make `variable` one of the type of that id."""
        self._words[variable._at + 2] = type

    def to_bytes(self) -> bytes:
        """Return the BTF."""
        return assemble(self._words, bytes(self._strings), self.btf.byteorder)


def rename_sections(data: bytes, btf: Btf, names: Mapping[str, int]) -> bytes:
    """Return the `.BTF.ext` in `data`, with other names for some sections.

    `btf`: the same file's, which has the strings. `names`: for each section its new name's offset in them.
    Raises: FormatError for damaged bytes.
    """
    out = bytearray(data)
    order = "<" if btf.byteorder == "little" else ">"
    try:
        (header,) = struct.unpack_from(f"{order}I", out, 4)
        for place in range(8, header, 8):
            start, size = struct.unpack_from(f"{order}2I", out, place)
            if not size:
                continue
            at, end = header + start, header + start + size
            (stride,) = struct.unpack_from(f"{order}I", out, at)
            at += 4
            while at < end:
                name, count = struct.unpack_from(f"{order}2I", out, at)
                new = names.get(btf.string(name))
                if new is not None:
                    struct.pack_into(f"{order}I", out, at, new)
                at += 8 + count * stride
    except struct.error as error:
        raise FormatError(f".BTF.ext of {len(data)} bytes is damaged: {error}") from error
    return bytes(out)
