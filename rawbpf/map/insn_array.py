"""Arrays of instructions: tables of places in a program, for indirect jumps and for whoever has to find them again.

User space says by number which instructions are meant, and freezes the map. The kernel, which removes, adds and
compiles instructions, then writes beside each number where its instruction came to lie in the program that was
loaded with the map. To that program the map is a table of addresses.
Kernel side: kernel/bpf/bpf_insn_array.c (v6.19).
"""

from __future__ import annotations

import struct

from rawbpf.codec import codec_for
from rawbpf.codec.base import Codec, refuse
from rawbpf.codec.record import Record, record_class
from rawbpf.map.array import ArrayMap
from rawbpf.map.handle import closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rawbpf.codec import Description

    # The number of an instruction; what was read, of which that number is stored.
    Place = int | Record

_LAYOUT = struct.Struct("=4I")
_REMOVED = 0xFFFFFFFF
"""INSN_DELETED: no number of an instruction."""


class PlaceCodec(Codec["Record"]):
    """The number of an instruction; reads back as a record of `orig_off`, `xlated_off` and `jitted_off`."""

    name = "bpf_insn_array_value"
    size = _LAYOUT.size
    alignment = 4

    field_names = ("orig_off", "xlated_off", "jitted_off")
    _record = record_class(name, field_names)

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return "value"

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a number, alone or with what the kernel wrote beside it, which it takes from nobody."""
        number = value[0] if isinstance(value, self._record) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise refuse(where, "the number of an instruction, an int", value)
        if not 0 <= number < _REMOVED:
            raise OverflowError(f"{where}: expected the number of an instruction, 0 to {_REMOVED - 1}, got {number}")
        return _LAYOUT.pack(number, 0, 0, 0)

    def decode(self, raw: bytes) -> Record:
        """Return the number, and where the instruction is; None for where it is if it was removed."""
        orig_off, xlated_off, jitted_off, _ = _LAYOUT.unpack(raw)
        if xlated_off == _REMOVED:
            return self._record(orig_off, None, None)
        return self._record(orig_off, xlated_off, jitted_off)


class InsnArrayMap(ArrayMap["Record"]):
    """Places in a program, an array of fixed length: `m[i] = number`, `m[i].xlated_off`.

    Numbers count slots of 8 bytes, of which an LD_IMM64 takes two. Fill the array and `freeze()` it; then load
    the program, which either reads addresses from it (`ld_map_value(dst, m.fileno())`) to jump to them
    (`jump_indirect(dst)`), or has it in its `fd_array`. After that `orig_off` is the number that was stored,
    `xlated_off` that of the same instruction in the verified program, and `jitted_off` how many bytes into
    the machine code it begins; both are None where the verifier removed it. A map serves one program, ever. It
    cannot be mapped into memory. Since: Linux 6.19.
    """

    __slots__ = ()

    map_type = "insn_array"
    _takes_btf = False

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        del word
        # Whatever an object calls its fields, the kernel gives them their meaning.
        places = PlaceCodec()
        given = places if described is None else codec_for(described)
        return places if given.size == places.size else given

    # As those of arrays, the bodies are never run.

    def __setitem__(self, index: int, value: Place) -> None:
        """Store the number of an instruction at `index`, which may be negative.

        Raises: IndexOutOfRange; PermissionDenied (EPERM: frozen); TypeError, OverflowError for what is no such
        number; Closed. One that the program does not have is refused when that is loaded.
        Source: kernel/bpf/bpf_insn_array.c:insn_array_update_elem
        """
        raise closed(str(self._shape))

    def put(self, index: int, value: Place, flags: int = 0) -> None:  # noqa: ARG002
        """Store a number at `index`, with BPF_ flags. Raises: as `m[index] = value`; KeyExists by BPF_NOEXIST."""
        raise closed(str(self._shape))

    if TYPE_CHECKING:

        def update(  # noqa: D102  (a number is written alone)
            self, items: Mapping[int, Place] | Iterable[tuple[int, Place]], flags: int = 0
        ) -> None: ...
        def put_many(  # noqa: D102
            self, items: Mapping[int, Place] | Iterable[tuple[int, Place]], flags: int = 0
        ) -> None: ...
