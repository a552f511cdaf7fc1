"""Types as a C header that a compiler takes: `vmlinux.h`, or some types with all that they need.

Definitions come in the order of their ids, but each behind what it needs: whole types that it holds,
declarations of structs that it points to. Members lie where the BTF says, as clang lays them out for
BPF. Whatever the bytes say, time and text are bounded.

The outline is that of `bpftool btf dump file ... format c`, with the macros that users of it know.
Source: tools/bpf/bpftool/btf.c:dump_btf_c, tools/lib/bpf/btf_dump.c (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.declarator import Declarator, attribute
from rawbpf.btf.placement import PLAIN_FLOATS, Placer, fill
from rawbpf.btf.requirement import Requirements, is_plain
from rawbpf.btf.spelling import Spelling, member_name
from rawbpf.btf.types import (
    MAX_DEPTH,
    Composite,
    DeclTag,
    Enum,
    Enum64,
    Float,
    Func,
    Fwd,
    Int,
    Struct,
    Type,
    Typedef,
    Void,
)
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rawbpf.btf.btf import Btf

_OPENING = "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n"
_CLOSING = "#endif /* __VMLINUX_H__ */\n"
_RELOCATED = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
_RELOCATED_END = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

"""
_KFUNCS = """\
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif

#ifndef __weak
#define __weak __attribute__((weak))
#endif

#ifndef __bpf_fastcall
#if __has_attribute(bpf_fastcall)
#define __bpf_fastcall __attribute__((bpf_fastcall))
#else
#define __bpf_fastcall
#endif
#endif

"""
_KFUNC, _FASTCALL, _KFUNC_END = "bpf_kfunc", "bpf_fastcall", "#endif\n\n"
_MODES = {1: "QI", 2: "HI", 8: "DI"}
_INTEGERS = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}
_BEGUN, _DONE = 1, 2


def to_c(btf: Btf, names: str | Iterable[str] | None = None) -> str:
    """Return C of all types, or of those of these `names` with what they need; documented as `Btf.to_c`."""
    header = _Header(btf)
    if names is None:
        header.define_all()
    else:
        for name in (names,) if isinstance(names, str) else names:
            header.define_named(name)
    return header.text()


