"""The text of a module that has an object embedded, with types for its maps, programs, variables and events.

The same object gives the same text, which ruff and black leave as it is. The classes that the module's own are made
of stand in `rawbpf.loader.skeleton`.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64encode

import rawbpf
from rawbpf.cli.event_kind import guessed_type
from rawbpf.cli.skeleton_type import INDENT, WIDTH, Records, class_name, identifier, plain, quoted, wrapped
from rawbpf.codec import codec_for
from rawbpf.errors import FormatError, SpecError
from rawbpf.loader.types import ObjectTypes
from rawbpf.map.create import codecs_of_spec
from rawbpf.map.types import CLASSES
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rawbpf.codec import Codec
    from rawbpf.loader.spec import ObjectSpec
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.variable import VariableSpec

    # (attribute, name in the object, annotation, the annotation's parameters)
    Entry = tuple[str, str, str, list[str]]

# Which of the types of keys and values a class of maps is generic in.
_PARAMETERS = {
    "ArrayMap": "V",
    "BloomFilterMap": "V",
    "CgroupStorageMap": "KV",
    "CgrpStorageMap": "V",
    "DevMapHash": "K",
    "HashMap": "KV",
    "HashOfMaps": "K",
    "InodeStorageMap": "V",
    "LpmTrieMap": "KV",
    "LruHashMap": "KV",
    "LruPerCpuHashMap": "KV",
    "Map": "KV",
    "PerCpuArrayMap": "V",
    "PerCpuCgroupStorageMap": "KV",
    "PerCpuHashMap": "KV",
    "QueueMap": "V",
    "SkStorageMap": "V",
    "SockHash": "K",
    "StackMap": "V",
    "StackTraceMap": "V",
    "TaskStorageMap": "V",
}
_READERS = {
    c.BPF_MAP_TYPE_RINGBUF: ("Reader", "ReaderOptions"),
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: ("PerfReader", "PerfReaderOptions"),
}
_HOMES = {
    "Any": "typing",
    "Literal": "typing",
    "LoadOptions": "rawbpf.loader.spec",
    "MapSpec": "rawbpf.spec",
    "Object": "rawbpf",
    "PerfReader": "rawbpf.event.perf_reader",
    "PerfReaderOptions": "rawbpf.loader.skeleton",
    "Program": "rawbpf",
    "ProgramSpec": "rawbpf.spec",
    "ReaderOptions": "rawbpf.loader.skeleton",
    "Struct": "rawbpf.loader.skeleton",
    "Types": "rawbpf.event.decode",
    "UnionValue": "rawbpf.codec.union",
    "Unpack": "typing",
    "Variable": "rawbpf.loader.variable",
    "VariableSpec": "rawbpf.spec",
    "builtins": "",
    "overload": "typing",
}
_OWN = ("Group", "Skeleton", "SkeletonSpec", "TYPE_CHECKING", "embedded", "record")
_COLUMNS = 76


def skeleton(spec: ObjectSpec, *, name: str | None = None, events: Sequence[tuple[str, str]] = ()) -> str:
    """Return the module of the object file that `spec` was read from.

    `name`: of the class, by default the file's. `events`: (map, type) of records beside those that are found.
    Raises: SpecError for an event's map or type that there is not; FormatError for damaged types.
    """
    return _Module(spec, _class_name(name or _stem(spec.name)), events).text()


def _class_name(name: str) -> str:
    # None of those that the module imports, or whose specification would be one of them.
    taken = {*_HOMES, *_OWN, *rawbpf._HOMES}
    found = class_name(name, taken)
    while f"{found}Spec" in taken:
        found += "_"
    return found


def _stem(name: str) -> str:
    for suffix in (".o", ".bpfel", ".bpfeb", ".bpf"):
        name = name.removesuffix(suffix)
    return name


class _Module:
    def __init__(self, spec: ObjectSpec, name: str, events: Sequence[tuple[str, str]]) -> None:
        self._spec = spec
        self._name = name
        self._parts = [f"{name}{part}" for part in ("Maps", "Programs", "Variables")]
        self._spec_parts = [f"{name}{part}" for part in ("MapSpecs", "ProgramSpecs", "VariableSpecs")]
        self._taken = {name, f"{name}Spec", *self._parts, *self._spec_parts, *_HOMES, *_OWN, *rawbpf._HOMES}
        self._records = Records(self._taken)
        self._used = {"LoadOptions", "Object", "Unpack"}
        self._types = ObjectTypes(spec._content)
        self._events = _by_map(spec, events)
        self._readers: list[str] = []

    def text(self) -> str:
        maps = {name: each for name, each in self._spec.maps.items() if not each.is_data}
        entries = [
            _named({name: self._map(name, each) for name, each in maps.items()}),
            _named({name: ("Program", []) for name in self._spec.programs}),
            _named({name: self._variable(each) for name, each in self._spec.variables.items()}),
        ]
        specs = [
            _named({name: ("MapSpec", []) for name in maps}),
            _named({name: ("ProgramSpec", []) for name in self._spec.programs}),
            [(to, name, "VariableSpec", parameters) for to, name, _, parameters in entries[2]],
        ]
        every = {annotation for group in [*entries, *specs] for _, _, annotation, _ in group}
        self._used |= {each for each in every if each in _HOMES or each in rawbpf._HOMES}
        words = ("The maps", "The programs", "The variables")
        groups: list[str] = []
        for name, word, group in zip(self._parts, words, entries, strict=True):
            groups += _group(name, f"{word} of the loaded object.", group)
        for name, word, group in zip(self._spec_parts, words, specs, strict=True):
            groups += _group(name, f"{word} before loading.", group)
        body = [*groups, *self._spec_class(), *self._class()]
        return "\n".join([*self._head(), *self._declared(), *body, *self._embedded()]) + "\n"

    # What there is ---------------------------------------------------------------

    def _map(self, name: str, spec: MapSpec) -> tuple[str, list[str]]:
        of = CLASSES.get(spec.map_type, "map.base:Map").rpartition(":")[2]
        if spec.map_type in _READERS:
            types = self._types_of_events(name)
            return (self._reader_class(name, of, spec.map_type, types), []) if types else (of, [])
        try:
            key, value = codecs_of_spec(spec)
        except (FormatError, SpecError, TypeError, ValueError):
            return of, []
        sides: dict[str, Codec[object]] = {"K": key, "V": value}
        return of, [self._records.annotation(sides[side]) for side in _PARAMETERS.get(of, "")]

    def _variable(self, spec: VariableSpec) -> tuple[str, list[str]]:
        described = spec.size if spec.type is None else spec.type
        try:
            codec: Codec[object] | None = codec_for(described, byteorder=spec.byteorder)
        except (FormatError, SpecError, TypeError, ValueError):
            codec = None
        return "Variable", [self._records.annotation(codec)]

    def _types_of_events(self, name: str) -> dict[str, Codec[object]]:
        # Of `struct event` in the map `events`, and those that --event names.
        found: dict[str, Codec[object]] = {}
        guessed = guessed_type(self._types, name)
        if guessed is not None:
            found[guessed[0]] = guessed[1]
        for asked in self._events.get(name, ()):
            type = self._types.find(asked)
            if type is None:
                raise SpecError(f"--event {name}={asked}: no struct, union, typedef, enum or number is called so")
            found[asked] = codec_for(type)
        return found

    def _reader_class(self, name: str, of: str, map_type: int, types: Mapping[str, Codec[object]]) -> str:
        reader, options = _READERS[map_type]
        self._used |= {of, reader, options, "Any", "Literal", "Types", "overload"}
        own = class_name(f"{name}_map", self._taken)
        self._taken.add(own)
        deep = INDENT * 2
        lines = ["", f"{INDENT}class {own}({of}):", f'{deep}"""The map {plain(name)}, and what its records are."""', ""]
        rows = [
            (f"type: Literal[{quoted(called)}]", self._records.annotation(codec)) for called, codec in types.items()
        ]
        # Narrower for some types than for all, which checkers take for less than the map's own method promises.
        why = "  # type: ignore[override]"
        for described, record in [*rows, ("type: None = None", "bytes")]:
            parts = ["self", described, f"**options: Unpack[{options}[{record}]]"]
            lines += [f"{deep}@overload{why}", *wrapped(deep, "def reader(", parts, f") -> {reader}[{record}]: ...")]
            why = ""
        parts = ["self", "type: Types", "*", "tag: str | None = None", f"**options: Unpack[{options}[Any]]"]
        lines += [f"{deep}@overload", *wrapped(deep, "def reader(", parts, f") -> {reader}[Any]: ...")]
        parts = ["self", "type: Any = None", "**options: Any"]
        lines += wrapped(deep, "def reader(", parts, ") -> Any: ...")
        self._readers += lines
        return own

    # The parts of the text -------------------------------------------------------

    def _head(self) -> list[str]:
        file = plain(self._spec.name)
        return [
            f'"""{file} as a module: `{self._name}.load()`, or `{self._name}.open()`, edit, and `.load()`.',
            "",
            "Written by `rawbpf gen skeleton`: write it again when the object changes.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            "from rawbpf.loader.skeleton import Group, Skeleton, SkeletonSpec, embedded"
            + (", record" if self._records else ""),
        ]

    def _declared(self) -> list[str]:
        declarations = self._records.declarations() if self._records else []
        used = self._used | self._records.used | ({"Struct"} if self._records else set())
        lines = ["", "TYPE_CHECKING = False", "if TYPE_CHECKING:"]
        by_home: dict[str, list[str]] = {}
        for name in sorted(used, key=lambda name: (not name[0].isupper(), name)):
            by_home.setdefault(_HOMES.get(name, "rawbpf"), []).append(name)
        standard = by_home.pop("typing")
        if "builtins" in by_home.pop("", ()):
            lines.append(f"{INDENT}import builtins")
        lines += [f"{INDENT}from typing import {', '.join(standard)}", ""]
        for home in sorted(by_home):
            line = f"{INDENT}from {home} import {', '.join(by_home[home])}"
            if len(line) <= WIDTH:
                lines.append(line)
            else:
                lines += [f"{INDENT}from {home} import (", *(f"{INDENT * 2}{name}," for name in by_home[home])]
                lines.append(f"{INDENT})")
        lines += [*declarations, *self._readers]
        if self._records:
            lines += ["else:", *self._records.definitions()]
        return lines

    def _spec_class(self) -> list[str]:
        return [
            *_class(f"{self._name}Spec", "SkeletonSpec", "What the object defines, to edit before it is loaded."),
            "",
            f"{INDENT}def __init__(self) -> None:",
            f"{INDENT * 2}super().__init__(embedded(_OBJECT, {quoted(self._spec.name)}))",
            *self._attributes("spec", self._spec_parts),
            "",
            f"{INDENT}def load(self, **options: Unpack[LoadOptions]) -> {self._name}:",
            f'{INDENT * 2}"""Load it: the options, and what it raises, are those of `ObjectSpec.load`."""',
            f"{INDENT * 2}return {self._name}(self.spec.load(**options))",
        ]

    def _class(self) -> list[str]:
        return [
            *_class(self._name, "Skeleton", "The loaded object."),
            "",
            f"{INDENT}def __init__(self, obj: Object) -> None:",
            f"{INDENT * 2}super().__init__(obj)",
            *self._attributes("obj", self._parts),
            "",
            f"{INDENT}@classmethod",
            f"{INDENT}def open(cls) -> {self._name}Spec:",
            f'{INDENT * 2}"""Return what the object defines, to edit before it is loaded."""',
            f"{INDENT * 2}return {self._name}Spec()",
            "",
            f"{INDENT}@classmethod",
            f"{INDENT}def load(cls, **options: Unpack[LoadOptions]) -> {self._name}:",
            f'{INDENT * 2}"""Load the object as it is: as `{self._name}.open().load()` does."""',
            f"{INDENT * 2}return cls.open().load(**options)",
        ]

    def _attributes(self, of: str, parts: Sequence[str]) -> list[str]:
        source = "obj" if of == "obj" else "self.spec"
        out: list[str] = []
        for word, part in zip(("maps", "programs", "variables"), parts, strict=True):
            out += wrapped(INDENT * 2, f"self.{word} = {part}(", [f'"{of}.{word}"', f"{source}.{word}"], ")")
        return out

    def _embedded(self) -> list[str]:
        text = b64encode(zlib.compress(self._spec._content.file, 9)).decode()
        pieces = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
        return ["", "", "_OBJECT = (", *(f'{INDENT}b"{piece}"' for piece in pieces), ")"]


