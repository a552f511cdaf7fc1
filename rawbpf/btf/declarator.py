"""C declarations: a type wrapped around a name, from the name outwards.

How a struct, an enum or a typedef is written where it is used is for whoever inherits from here.
"""

from __future__ import annotations

from rawbpf.btf.types import MAX_DEPTH, QUALIFIERS, Array, DeclTag, FuncProto, Ptr, Type, TypeTag

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Declarator:
    """Writes declarations; `flexible` is the length that an array of no length has."""

    flexible = ""

    def reference(self, type: Type, depth: int) -> str:
        """Return what stands for `type` where it is used: its name, or its body if it has none."""
        raise NotImplementedError

    def ends(self, depth: int) -> bool:
        """Return whether to write `...` for what is nested `depth` deep, or come now."""
        raise NotImplementedError

    def label(self, name: str) -> str:
        """Return how a parameter or member of that name is written."""
        return name

    def declare(self, type: Type, declarator: str, depth: int) -> str:
        """Return the declaration of `declarator` as `type`."""
        # `*` binds weaker than `[]` and `()`.
        qualifiers = ""
        for _ in range(MAX_DEPTH):
            if isinstance(type, QUALIFIERS):
                word = attribute(type) if isinstance(type, TypeTag) else type.kind_name
                if word and f"{word} " not in qualifiers:  # an array and its elements may both be const
                    qualifiers += f"{word} "
                type = type.type
            elif isinstance(type, Ptr):
                declarator = f"*{qualifiers}{declarator}".rstrip()
                qualifiers = ""
                type = type.type
            elif isinstance(type, Array):
                if declarator.startswith("*"):
                    declarator = f"({declarator})"
                declarator = f"{declarator}[{type.length or self.flexible}]"
                type = type.type
            elif isinstance(type, FuncProto):
                if declarator.startswith("*"):
                    declarator = f"({declarator})"
                declarator = f"{declarator}({self.parameters(type, depth)})"
                type = type.return_type
            else:
                return f"{qualifiers}{self.reference(type, depth)} {declarator}".rstrip()
        self.ends(MAX_DEPTH + 1)
        return f"... {declarator}".rstrip()

    def parameters(self, proto: FuncProto, depth: int) -> str:
        """Return what stands between the parentheses of a prototype."""
        if self.ends(depth):
            return "..."
        texts = []
        more = proto.variadic
        for name, type in proto.params:
            if self.ends(0):
                more = True
                break
            texts.append(self.declare(type, self.label(name), depth + 1))
        if more:
            texts.append("...")
        return ", ".join(texts) or "void"


def is_word(text: str) -> bool:
    """Return whether `text` may be a name in C."""
    return bool(text) and not text[0].isdigit() and _WORD.issuperset(text)


def attribute(tag: TypeTag | DeclTag) -> str:
    """Return a tag as C has it; nothing for an attribute that is none."""
    if tag.is_attribute:
        return f"__attribute__(({tag.name}))" if _is_attribute(tag.name) else ""
    return f"__attribute__((btf_{tag.kind_name}({quoted(tag.name)})))"


def _is_attribute(text: str) -> bool:
    # Such as `address_space(1)`, and nothing more.
    name, opened, rest = text.partition("(")
    return is_word(name) and (not opened or (rest.endswith(")") and (_WORD | {" ", ","}).issuperset(rest[:-1])))


def quoted(text: str) -> str:
    """Return `text` as a string of C."""
    inner = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(inner)}"'


def printable(text: str) -> str:
    """Return `text` on one line, `?` in place of what cannot be printed."""
    return "".join(char if char.isprintable() else "?" for char in text)
