"""Types as C writes them, for messages and for people: `struct event { ... };`.

One type at a time, without the types that it needs: a header that compiles is another module's.
Whatever the bytes say, the text is bounded.
"""

from __future__ import annotations

from rawbpf.btf.declarator import Declarator, attribute
from rawbpf.btf.types import Composite, Datasec, DeclTag, Enum, Func, Fwd, Type, Typedef, Var

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Anonymous structs nest, and may do so without end; what is deeper or longer is shown as `...`.
_MAX_NESTING = 8
_MAX_TEXT = 1 << 16


def describe(type: Type) -> str:
    """Return `type` as C declares or defines it, structs and enumerations with their members.

    Raises: FormatError when the BTF is broken there.
    """
    writer = _Writer()
    if isinstance(type, (Composite, Enum)):
        return f"{writer.body(type, 0)};"
    if isinstance(type, Typedef):
        return f"typedef {writer.declare(type.type, type.name, 0)};"
    if isinstance(type, (Var, Func)):
        linkage = "" if type.linkage == "global" else f"{type.linkage} "
        return f"{linkage}{writer.declare(type.type, type.name, 0)};"
    if isinstance(type, Datasec):
        return f'SEC("{type.name}") {{\n{writer.variables(type)}}};'
    if isinstance(type, DeclTag):
        return attribute(type)
    if isinstance(type, Fwd):
        return f"{writer.reference(type, 0)};"
    return writer.declare(type, "", 0)


def declare(type: Type, name: str, most: int = _MAX_TEXT) -> str:
    """Return the C declaration of a `name` of that type, such as `int (*start)[4]`, on one line for named types.

    `most`: after how many characters `...` takes the place of what nests. Raises: FormatError when the BTF is broken.
    """
    return _Writer(most).declare(type, name, 0)


class _Writer(Declarator):
    def __init__(self, most: int = _MAX_TEXT) -> None:
        self.left = most

    def full(self) -> bool:
        return self.left < 0

    def ends(self, depth: int) -> bool:
        return depth > _MAX_NESTING or self.full()

    def declare(self, type: Type, declarator: str, depth: int) -> str:
        text = super().declare(type, declarator, depth)
        self.left -= len(text) + 1
        return text

    def reference(self, type: Type, depth: int) -> str:
        if isinstance(type, Fwd):
            return f"{'union' if type.is_union else 'struct'} {type.name}"
        if isinstance(type, (Composite, Enum)):
            name = type.name
            return f"{_word(type)} {name}" if name else self.body(type, depth)
        return type.name or type.kind_name

    def body(self, type: Composite | Enum, depth: int) -> str:
        head = f"{_word(type)} {type.name}".rstrip()
        if self.ends(depth):
            return f"{head} {{ ... }}"
        tab = "\t" * depth
        lines = self.enumerators(type) if isinstance(type, Enum) else self.members(type, depth + 1)
        inner = "".join(f"{tab}\t{line}\n" for line in lines)
        return f"{head} {{\n{inner}{tab}}}"

    def enumerators(self, type: Enum) -> Iterator[str]:
        for name, value in type.values:
            text = f"{name} = {value},"
            self.left -= len(text)
            yield text
            if self.full():
                yield "..."
                return

    def members(self, type: Composite, depth: int) -> Iterator[str]:
        for name, own, _, bits in type.members:
            yield f"{self.declare(own, name, depth)}{f' : {bits}' if bits else ''};"
            if self.full():
                yield "..."
                return

    def variables(self, section: Datasec) -> str:
        lines = []
        for var, at, size in section.variables:
            lines.append(f"\t{self.declare(var.type, var.name, 1)}; // offset {at}, size {size}\n")
            if self.full():
                lines.append("\t...\n")
                break
        return "".join(lines)


def _word(type: Composite | Enum) -> str:
    return "enum" if isinstance(type, Enum) else type.kind_name