def _by_map(spec: ObjectSpec, events: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, type in events:
        if name not in spec.maps or spec.maps[name].map_type not in _READERS:
            raise SpecError(f"--event {name}={type}: the object has no ring buffer or perf event array {name!r}")
        found.setdefault(name, []).append(type)
    return found


def _named(types: Mapping[str, tuple[str, list[str]]]) -> list[Entry]:
    # Each name of an object with its attribute and type. Python's kind of names stay, but for those of the types.
    words = {
        word for of, parameters in types.values() for part in (of, *parameters) for word in re.findall(r"\w+", part)
    }
    taken = {name for name in types if identifier(name, words) == name}
    entries: list[Entry] = []
    for name, (of, parameters) in types.items():
        to = name if name in taken else identifier(name, taken | words)
        taken.add(to)
        entries.append((to, name, of, parameters))
    return entries


def _class(name: str, base: str, doc: str) -> list[str]:
    return ["", "", f"class {name}({base}):", f'{INDENT}"""{doc}"""']


def _group(name: str, doc: str, entries: Sequence[Entry]) -> list[str]:
    lines = _class(name, "Group", doc)
    if entries:
        lines.append("")
    renamed = [(to, called) for to, called, _, _ in entries if to != called]
    if renamed:
        lines += [f"{INDENT}_names = {{"]
        lines += [f"{INDENT * 2}{quoted(to)}: {quoted(called)}," for to, called in renamed]
        lines += [f"{INDENT}}}"]
    for to, _, annotation, parameters in entries:
        head = f"{to}: {annotation}"
        lines += wrapped(INDENT, f"{head}[", parameters, "]") if parameters else [f"{INDENT}{head}"]
    return lines
