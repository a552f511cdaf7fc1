"""What types and constants are called in a C header: each name once, as C knows names.

C has one space of names for structs, unions and enums (their tags), and one for typedefs, constants
and functions. BTF of several source files repeats names: the second of a name gets `___2`, which
CO-RE does not count as part of the name.
"""

from __future__ import annotations

from rawbpf.btf.declarator import is_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Composite, Enum, Fwd

# What the compiler has a meaning for.
_WORDS = (
    "asm", "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "typeof", "union", "unsigned", "void", "volatile", "while",
    "_Alignas", "_Alignof", "_Atomic", "_Bool", "_Complex", "_Generic", "_Imaginary", "_Noreturn", "_Static_assert",
    "_Thread_local", "__int128", "__builtin_va_list",
)  # fmt: skip
_DECLARED = 0


class Spelling:
    """The names that were given."""

    def __init__(self) -> None:
        # By its spelling: the kind of a tag, and the id of the type that it defines.
        self._tags: dict[str, tuple[str, int]] = dict.fromkeys(_WORDS, ("", -1))
        self._tag_of: dict[int, str] = {}
        self._identifiers: set[str] = set(_WORDS)
        self._counts: dict[tuple[str, str], int] = {}

    def tag(self, type: Composite | Enum | Fwd, word: str) -> str:
        """Return what the `word` (struct, union, enum) is called; the same for a declaration and the definition."""
        found = self._tag_of.get(type.id)
        if found is None:
            id = _DECLARED if type.kind_name == "fwd" else type.id
            name = found = member_name(type.name)
            while True:
                have, owner = self._tags.get(found, (word, _DECLARED))
                if have == word and (id == _DECLARED or owner in (_DECLARED, id)):
                    break
                found = self._next(name, word)
            self._tags[found] = (word, id or owner)
            self._tag_of[type.id] = found
        return found

    def identifier(self, name: str) -> str:
        """Return how a new typedef, constant or function is called."""
        name = found = _as_word(name)
        while found in self._identifiers:
            found = self._next(name, "")
        self._identifiers.add(found)
        return found

    def _next(self, name: str, space: str) -> str:
        number = self._counts[name, space] = self._counts.get((name, space), 1) + 1
        return f"{name}___{number}"


def member_name(name: str) -> str:
    """Return `name` as a member's, which no other name can be in the way of."""
    name = _as_word(name)
    return f"{name}___2" if name in _WORDS else name


def _as_word(name: str) -> str:
    # Other languages have names that C has not.
    if not name or is_word(name):
        return name
    return "_" * name[0].isdigit() + "".join(char if is_word(f"_{char}") else "_" for char in name)
