"""The way of a CO-RE relocation from a type to one of its fields, in the program's types and in a kernel's.

A program's record says it in numbers, `0:2:1`: an index as if the type were an array, then the number of
a member or an element at a time. A kernel's members have other numbers, so the way is followed by
names there; through members without a name, which add no step. Knows nothing of values or instructions.

Source: tools/lib/bpf/relo_core.c:bpf_core_parse_spec, bpf_core_match_member, bpf_core_spec_match (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.core_compare import fields_are_compatible
from rawbpf.btf.layout import size_of
from rawbpf.btf.types import Array, Composite, Member, Type, strip
from rawbpf.errors import FormatError

_MAX_STEPS = 64


class Step:
    """One step of a way: to the member called `name`, of `type`, or to the element `index` (`name` None)."""

    __slots__ = ("index", "name", "type")

    def __init__(self, name: str | None, index: int, type: Type) -> None:
        self.name = name
        self.index = index
        self.type = type


class Place:
    """Where a way ends: `bit_offset` from the start of `root`, and the `type` there.

    `member`: the last step went to a member, and not to an element. `bit_size`: of a bit-field, else 0.
    """

    __slots__ = ("bit_offset", "bit_size", "member", "root", "type")

    def __init__(self, root: Type, type: Type, bit_offset: int, bit_size: int, *, member: bool) -> None:
        self.root = root
        self.type = type
        self.bit_offset = bit_offset
        self.bit_size = bit_size
        self.member = member


def numbers(access: str, of: Type) -> list[int]:
    """Return the numbers of an access string. Raises: FormatError when it is none, or has more than 64."""
    parts = access.split(":", _MAX_STEPS)
    if len(parts) > _MAX_STEPS or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise FormatError(f"{access!r} is no way into {of!r}: at most {_MAX_STEPS} numbers between colons are")
    return list(map(int, parts))


def follow(root: Type, access: str) -> tuple[list[Step], Place]:
    """Return the steps of `access` from `root`, both of one program, and where they end. Raises: FormatError."""
    first, *rest = numbers(access, root)
    type = at = strip(root)
    offset, bits, member, flexible = first * size_of(at) * 8 if first else 0, 0, False, False
    steps = [Step(None, first, at)]
    for number in rest:
        at = strip(at)
        if isinstance(at, Composite) and number < len(at.members):
            found = at.members[number]
            offset += found.bit_offset
            if found.name:
                flexible = number == len(at.members) - 1
                type, bits, member = found.type, found.bit_size, True
                steps.append(Step(found.name, number, type))
            at = found.type
        elif isinstance(at, Array) and (number < at.length or (flexible and not at.length)):
            type = at = strip(at.type)
            offset += number * size_of(at) * 8
            bits, member, flexible = 0, False, False
            steps.append(Step(None, number, at))
        else:
            raise FormatError(f"{access!r} is no way into {root!r}: {at!r} has no part {number}")
    return steps, Place(root, type, offset, bits, member=member)


def match(steps: list[Step], root: Type) -> Place | None:
    """Return where the `steps` of a program end when they start at `root`, a type of a kernel.

    None where a member is missing or of a type that cannot be read for the program's, or an array too short.
    """
    type = root
    offset, bits, member, flexible = 0, 0, False, False
    for position, step in enumerate(steps):
        at = strip(type)
        if step.name is not None:
            found = _find(at, step.name)
            if found is None or not fields_are_compatible(step.type, found[0].type):
                return None
            (_, type, more, bits), flexible = found
            offset, member = offset + more, True
            continue
        if position:
            if not isinstance(at, Array) or not (step.index < at.length or (flexible and not at.length)):
                return None
            at = strip(at.type)
        type = at
        offset += step.index * size_of(at) * 8 if step.index else 0
        bits, member, flexible = 0, False, False
    return Place(root, type, offset, bits, member=member)


def spell(root: Type, steps: list[Step]) -> str:
    """Return the way as C spells it: `task_struct.comm[3]`."""
    text = root.name
    for position, step in enumerate(steps):
        if step.name is not None:
            text += f".{step.name}"
        elif position or step.index:
            text += f"[{step.index}]"
    return text


def _find(type: Type, name: str) -> tuple[Member, bool] | None:
    # The member of that name, also from anonymous members inside with offsets added, and whether it is the last
    # of its struct. Each anonymous type is looked into once: where it repeats, it has nothing that is new.
    if not isinstance(type, Composite):
        return None
    seen = {type.id}
    level = [(type, 0)]
    while level:
        below = []
        for composite, base in level:
            for index, (own, of, offset, bits) in enumerate(composite.members, 1):
                if own == name:
                    return Member((own, of, base + offset, bits)), index == len(composite.members)
                if not own:
                    inner = strip(of)
                    if isinstance(inner, Composite) and inner.id not in seen:
                        seen.add(inner.id)
                        below.append((inner, base + offset))
        level = below
    return None
