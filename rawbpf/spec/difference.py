"""What was edited in an object, in words: for whoever wrote it down and reads it back.

Compared is what loading depends on, slot by slot, so that what specifications get in future is not forgotten. Types
are equal if their ids and definitions are; the bytes of data sections if they start with the same, zeros included.
"""

from __future__ import annotations

from rawbpf.btf.base import Type
from rawbpf.errors import FormatError
from rawbpf.spec.map import MapSpec
from rawbpf.spec.program import ProgramSpec
from rawbpf.spec.section import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rawbpf.spec.object import ObjectData

# The BTF may have more types than the other's, the file is where it all comes from, and a name is only for messages.
_NOT_COMPARED = frozenset({"btf", "btf_bytes", "file", "name"})


def differences(one: ObjectData, other: ObjectData) -> Iterator[str]:
    """Yield what is another in `one` than in `other`, as `maps['events'].max_entries: 16, was 32`."""
    for slot in type(one).__slots__:
        if slot in _NOT_COMPARED:
            continue
        ours, theirs = getattr(one, slot), getattr(other, slot)
        if not isinstance(ours, dict):
            if ours != theirs:
                yield f"{slot}: {ours!r}, was {theirs!r}"
            continue
        for name in dict.fromkeys([*ours, *theirs]):
            where = f"{slot}[{name!r}]"
            if name not in ours or name not in theirs:
                yield f"{where}: {'added' if name in ours else 'deleted'}"
            else:
                yield from _parts(where, ours[name], theirs[name])


def _parts(where: str, one: object, other: object) -> Iterator[str]:
    ours, theirs = _fields(one), _fields(other)
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, MapSpec) and isinstance(b, MapSpec):
            yield from _parts(f"{where}.{name}", a, b)
        elif _plain(a) != _plain(b):
            few = isinstance(a, int | str | bool | None) and isinstance(b, int | str | bool | None)
            yield f"{where}.{name}: {a!r}, was {b!r}" if few else f"{where}.{name}"


def _fields(spec: object) -> Mapping[str, object]:
    slots = [slot for cls in type(spec).__mro__ for slot in getattr(cls, "__slots__", ())]
    if not slots:
        return {"instructions": spec}
    fields = {slot: getattr(spec, slot) for slot in slots}
    if isinstance(spec, MapSpec):
        fields["contents"] = bytes(spec.contents or b"").rstrip(b"\0")
    elif isinstance(spec, ProgramSpec):
        del fields["section"]  # what it means stands in the others
    elif isinstance(fields.get("map"), MapSpec):
        fields["map"] = fields["map"].name  # compared by itself
    return fields


def _plain(value: object) -> object:
    if isinstance(value, Type):
        try:
            return value.id, str(value)
        except FormatError:  # damaged, which nothing that was read of it shows
            return value.id, value.kind_name
    if isinstance(value, Section):
        return value.pattern
    return value
