"""BTF for kernels that lack kinds of it: each is replaced by one that they have.

Ids stay what they are, and so do sizes, so that maps and programs refer to the result as to the
original. What there is to lack, and how to find out, stands here; asking a kernel is another's.

Source: tools/lib/bpf/libbpf.c:bpf_object__sanitize_btf, tools/lib/bpf/features.c (v6.12)
"""

from __future__ import annotations

from array import array

from rawbpf.btf import kind
from rawbpf.btf.btf import Btf
from rawbpf.btf.build import Builder, assemble
from rawbpf.btf.declarator import is_word
from rawbpf.btf.types import Datasec, DeclTag, Enum, Enum64, Float, Func, FuncProto, TypeTag, Var

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Literal

    from rawbpf.btf.base import Type

_KFLAG = 1 << 31
_BYTE = 8  # the last word of an integer of 8 bits


def _probe_func(b: Builder, linkage: str = "static") -> None:
    b.func("f", b.func_proto(0, [("a", b.int("int", 4))]), linkage)


def _probe_datasec(b: Builder, name: str = ".data") -> None:
    b.datasec(name, 4, [(b.var("v", b.int("int", 4), "static"), 0, 4)])


def _probe_decl_tag(b: Builder, attribute: bool = False) -> None:
    b.decl_tag("t", b.struct("s", 4, [("a", b.int("int", 4), 0)]), attribute=attribute)


_PROBES: dict[str, Callable[[Builder], object]] = {
    "func": _probe_func,
    "func_global": lambda b: _probe_func(b, "global"),
    "datasec": _probe_datasec,
    "datasec_name": lambda b: _probe_datasec(b, "?.data"),
    "float": lambda b: b.float("float", 4),
    "decl_tag": _probe_decl_tag,
    "type_tag": lambda b: b.ptr(b.type_tag("t", b.int("int", 4))),
    "enum64": lambda b: b.enum64("e", [("E", 1)]),
    "tag_attribute": lambda b: _probe_decl_tag(b, attribute=True),
}

FEATURES = tuple(_PROBES)
"""What kernels may lack: functions (Linux 5.0) and that they are global (5.6), variables and their sections (5.2) and
that these have names of any characters (6.9), floating-point numbers (5.13), tags on declarations (5.16) and types
(5.17), enumerations of 64 bits and signed ones (6.0), tags that are attributes (6.14)."""


def probe(feature: str, byteorder: Literal["little", "big"]) -> bytes:
    """Return a small BTF that only kernels with `feature`, one of FEATURES, take."""
    builder = Builder(byteorder)
    _PROBES[feature](builder)
    return builder.to_bytes()


def sanitize(data: bytes, lacking: Collection[str]) -> bytes:
    """Return the BTF in `data` without what is `lacking`, some of FEATURES.

    Variables and declaration tags become integers of a byte, sections structs, functions typedefs of an
    integer, floating-point numbers structs without members, type tags `const`, enumerations of 64 bits
    integers of the same size and name.

    Raises: FormatError when `data` is no BTF.
    """
    btf = Btf.from_bytes(data)
    names = _Names(btf)
    words = array("I")
    for type in btf:
        if type.id:
            words.extend(_replacement(type, lacking, names) or btf.record(type.id))
    return assemble(words, btf.strings + bytes(names.added), btf.byteorder)


class _Names:
    # Where strings lie that are added behind the existing ones.
    def __init__(self, btf: Btf) -> None:
        self._end = len(btf.strings)
        self._known: dict[str, int] = {}
        self.added = bytearray()

    def offset(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._end + len(self.added)
            self.added += text.encode() + b"\0"
        return self._known[text]


def _replacement(type: Type, lacking: Collection[str], names: _Names) -> list[int] | None:
    # The words of a record that stands for that of `type`; None where it may stay.
    name, info = type.btf.record(type.id)[:2]
    if isinstance(type, Func):
        if "func" in lacking:
            return [name, kind.TYPEDEF << 24, type.type.id]
        if "func_global" in lacking:
            return [name, kind.FUNC << 24, type.type.id]
    elif isinstance(type, FuncProto):
        if "func" in lacking:
            return [0, kind.INT << 24, 1, _BYTE]
    elif isinstance(type, Var):
        if "datasec" in lacking:
            return [name, kind.INT << 24, 1, _BYTE]
    elif isinstance(type, Datasec):
        return _section(type, lacking, names)
    elif isinstance(type, Float):
        if "float" in lacking:
            return [0, kind.STRUCT << 24, type.size]
    elif isinstance(type, DeclTag):
        if "decl_tag" in lacking or (type.is_attribute and "tag_attribute" in lacking):
            return [0, kind.INT << 24, 1, _BYTE]
    elif isinstance(type, TypeTag):
        if "type_tag" in lacking or (type.is_attribute and "tag_attribute" in lacking):
            return [0, kind.CONST << 24, type.type.id]
    elif isinstance(type, Enum) and "enum64" in lacking:
        if isinstance(type, Enum64):
            return [name, kind.INT << 24, type.size, type.signed << 24 | 8 * min(type.size, 16)]
        return [name, info & ~_KFLAG, *type.btf.record(type.id)[2:]]
    return None


def _section(type: Datasec, lacking: Collection[str], names: _Names) -> list[int] | None:
    _, info, size, *entries = type.btf.record(type.id)
    if "datasec" in lacking:
        members = []
        for variable, offset, _ in type.variables:
            members += [variable.btf.record(variable.id)[0], variable.id, 8 * offset & 0xFFFFFFFF]
        plain = _cleaned(type.name, "")
        return [names.offset(plain), kind.STRUCT << 24 | len(members) // 3, size, *members]
    if "datasec_name" in lacking:
        plain = _cleaned(type.name, ".")
        if plain != type.name:
            return [names.offset(plain), info, size, *entries]
    return None


def _cleaned(name: str, allowed: str) -> str:
    return "".join(char if char in allowed or is_word(f"_{char}") else "_" for char in name)
