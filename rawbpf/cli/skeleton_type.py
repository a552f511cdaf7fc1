"""C types as annotations of Python, and the records among them as classes: for modules that are written.

Names from an object file are only ever used when they are Python's kind of names, or quoted.
"""

from __future__ import annotations

import re
from keyword import iskeyword

from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import BytesCodec, TextCodec
from rawbpf.codec.union import UnionCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from rawbpf.codec import Codec
    from rawbpf.codec.record import Record

WIDTH = 88
"""What ruff and black take for the length of lines, unless they are told otherwise."""
INDENT = "    "
_BUILTINS = frozenset({"bool", "bytes", "float", "int", "str", "tuple"})


def quoted(text: str) -> str:
    """Return `text` as a literal of Python."""
    literal = ascii(text)
    return literal if '"' in literal else f'"{literal[1:-1]}"'


def plain(text: str) -> str:
    """Return `text` for a comment or docstring: no more than letters, digits and a few marks."""
    return re.sub(r"[^\w .,:/+*-]", "?", text, flags=re.ASCII)


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """Return `name` as an attribute's name, which is not among those that are `taken`."""
    found = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "unnamed"
    if found[0].isdigit():
        found = f"n{found}"
    while iskeyword(found) or found in taken:
        found += "_"
    return found


def class_name(name: str, taken: Iterable[str] = ()) -> str:
    """Return `name` as a class's name, which is not among those that are `taken`."""
    words = re.split(r"[\W_]+", name, flags=re.ASCII)
    return identifier("".join(word[:1].upper() + word[1:] for word in words), taken)


def wrapped(indent: str, head: str, parts: Sequence[str], tail: str) -> list[str]:
    """Return `head`, `parts` and `tail` on one line, or on one each, in the way that formatters leave alone."""
    line = f"{indent}{head}{', '.join(parts)}{tail}"
    if len(line) <= WIDTH or not parts:
        return [line]
    # A comma behind the only index would make a tuple of it.
    comma = "" if tail.startswith("]") and len(parts) == 1 else ","
    return [f"{indent}{head}", *(f"{indent}{INDENT}{part}{comma}" for part in parts), f"{indent}{tail}"]


class Records:
    """The classes of records in a module, and annotations that use them; `taken`: names that classes cannot have."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._names: dict[type[Record], str] = {}
        self._codecs: list[tuple[str, StructCodec]] = []
        self.used: set[str] = set()
        """What annotations need to be imported."""

    def __bool__(self) -> bool:
        return bool(self._codecs)

    def annotation(self, codec: Codec[object] | None) -> str:
        """Return the type of a codec's values; Any without a codec."""
        if isinstance(codec, IntCodec):
            return "bool" if codec.known is TRUTH else "int"
        if isinstance(codec, FloatCodec):
            return "float"
        if isinstance(codec, TextCodec):
            return "str"
        if isinstance(codec, BytesCodec):
            return "bytes"
        if isinstance(codec, ArrayCodec):
            return f"tuple[{self.annotation(codec.element)}, ...]"
        if isinstance(codec, StructCodec):
            return self._class(codec)
        name = "UnionValue" if isinstance(codec, UnionCodec) else "Any"
        self.used.add(name)
        return name

    def _class(self, codec: StructCodec) -> str:
        name = self._names.get(codec.record)
        if name is None:
            name = class_name(codec.tag or "record", self._taken)
            self._taken.add(name)
            self._names[codec.record] = name
            self._codecs.append((name, codec))
            for field in codec.fields:  # so that what they need is known before anything is written
                self.annotation(field.codec)
        return name

    def declarations(self) -> list[str]:
        """Return the classes as type checkers see them, for a block below `if TYPE_CHECKING`."""
        out: list[str] = []
        for name, codec in self._codecs:
            out += ["", f"{INDENT}class {name}(Struct):"]
            if codec.tag:
                out += [f'{INDENT * 2}"""struct {plain(codec.tag)}."""', ""]
            fields = zip(codec.record._fields, codec.fields, strict=True)
            types = {name: self.annotation(field.codec) for name, field in fields}
            forwards = {
                member: self.annotation(_members(codec.fields[index].codec).get(member))
                for member, index in codec.record._forwards
            }
            shadowed = _BUILTINS.intersection([*types, *forwards])
            if shadowed:
                # Below a field `bytes` the word means the field.
                self.used.add("builtins")
                types = {name: _qualified(of, shadowed) for name, of in types.items()}
                forwards = {name: _qualified(of, shadowed) for name, of in forwards.items()}
            for field_name, of in types.items():
                out += attribute(INDENT * 2, field_name, of)
            if not codec.fields:
                out.append(f"{INDENT * 2}pass")
            for member, of in forwards.items():
                out += ["", f"{INDENT * 2}@property", f"{INDENT * 2}def {member}(self) -> {of}: ..."]
        return out

    def definitions(self) -> list[str]:
        """Return the classes as they are at run time, for the `else` of that block."""
        out: list[str] = []
        for name, codec in self._codecs:
            of = codec.record
            arguments = [[quoted(codec.tag)], _tuple([quoted(each) for each in of._names])]
            if of._forwards:
                arguments.append(_tuple([f"({quoted(member)}, {index})" for member, index in of._forwards]))
            line = f"{INDENT}{name} = record({', '.join(map(''.join, arguments))})"
            if len(line) <= WIDTH:
                out.append(line)
                continue
            out.append(f"{INDENT}{name} = record(")
            for argument in arguments:
                one = f"{INDENT * 2}{''.join(argument)},"
                first, *rest = argument
                if len(one) <= WIDTH or not rest:
                    out.append(one)
                else:
                    parts = [f"{INDENT * 3}{part.removesuffix(', ').removesuffix(',')}," for part in rest[:-1]]
                    out += [f"{INDENT * 2}{first}", *parts, f"{INDENT * 2}),"]
            out.append(f"{INDENT})")
        return out


def attribute(indent: str, name: str, annotation: str) -> list[str]:
    """Return the lines of an attribute's declaration."""
    line = f"{indent}{name}: {annotation}"
    head, bracket, rest = annotation.partition("tuple[")
    if len(line) > WIDTH and bracket and head in {"", "builtins."}:
        return wrapped(indent, f"{name}: {head}tuple[", [rest.removesuffix(", ...]"), "..."], "]")
    return [line]


def _qualified(annotation: str, shadowed: Container[str]) -> str:
    return re.sub(r"\w+", lambda word: f"builtins.{word[0]}" if word[0] in shadowed else word[0], annotation)


def _tuple(parts: Sequence[str]) -> list[str]:
    # A tuple in pieces: how it begins, each part with what follows it, how it ends.
    last = "," if len(parts) == 1 else ""
    return ["(", *(f"{part}, " for part in parts[:-1]), *(f"{part}{last}" for part in parts[-1:]), ")"]


def _members(codec: Codec[object]) -> Mapping[str, Codec[object]]:
    # An anonymous union's members, by attribute.
    if not isinstance(codec, UnionCodec):
        return {}
    return dict(zip(codec.attributes, (field.codec for field in codec.fields), strict=True))
