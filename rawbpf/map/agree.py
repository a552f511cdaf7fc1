"""Whether two types read the same bytes in the same way: what somebody says a map holds, and what its BTF says.

Names do not matter, sizes, offsets and kinds do. Knows BTF types, not maps.
"""

from __future__ import annotations

from rawbpf.btf.layout import size_of
from rawbpf.btf.types import MAX_DEPTH, Array, Composite, Enum, Float, Int, Ptr, Struct, Type, strip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Member

_MOST_PLACES = 10000


def disagreement(wanted: Type, have: Type) -> str:
    """Return where and how `have` reads other values than `wanted`, such as `.pos[].x is s32 instead of u32`; or ""."""
    return _Comparison().compare(wanted, have, "", 0)


class _Comparison:
    def __init__(self) -> None:
        self.places = 0

    def compare(self, wanted: Type, have: Type, where: str, depth: int) -> str:
        wanted, have = _bare(wanted), _bare(have)
        self.places += 1
        if depth > MAX_DEPTH or self.places > _MOST_PLACES:
            return ""  # as far as anybody looks
        if (_is_bytes(wanted) or _is_bytes(have)) and size_of(wanted) == size_of(have):
            return ""
        if isinstance(wanted, Array) and isinstance(have, Array):
            if wanted.length != have.length:
                return _differs(where, wanted, have)
            return self.compare(wanted.type, have.type, f"{where}[]", depth + 1)
        if isinstance(wanted, Composite) and isinstance(have, Composite):
            return self.members(wanted, have, where, depth)
        return "" if _scalar(wanted) == _scalar(have) is not None else _differs(where, wanted, have)

    def members(self, wanted: Composite, have: Composite, where: str, depth: int) -> str:
        if isinstance(wanted, Struct) != isinstance(have, Struct) or wanted.size != have.size:
            return _differs(where, wanted, have)
        if [_place(member) for member in wanted.members] != [_place(member) for member in have.members]:
            fields = f"fields {_fields(have)} instead of {_fields(wanted)}"
            return f"{where} has {fields}" if where else f"it has {fields}"
        for mine, theirs in zip(wanted.members, have.members, strict=True):
            if found := self.compare(mine.type, theirs.type, f"{where}.{theirs.name or mine.name}", depth + 1):
                return found
        return ""


def _bare(type: Type) -> Type:
    # A struct of one field is that field to whoever reads it.
    for _ in range(MAX_DEPTH):
        type = strip(type)
        if not (isinstance(type, Struct) and len(type.members) == 1 and _place(type.members[0]) == (0, 0)):
            break
        inner = strip(type.members[0].type)
        if not isinstance(inner, (Int, Enum, Float)) or inner.size != type.size:
            break
        type = inner
    return type


def _is_bytes(type: Type) -> bool:
    # What says no more than a size fits everything of that size.
    inner = strip(type.type) if isinstance(type, Array) else None
    return isinstance(inner, Int) and inner.size == 1


def _place(member: Member) -> tuple[int, int]:
    return member.bit_offset, member.bit_size


def _scalar(type: Type) -> tuple[str, int, bool] | None:
    if isinstance(type, (Int, Enum)):
        # Whether a byte is a number, a character or a truth value is for the reader to say.
        return "integer", type.size, type.signed and type.size > 1
    if isinstance(type, Ptr):
        return "integer", type.btf.pointer_size, False
    return ("float", type.size, True) if isinstance(type, Float) else None


def _differs(where: str, wanted: Type, have: Type) -> str:
    return f"{where or 'it'} is {_word(have)} instead of {_word(wanted)}"


def _word(type: Type) -> str:
    if isinstance(type, Array):
        return f"{_word(strip(type.type))}[{type.length}]"
    if (scalar := _scalar(type)) is not None:
        kind, size, signed = scalar
        return f"{'f' if kind == 'float' else 's' if signed else 'u'}{size * 8}"
    return f"{type.kind_name} {type.name}".rstrip()


def _fields(composite: Composite) -> str:
    shown = [f"{member.name}@{member.offset}" for member in composite.members[:6]]
    return ", ".join(shown + ["..."] * (len(composite.members) > 6)) or "none"
