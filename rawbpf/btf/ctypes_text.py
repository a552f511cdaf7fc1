"""Types as Python: ctypes classes that lie in memory as the BTF says, and enumerations.

Such a class is what `key=` and `value=` of a map take, and needs nothing but ctypes to be used
elsewhere. Pointers are integers: what they point to is in another memory. Knows nothing of values.
"""

from __future__ import annotations

import re
import sys
from keyword import iskeyword

from rawbpf.btf.ctypes_layout import Field, arranged, integer
from rawbpf.btf.declarator import quoted
from rawbpf.btf.enumerator import members_of
from rawbpf.btf.types import (
    MAX_DEPTH,
    QUALIFIERS,
    Array,
    Composite,
    Enum,
    Float,
    Int,
    Ptr,
    Struct,
    Type,
    Typedef,
    Union,
    strip,
)
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rawbpf.btf.btf import Btf

_OPENING = '"""Types as ctypes lays them out; maps take them as `key=` and `value=`."""\n\nimport ctypes\n'
_FLOATS = {4: "ctypes.c_float", 8: "ctypes.c_double"}
# As members of these names Python and ctypes would take what a field is assigned to.
_OBEYED = re.compile(r"__\w+__|_(fields|pack|anonymous|align|layout)_")
_BYTES = "ctypes.c_uint8 * "
_SIZES = (1, 2, 4, 8)
_ORDERED = {f"__{order[0]}e{bits}": (order, bits) for order in ("big", "little") for bits in (16, 32, 64)}


def to_python(btf: Btf, names: str | Iterable[str] | None = None) -> str:
    """Return Python of the types of these `names`, or of all; documented as `Btf.to_python`."""
    writer = _Writer(btf)
    if names is None:
        writer.define_all()
    else:
        for name in (names,) if isinstance(names, str) else names:
            writer.define_named(name)
    return writer.text()


