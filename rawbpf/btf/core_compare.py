"""When a type of a program and one of a kernel are the same for CO-RE, although they differ.

Three relations, from loose to strict: fields that can be read for one another, types that stand for one
another, and types that match member by member. Names count without their flavors: `task_struct___old`
is `task_struct`. Knows types and no relocations.

Source: tools/lib/bpf/relo_core.c:bpf_core_fields_are_compat, __bpf_core_types_are_compat,
__bpf_core_types_match; tools/lib/bpf/libbpf.c:bpf_core_essential_name_len (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.kind import MAX_DEPTH
from rawbpf.btf.types import Array, Composite, Enum, Float, FuncProto, Fwd, Int, Ptr, Type, Union, Void, strip
from rawbpf.errors import FormatError


def essential_name(name: str) -> str:
    """Return `name` without its flavor: the last `___` between other characters, and what follows it."""
    at = name.rfind("___")
    while at > 0:
        if name[at - 1] != "_" and name[at + 3 : at + 4] not in ("", "_"):
            return name[:at]
        at = name.rfind("___", 0, at + 2)
    return name


def same_kind(local: Type, target: Type) -> bool:
    """Return whether the two are of one kind; enumerations of 32 and of 64 bits are."""
    return local.kind == target.kind or (isinstance(local, Enum) and isinstance(target, Enum))


def fields_are_compatible(local: Type, target: Type) -> bool:
    """Return whether a field of type `target` can be read for one of type `local`.

    Sizes and signs are not compared, nor what pointers point to: who reads a field asks for those.
    """
    for _ in range(MAX_DEPTH):
        local, target = strip(local), strip(target)
        if isinstance(local, Composite) and isinstance(target, Composite):
            return True
        if not same_kind(local, target):
            return False
        if isinstance(local, (Ptr, Float)):
            return True
        if isinstance(local, (Fwd, Enum)):
            names = essential_name(local.name), essential_name(target.name)
            return "" in names or names[0] == names[1]
        if isinstance(local, Int) and isinstance(target, Int):
            return not (local.offset or target.offset)
        if not (isinstance(local, Array) and isinstance(target, Array)):
            return False
        local, target = local.type, target.type
    raise FormatError(f"arrays from {local!r} on never end")


class Comparison:
    """Compares types, each pair once: prototypes that name one another twice would take for ever."""

    def __init__(self) -> None:
        self._compatible: dict[tuple[Type, Type], bool] = {}
        self._matching: dict[tuple[Type, Type, bool], bool] = {}

    def compatible(self, local: Type, target: Type) -> bool:
        """Return whether `target` stands for `local`: both of one kind, pointers and prototypes all the way down.

        The names are the caller's to compare. Raises: FormatError for types that are nested without end.
        """
        return same_kind(local, target) and self._are_compatible(local, target, 0)

    def matching(self, local: Type, target: Type) -> bool:
        """Return whether `target` has all that `local` has: members of matching types, enumerators, sizes of integers.

        Behind a pointer the name and kind of a struct are enough. Raises: as `compatible`.
        """
        return self._are_matching(local, target, behind_pointer=False, depth=0)

    def _are_compatible(self, local: Type, target: Type, depth: int) -> bool:
        key = local, target = strip(local), strip(target)
        known = self._compatible.get(key)
        if known is None:
            known = self._compatible[key] = self._compare(local, target, _deeper(depth, local))
        return known

    def _compare(self, local: Type, target: Type, depth: int) -> bool:
        if not same_kind(local, target):
            return False
        if isinstance(local, Int) and isinstance(target, Int):
            return not (local.offset or target.offset)
        if isinstance(local, (Ptr, Array)) and isinstance(target, (Ptr, Array)):
            return self._are_compatible(local.type, target.type, depth)
        if isinstance(local, FuncProto) and isinstance(target, FuncProto):
            return _same_shape(local, target) and all(
                self._are_compatible(own, other, depth)
                for own, other in zip(_signature(local), _signature(target), strict=True)
            )
        return isinstance(local, (Void, Composite, Enum, Fwd))

    def _are_matching(self, local: Type, target: Type, *, behind_pointer: bool, depth: int) -> bool:
        local, target = strip(local), strip(target)
        key = local, target, behind_pointer
        known = self._matching.get(key)
        if known is None:
            known = essential_name(local.name) == essential_name(target.name) and self._match(
                local, target, behind_pointer, _deeper(depth, local)
            )
            self._matching[key] = known
        return known

    def _match(self, local: Type, target: Type, behind_pointer: bool, depth: int) -> bool:
        if isinstance(local, (Fwd, Composite)) and isinstance(target, (Fwd, Composite)):
            if _is_union(local) != _is_union(target):
                return False
            if isinstance(local, Composite) and isinstance(target, Composite):
                return behind_pointer or self._members_match(local, target, depth)
            return behind_pointer or local.kind == target.kind
        if isinstance(local, Enum) and isinstance(target, Enum):
            return _enumerators_match(local, target)
        if isinstance(local, Int) and isinstance(target, Int):
            return local.size == target.size and local.signed == target.signed
        if isinstance(local, Ptr) and isinstance(target, Ptr):
            return self._are_matching(local.type, target.type, behind_pointer=True, depth=depth)
        if isinstance(local, Array) and isinstance(target, Array):
            return local.length == target.length and self._are_matching(
                local.type, target.type, behind_pointer=behind_pointer, depth=depth
            )
        if isinstance(local, FuncProto) and isinstance(target, FuncProto):
            return _same_shape(local, target) and all(
                self._are_matching(own, other, behind_pointer=behind_pointer, depth=depth)
                for own, other in zip(_signature(local), _signature(target), strict=True)
            )
        return isinstance(local, Void) and isinstance(target, Void)

    def _members_match(self, local: Composite, target: Composite, depth: int) -> bool:
        if len(local.members) > len(target.members):
            return False
        named: dict[str, list[Type]] = {}
        for member in target.members:
            named.setdefault(essential_name(member.name), []).append(member.type)
        return all(
            any(
                self._are_matching(member.type, other, behind_pointer=False, depth=depth)
                for other in named.get(essential_name(member.name), ())
            )
            for member in local.members
        )


def _deeper(depth: int, at: Type) -> int:
    if depth == MAX_DEPTH:
        raise FormatError(f"types from {at!r} on are nested more than {MAX_DEPTH} deep")
    return depth + 1


def _is_union(type: Fwd | Composite) -> bool:
    return type.is_union if isinstance(type, Fwd) else isinstance(type, Union)


def _same_shape(local: FuncProto, target: FuncProto) -> bool:
    return local.variadic == target.variadic and len(local.params) == len(target.params)


def _signature(proto: FuncProto) -> list[Type]:
    return [proto.return_type, *(type for _, type in proto.params)]


def _enumerators_match(local: Enum, target: Enum) -> bool:
    # Numbers may differ: those are what a program asks for.
    names = {essential_name(name) for name, _ in target.values}
    return (
        local.size == target.size
        and len(local.values) <= len(target.values)
        and all(essential_name(name) in names for name, _ in local.values)
    )