class _Header(Declarator):
    flexible = "0"

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._parts: list[str] = []
        self._kfuncs: list[str] = []
        self._has_records = False
        self._spelling = Spelling()
        self._placer = Placer()
        self._requirements = Requirements(self.spend)
        self._states: dict[int, int] = {}
        self._declared: set[str] = set()
        self._inlined: set[int] = set()
        self._typedefs: dict[int, str] = {}
        self._tags: dict[int, list[DeclTag]] = {}
        # Types may share names and hold one another twice: the text of broken ones would be without end.
        self._left = (1 << 20) + 64 * btf._weight()
        for tag in btf:
            if isinstance(tag, DeclTag):
                self._tags.setdefault(tag.type.id, []).append(tag)

    def text(self) -> str:
        parts = self._parts
        if self._has_records:  # clang warns of an attribute that has nothing to apply to
            parts = [_RELOCATED, *parts, _RELOCATED_END]
        if self._kfuncs:
            parts = [*parts, _KFUNCS, *self._kfuncs, _KFUNC_END]
        return "".join([_OPENING, *parts, _CLOSING])

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise FormatError("types hold one another so often that C of them would be without end")

    def define_all(self) -> None:
        for type in self._btf:
            if isinstance(type, Func):
                wanted = any(tag.name == _KFUNC for tag in self._tags.get(type.id, ()))
            else:
                wanted = isinstance(type, (Composite, Enum, Fwd, Typedef)) and bool(type.name)
            if wanted:
                self.define(type)
        # Constants that no type uses matter all the same.
        for type in self._btf:
            if isinstance(type, Enum) and not type.name and type.values and type.id not in self._inlined:
                self.write(f"{self.body(type, 0)};\n\n")

    def define_named(self, name: str) -> None:
        named = self._btf.find_all(name)
        found = [type for type in named if isinstance(type, (Composite, Enum, Typedef, Func))]
        declared = [type for type in named if isinstance(type, (Fwd, Int, Float))]
        if not found and not declared:
            raise KeyError(name)
        for type in found or declared:
            if not isinstance(type, (Int, Float)) or not is_plain(type):
                self.define(type)

    # Order --------------------------------------------------------------------

    def define(self, root: Type) -> None:
        # Depth first, without recursion: real types need one another some 30 deep, others for ever.
        if root.id in self._states:
            return
        self._states[root.id] = _BEGUN
        needed, pointed = self._requirements.of(root)
        stack = [(root, iter(needed), pointed)]
        while stack:
            type, rest, pointed = stack[-1]
            for need in rest:
                state = self._states.get(need.id)
                if state is None:
                    self._states[need.id] = _BEGUN
                    needed, pointed = self._requirements.of(need)
                    stack.append((need, iter(needed), pointed))
                    break
                if state == _BEGUN:
                    raise FormatError(f"{type!r} and {need!r} each need the other to be defined before")
            else:
                stack.pop()
                self.declare_pointed(type, pointed)
                self.write_definition(type)
                self._states[type.id] = _DONE

    def declare_pointed(self, type: Type, pointed: Iterable[Composite | Fwd]) -> None:
        for each in pointed:
            if each.id != type.id and self._states.get(each.id) != _DONE:
                self.declare_tag(each)

    def declare_tag(self, type: Composite | Fwd) -> None:
        text = self.reference(type, 0)
        if text not in self._declared:
            self._declared.add(text)
            self.write(f"{text};\n\n")

    def write(self, text: str) -> None:
        self.spend(len(text))
        self._parts.append(text)

    def write_definition(self, type: Type) -> None:
        if isinstance(type, Fwd):
            self.declare_tag(type)
        elif isinstance(type, (Composite, Enum)):
            if not isinstance(type, Enum) or type.values:
                self.write(f"{self.body(type, 0)}{self.tags(type)};\n\n")
            if isinstance(type, Composite):
                self._declared.add(self.reference(type, 0))
        elif isinstance(type, Func):
            name = self._spelling.identifier(type.name)
            fast = any(tag.name == _FASTCALL for tag in self._tags.get(type.id, ()))
            text = f"extern {self.declare(type.type, name, 0)} __weak __ksym{' __bpf_fastcall' * fast};\n\n"
            self.spend(len(text))
            self._kfuncs.append(text)
        else:
            self.write(f"typedef {self.typedef(type)}{self.tags(type)};\n\n")

    def typedef(self, type: Type) -> str:
        name = self._typedefs[type.id] = self._spelling.identifier(type.name)
        if isinstance(type, Int):
            return f"{self.integer(type.size, type.signed)} {name}"
        if isinstance(type, Float):
            if type.size in PLAIN_FLOATS:
                return f"{PLAIN_FLOATS[type.size]} {name}"
            return f"struct {{\n\tunsigned char bytes[{type.size}];\n}} {name}"
        assert isinstance(type, Typedef)
        return self.declare(type.type, name, 0)

    # Text ---------------------------------------------------------------------

    def ends(self, depth: int) -> bool:
        if depth > MAX_DEPTH:
            raise FormatError(f"types are nested more than {MAX_DEPTH} deep")
        return False

    def declare(self, type: Type, declarator: str, depth: int) -> str:
        text = super().declare(type, declarator, depth)
        self.spend(len(text))
        return text

    def reference(self, type: Type, depth: int) -> str:
        if isinstance(type, Fwd):
            word = "union" if type.is_union else "struct"
            return f"{word} {self._spelling.tag(type, word)}"
        if isinstance(type, Composite):
            return (
                f"{type.kind_name} {self._spelling.tag(type, type.kind_name)}" if type.name else self.body(type, depth)
            )
        if isinstance(type, Enum):
            if not type.values:
                return self.integer(type.size, type.signed)
            return f"enum {self._spelling.tag(type, 'enum')}" if type.name else self.body(type, depth)
        if not isinstance(type, (Typedef, Int, Float, Void)):
            raise FormatError(f"{type!r} is no type of values: {type.kind_name} {type.name!r}")
        return self._typedefs.get(type.id) or type.name or type.kind_name

    def label(self, name: str) -> str:
        return member_name(name)

    def integer(self, size: int, signed: bool) -> str:
        if size not in _INTEGERS:
            raise FormatError(f"C has no integer of {size} bytes")
        return f"{'signed' if signed else 'unsigned'} {_INTEGERS[size]}"

    def body(self, type: Composite | Enum, depth: int) -> str:
        self.ends(depth)
        tab = "\t" * depth
        if isinstance(type, Enum):
            word, attribute = "enum", f" __attribute__((mode({_MODES[type.size]})))" if _needs_mode(type) else ""
            lines = self.constants(type)
            self._inlined.add(type.id)
        else:
            self._has_records = True
            placement = self._placer.place(type)
            word, attribute = type.kind_name, " __attribute__((packed))" if placement.packed else ""
            lines = self.members(type, placement.gaps, depth + 1)
        head = f"{word} {self._spelling.tag(type, word)}" if type.name else word
        inner = "".join(f"{tab}\t{line}\n" for line in lines)
        return f"{head} {{\n{inner}{tab}}}{attribute}"

    def constants(self, type: Enum) -> Iterator[str]:
        suffix = ("LL" if type.signed else "ULL") if isinstance(type, Enum64) else ""
        for name, value in type.values:
            # C has no negative numbers, only a minus before a number that then has to fit.
            text = f"({value + 1}LL - 1)" if value == -1 << 63 else f"{value}{suffix}"
            yield f"{self._spelling.identifier(name)} = {text},"

    def members(self, type: Composite, gaps: list[tuple[int, int]], depth: int) -> Iterator[str]:
        in_union = not isinstance(type, Struct)
        for index, (name, own, _, bits) in enumerate(type.members):
            yield from (f"{text};" for text in fill(gaps[index]))
            width = f": {bits}" if bits else ""
            yield f"{self.declare(own, self.label(name), depth)}{width}{self.tags(type, index)};"
        yield from (f"{text};" for text in fill(gaps[-1], in_union))

    def tags(self, type: Type, component: int = -1) -> str:
        tags = (tag for tag in self._tags.get(type.id, ()) if tag.component_index == component)
        return "".join(f" {attribute(tag)}" for tag in tags)


def _needs_mode(type: Enum) -> bool:
    # Compilers make an enumeration of 64 bits only where a constant needs them.
    if type.size == 8:
        low, high = (-1 << 31, 1 << 31) if any(value < 0 for _, value in type.values) else (0, 1 << 32)
        return all(low <= value < high for _, value in type.values)
    return type.size in _MODES
