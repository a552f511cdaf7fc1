"""Records of types with other numbers in them: what moves when a type goes into another BTF.

A record is the words of one type. Where names and types stand in it depends on its kind alone.
Format: include/uapi/linux/btf.h (v6.12)
"""

from __future__ import annotations

from rawbpf.btf import kind
from rawbpf.btf.btf import Btf
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rawbpf.btf.base import Type
    from rawbpf.btf.build import Builder

_REFERENCES = (
    kind.PTR, kind.TYPEDEF, kind.VOLATILE, kind.CONST, kind.RESTRICT, kind.FUNC, kind.FUNC_PROTO, kind.VAR,
    kind.DECL_TAG, kind.TYPE_TAG,
)  # fmt: skip
# Of each part that follows the head: how many words, and which of them is a name, and which a type.
_PARTS: dict[int, tuple[int, int | None, int | None]] = {
    kind.STRUCT: (3, 0, 1),
    kind.UNION: (3, 0, 1),
    kind.ENUM: (2, 0, None),
    kind.ENUM64: (3, 0, None),
    kind.FUNC_PROTO: (2, 0, 1),
    kind.DATASEC: (3, None, 0),
}


def places(record: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return at which words of `record` string offsets stand, and at which type ids."""
    number = record[1] >> 24 & 0x1F
    names = [0]
    types = [2] if number in _REFERENCES else [3, 4] if number == kind.ARRAY else []
    if number in _PARTS:
        step, name_at, type_at = _PARTS[number]
        starts = range(3, len(record), step)
        if name_at is not None:
            names += [start + name_at for start in starts]
        if type_at is not None:
            types += [start + type_at for start in starts]
    return names, types


def remap(record: Sequence[int], name: Callable[[int], int], type: Callable[[int], int]) -> list[int]:
    """Return `record` with each string offset passed through `name` and each type id through `type`."""
    out = list(record)
    names, types = places(record)
    for place in names:
        out[place] = name(out[place])
    for place in types:
        out[place] = type(out[place])
    return out


def copy_records(builder: Builder, btf: Btf, first: int, moved: Callable[[int], int]) -> None:
    """Append to `builder` the types of `btf` from `first` on, each id that they refer to passed through `moved`.

    Raises: FormatError for a reference to nowhere.
    """

    def checked(id: int) -> int:
        if id >= len(btf):
            raise FormatError(f"a type refers to type {id}, but ids end at {len(btf) - 1}")
        return moved(id)

    for id in range(first, len(btf)):
        own = btf[id].btf
        builder.append(remap(own.record(id), lambda offset: builder.string(btf.string(offset)), checked))


def rebase(split: Btf, target: Btf) -> Btf:
    """Return `split` as a continuation of `target` in place of its base; documented as `Btf.rebase`."""
    from rawbpf.btf.build import Builder  # which knows this module

    base = split.base
    if base is None:
        raise ValueError("only a split BTF has a base that another can take the place of")
    found = [0, *(_counterpart(type, target) for type in base if type.id)]
    builder = Builder(split.byteorder, base=target)
    shift = len(target) - split.first_id

    def moved(id: int) -> int:
        return found[id] if id < split.first_id else id + shift

    copy_records(builder, split, split.first_id, moved)
    return Btf.from_bytes(builder.to_bytes(), target)


def _counterpart(type: Type, target: Btf) -> int:
    # Source: tools/lib/bpf/btf_relocate.c:btf_relocate_map_distilled_base (v6.12)
    matching = [each for each in target.find_all(type.name) if type.name and _matches(type, each)]
    if len(matching) == 1 or (matching and type.kind == kind.INT):
        return matching[0].id
    many = f"{len(matching)} types" if matching else "no type"
    raise FormatError(f"{type!r} of the base is {many} of the other")


def _matches(type: Type, other: Type) -> bool:
    own, its = type.btf.record(type.id), other.btf.record(other.id)
    if type.kind == kind.FWD:
        return other.kind == (kind.UNION if own[1] >> 31 else kind.STRUCT)
    enums = (kind.ENUM, kind.ENUM64)
    if type.kind != other.kind and not (type.kind in enums and other.kind in enums):
        return False
    # The size, and how an integer is encoded.
    if type.kind == kind.INT:
        return own[2:] == its[2:]
    return type.kind in (kind.STRUCT, kind.UNION, kind.FLOAT, *enums) and own[2] == its[2]
