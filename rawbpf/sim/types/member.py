"""Whether a member fits its struct, by the kind that the member is of.

Arithmetic is the kernel's, in 32 bits, also where that lets something pass.
Source: kernel/bpf/btf.c: the kinds' check_member and check_kflag_member functions (v6.12).
"""

from __future__ import annotations

from rawbpf.sim.types import record as r

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.types.record import Record, Records

_U32 = 0xFFFFFFFF
_INT_BITS = 128
_ENUM_BITS = 32


def problem(records: Records, struct: Record, member: tuple[int, ...]) -> str:
    """Return what is wrong with a member of `struct`; empty where it fits."""
    number = member[1]
    if records[number].kind in r.MODIFIERS or records[number].kind == r.VAR:
        found = records.sized(number)
        if found is None:
            return "Invalid member"
        kind = found[0]
        number = found[1]
    else:
        kind = records[number]
    if not struct.flag:
        return _plain(records, struct.size, member[2], number)
    offset, bits = member[2] & 0xFFFFFF, member[2] >> 24
    if kind.kind == r.INT:
        return _int_field(kind, struct.size, offset, bits)
    if kind.kind in (r.ENUM, r.ENUM64):
        return _enum_field(struct.size, offset, bits)
    return "Invalid member bitfield_size" if bits else _plain(records, struct.size, offset, number)


def _plain(records: Records, size: int, offset: int, number: int) -> str:
    kind = records[number]
    if kind.kind == r.INT:
        if offset + kind.int_offset > _U32:
            return "bits_offset exceeds U32_MAX"
        return _int_room(kind.int_bits, size, offset + kind.int_offset)
    if kind.kind == r.FLOAT:
        if offset % (min(r.POINTER_SIZE, kind.size) * 8):
            return "Member is not properly aligned"
        return "" if offset // 8 + kind.size <= size else "Member exceeds struct_size"
    found = records.sized(number)
    if found is None or kind.kind == r.DATASEC:
        return "Unsupported check_member"
    if offset % 8:
        return "Member is not byte aligned"
    return "" if (size - offset // 8) & _U32 >= found[2] else "Member exceeds struct_size"


def _int_room(bits: int, size: int, offset: int) -> str:
    first, copied = offset // 8, bits + offset % 8
    if copied > _INT_BITS:
        return "nr_copy_bits exceeds 128"
    return "" if first <= size and size - first >= -(-copied // 8) else "Member exceeds struct_size"


def _int_field(kind: Record, size: int, offset: int, bits: int) -> str:
    if not kind.is_regular_int:
        return "Invalid member base type"
    if not bits and offset % 8:
        return "Invalid member offset"
    if bits > kind.int_bits:
        return "Invalid member bitfield_size"
    return _int_room(bits or kind.int_bits, size, offset)


def _enum_field(size: int, offset: int, bits: int) -> str:
    if not bits and offset % 8:
        return "Invalid member offset"
    if bits > _ENUM_BITS:
        return "Invalid member bitfield_size"
    return "" if -(-(offset + (bits or _ENUM_BITS)) // 8) <= size else "Member exceeds struct_size"