class _Writer:
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._swapped = "" if btf.byteorder == sys.byteorder else f"{btf.byteorder.title()}Endian"
        self._parts: list[str] = []
        self._used: set[str] = {"ctypes", "enum"}
        # Structs without a name get one made up, which must not be that of another type.
        self._taken = {type.name for type in btf if isinstance(type, (Composite, Enum, Typedef))}
        # By id: what a class is called, and the alignment that ctypes gives it.
        self._classes: dict[int, tuple[str, int]] = {}
        self._enums: set[int] = set()
        self._aliases: set[int] = set()
        # Types may share their names: the text of broken ones would be without end.
        self._left = (1 << 20) + 64 * btf._weight()

    def text(self) -> str:
        imports = "import enum\n" if self._enums else ""
        return f"{_OPENING}{imports}{''.join(self._parts)}"

    def write(self, text: str) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise FormatError("types have names so long that Python of them would be without end")
        self._parts.append(text)

    def define_all(self) -> None:
        for type in self._btf:
            if isinstance(type, (Composite, Enum)):
                if type.name:
                    self.define(type)
            elif isinstance(type, Typedef) and isinstance(strip(type), (Composite, Enum, Int, Float, Ptr, Array)):
                self.define(type)

    def define_named(self, name: str) -> None:
        named = self._btf.find_all(name) if name else []
        found = [type for type in named if isinstance(type, (Composite, Enum, Typedef, Int, Float))]
        if not found:
            raise KeyError(name)
        for type in found:
            self.define(type)

    def define(self, type: Type) -> None:
        if isinstance(type, Composite):
            self.class_of(type, type.name, 0)
        elif isinstance(type, Enum):
            self.enumeration(type, type.name, 0)
        elif type.id not in self._aliases:
            self._aliases.add(type.id)
            target = strip(type)
            if isinstance(target, (Composite, Enum)) and not target.name:
                # The typedef's name is the only one that it has.
                if isinstance(target, Enum):
                    self.enumeration(target, type.name, 0)
                elif target.id not in self._classes:
                    self.class_of(target, type.name, 0)
                    return
            expression, _, _ = self.expression(type, type.name, 0)
            name = self.unique(type.name)
            if name != expression:
                self.write(f"\n{name} = {expression}\n")

    # Classes ------------------------------------------------------------------

    def class_of(self, type: Composite, name: str, depth: int) -> tuple[str, int]:
        found = self._classes.get(type.id)
        if found is None:
            if depth > MAX_DEPTH:
                raise FormatError(f"{type!r} is nested more than {MAX_DEPTH} deep")
            fields = list(self.fields(type, name, depth + 1))
            packed, align, lines = arranged(type, fields)
            found = self._classes[type.id] = (self.unique(name, made_up=not type.name and depth > 0), align)
            base = f"ctypes.{self._swapped}{'Structure' if isinstance(type, Struct) else 'Union'}"
            anonymous = [field.name for field in fields if field.anonymous]
            body = "    _pack_ = 1\n" if packed else ""
            if anonymous:
                body += f"    _anonymous_ = ({', '.join(map(quoted, anonymous))},)\n"
            if any(field.expression.startswith("__") for field in fields):
                # Inside of a class Python takes such a name for a private one of the class.
                body += "    pass\n" if not body else ""
                assigned, tab = f"\n\n{found[0]}._fields_", ""
            else:
                assigned, tab = "    _fields_", "    "
            inner = "".join(f"{tab}    {line}\n" for line in lines)
            body += f"{assigned} = [\n{inner}{tab}]\n" if lines else f"{assigned} = []\n"
            self.write(f"\n\nclass {found[0]}({base}):\n{body}")
        return found

    def fields(self, type: Composite, name: str, depth: int) -> Iterator[Field]:
        for index, (own, of, offset, bits) in enumerate(type.members):
            bare = strip(of)
            anonymous = not own and isinstance(bare, Composite)
            label = f"{own}_" if _OBEYED.fullmatch(own) else own or f"_anonymous{index}"
            expression, size, align = self.expression(of, f"{name}_{label.strip('_')}", depth)
            if expression.startswith(_BYTES) and isinstance(bare, Composite):
                anonymous = False
            signed = isinstance(bare, (Int, Enum)) and bare.signed
            comment = "" if of.name and expression.startswith(of.name) else self.comment(of)
            field = Field(label, expression, offset, size, align, bits, signed, comment, anonymous)
            yield self.alone(field, name, index) if bits and isinstance(type, Union) else field

    def alone(self, field: Field, name: str, index: int) -> Field:
        # ctypes puts bit-fields of a union one behind the other, unless each is in a struct.
        word = self.unique(f"{name}_bits{index}", made_up=True)
        comment, field.comment = field.comment, ""
        self.write(f"\n\nclass {word}(ctypes.{self._swapped}Structure):\n    _fields_ = [{field.line()}]\n")
        return Field(f"_bits{index}", word, 0, field.size, field.align, comment=comment, anonymous=True)

    def comment(self, type: Type) -> str:
        # What the expression does not tell: typedefs, enumerations and pointers.
        from rawbpf.btf.text import declare

        at = type
        while isinstance(at, (*QUALIFIERS, Array)):
            at = at.type
        if not isinstance(at, (Typedef, Enum, Ptr)) or (isinstance(at, Enum) and not at.name):
            return ""
        if isinstance(at, Ptr):
            bare = strip(at.type)
            if isinstance(bare, (Composite, Enum)) and not bare.name:
                return ""
        text = declare(at, "")
        return "" if "\n" in text or not text.isprintable() else text

    def expression(self, type: Type, name: str, depth: int) -> tuple[str, int, int]:
        """Return the ctypes class of `type`, its size and its alignment; `name` is for a struct that has none."""
        lengths: list[int] = []
        at = type
        for _ in range(MAX_DEPTH):
            if isinstance(at, Array):
                lengths.append(at.length)
                at = at.type
            elif isinstance(at, (*QUALIFIERS, Typedef)):
                if isinstance(at, Typedef) and at.name in _ORDERED and not self._swapped:
                    break
                at = at.type
            else:
                break
        else:
            raise FormatError(f"references from {type!r} on never end")
        one, size, align = self.single(at, name, bool(lengths), depth)
        text = one
        for length in reversed(lengths):
            text += f" * {length}"
            size *= length
        return text, size, align

    def single(self, type: Type, name: str, in_array: bool, depth: int) -> tuple[str, int, int]:
        if isinstance(type, Typedef):
            order, bits = _ORDERED[type.name]
            own = "" if order == self._btf.byteorder else f".__ctype_{order[0]}e__"
            return f"ctypes.c_uint{bits}{own}", bits // 8, bits // 8
        if isinstance(type, Composite):
            if self._swapped and isinstance(type, Union):
                return f"{_BYTES}{type.size}", type.size, 1  # no Python before 3.13 has them in another byte order
            found, align = self.class_of(type, type.name or name, depth)
            return found, type.size, align
        if isinstance(type, Float):
            if type.size in _FLOATS:
                return _FLOATS[type.size], type.size, type.size
            return f"{_BYTES}{type.size}", type.size, 1
        if isinstance(type, Ptr):
            size = self._btf.pointer_size
            return integer(size, False), size, size
        if isinstance(type, Enum):
            self.enumeration(type, type.name or name, depth)
            if type.size in _SIZES:
                return integer(type.size, type.signed), type.size, type.size
        elif isinstance(type, Int):
            if type.size == 1 and type.is_bool:
                return "ctypes.c_bool", 1, 1
            if type.name == "char" and in_array:
                return "ctypes.c_char", 1, 1
            if type.size in _SIZES:
                return integer(type.size, type.signed), type.size, type.size
            if type.size == 16:
                return "ctypes.c_uint64 * 2", 16, 8
        raise FormatError(f"{type!r} has no values: {type.kind_name} {type.name!r}")

    # Enumerations -------------------------------------------------------------

    def enumeration(self, type: Enum, name: str, depth: int) -> None:
        if type.id in self._enums or not type.values:
            return
        self._enums.add(type.id)
        word = self.unique(name, made_up=not type.name and depth > 0)
        lines = "".join(
            f"        {quoted(label)}: {value},\n" for label, value in members_of(name, type.values).items()
        )
        self.write(f"\n{word} = enum.IntEnum(\n    {quoted(word)},\n    {{\n{lines}    }},\n)\n")

    def unique(self, name: str, made_up: bool = False) -> str:
        word = "".join(char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in name)
        if not word or word[0].isdigit() or iskeyword(word):
            word = f"_{word}" if not iskeyword(word) else f"{word}_"
        found, number = word, 1
        while found in self._used or (made_up and found in self._taken):
            number += 1
            found = f"{word}_{number}"
        self._used.add(found)
        return found
