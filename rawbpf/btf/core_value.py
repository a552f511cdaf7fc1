"""The numbers that CO-RE relocations ask for: of a field, of a type, of an enumerator.

Each is computed alike from a program's types and from a kernel's. Source:
tools/lib/bpf/relo_core.c:bpf_core_calc_field_relo, bpf_core_calc_type_relo, bpf_core_calc_enumval_relo (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.layout import element_of, size_of
from rawbpf.btf.types import Enum, Enum64, Int, Sized, strip
from rawbpf.errors import FormatError, SpecError
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.btf.core_access import Place
    from rawbpf.btf.types import Type

NAMES = (
    "byte offset", "byte size", "existence", "signedness", "left shift", "right shift", "local type id",
    "target type id", "existence", "size", "existence", "value", "match",
)  # fmt: skip
"""What is asked, in words, by the kernel's number of the kind."""

_MASK64, _MASK32, _SIGN32 = (1 << 64) - 1, (1 << 32) - 1, 1 << 31
_MAX_LOAD = 8


class Value:
    """A number of 64 bits, and what goes with it.

    `checked`: the compiler computed the same from the same types. `size` and `type`: the bytes that a load or store at
    the number takes, and of what; 0 and None where it is no offset. `bit_offset`: where the field begins.
    """

    __slots__ = ("bit_offset", "checked", "number", "size", "type")

    def __init__(
        self, number: int, *, checked: bool = True, size: int = 0, type: Type | None = None, bit_offset: int = 0
    ) -> None:
        self.number = number & _MASK64
        self.checked = checked
        self.size = size
        self.type = type
        self.bit_offset = bit_offset


def field_value(kind: int, place: Place, byteorder: Literal["little", "big"]) -> Value:
    """Return what is asked of the field at `place`. Raises: SpecError for what no field has; FormatError."""
    if kind == c.BPF_CORE_FIELD_EXISTS:
        return Value(1, bit_offset=place.bit_offset)
    type = strip(place.type)
    if place.bit_size:
        start, size = _load(place)
        bits = place.bit_size
    else:
        start, size = place.bit_offset // 8, size_of(type)
        bits = 8 * size
    # Which load reads a bit-field is the compiler's choice; where it may differ nothing can be checked.
    checked = not place.bit_size
    if kind == c.BPF_CORE_FIELD_BYTE_OFFSET:
        if place.bit_size:
            return Value(start, checked=False, bit_offset=place.bit_offset)
        # What is loaded or stored within an array is one element.
        # commit 06096d19ee38 ("libbpf: fix LDX/STX/ST CO-RE relocation size adjustment logic") (in v6.15)
        return Value(start, size=size_of(element_of(type)), type=type, bit_offset=place.bit_offset)
    if kind == c.BPF_CORE_FIELD_BYTE_SIZE:
        return Value(size, checked=checked, bit_offset=place.bit_offset)
    if not place.member:
        raise SpecError(f"CO-RE: the {NAMES[kind]} of an element of an array is asked for, which only members have")
    if kind == c.BPF_CORE_FIELD_SIGNED:
        return Value(isinstance(type, (Int, Enum)) and type.signed, bit_offset=place.bit_offset)
    if kind == c.BPF_CORE_FIELD_RSHIFT_U64:
        return Value(64 - bits, bit_offset=place.bit_offset)
    before = place.bit_offset - 8 * start
    shift = 64 - bits - before if byteorder == "little" else 64 - 8 * size + before
    return Value(shift, checked=checked, bit_offset=place.bit_offset)


def type_value(kind: int, type: Type) -> Value:
    """Return what is asked of the whole `type`. Raises: FormatError for one without a size."""
    if kind == c.BPF_CORE_TYPE_SIZE:
        return Value(size_of(type))
    if kind in (c.BPF_CORE_TYPE_ID_LOCAL, c.BPF_CORE_TYPE_ID_TARGET):
        return Value(type.id, checked=False)  # linkers give types other ids and leave instructions alone
    return Value(1)


def enumerator_value(kind: int, enum: Enum, number: int) -> Value:
    """Return what is asked of an enumerator of `enum` whose value is `number`."""
    if kind == c.BPF_CORE_ENUMVAL_EXISTS:
        return Value(1)
    # Not every compiler tells whether 32 bits have a sign: all are taken to.
    return Value(number if isinstance(enum, Enum64) else (number & _MASK32 ^ _SIGN32) - _SIGN32)


def _load(place: Place) -> tuple[int, int]:
    # (first byte, bytes) of the narrowest aligned load that holds a bit-field.
    declared = strip(place.type)
    size = declared.size if isinstance(declared, Sized) else 0
    if not 0 < size <= 2 * _MAX_LOAD:
        raise FormatError(f"a bit-field is of {declared!r}, which is no integer")
    while True:
        start = place.bit_offset // 8 // size * size
        if place.bit_offset + place.bit_size <= 8 * (start + size):
            return start, size
        if size >= _MAX_LOAD:
            raise SpecError(f"CO-RE: no load of {_MAX_LOAD} bytes holds a bit-field of {place.root!r}")
        size *= 2
