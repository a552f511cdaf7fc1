"""One BTF from several: types that nothing tells apart become one.

Types are compared all the way down, also where they refer to one another in circles: all types that look alike
without what they refer to are one class at first, and a class is split as long as its members refer to types of
different classes. A struct and its mere declaration stay two types, which the kernel does not mind. Sections are not
compared: who merges says what lies in them.

Source: the kernel compares types of maps and programs by their ids: kernel/bpf/btf.c:btf_check_func_type_match (v6.12);
tools/lib/bpf/btf.c:btf__dedup does more.
"""

from __future__ import annotations

from array import array

from rawbpf.btf import kind as kinds
from rawbpf.btf.btf import TAILS
from rawbpf.btf.build import Builder, assemble
from rawbpf.btf.types import Datasec, Func, Var
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf

    # (file, id of a variable there, offset, size)
    Entry = tuple[int, int, int, int]

_REFERENCES = (
    kinds.PTR, kinds.TYPEDEF, kinds.VOLATILE, kinds.CONST, kinds.RESTRICT, kinds.FUNC, kinds.FUNC_PROTO, kinds.VAR,
    kinds.DECL_TAG, kinds.TYPE_TAG,
)  # fmt: skip
# Where names and types lie in what follows the three words of every record: (step, name at, type at), by kind.
_PARTS = {
    kinds.STRUCT: (3, 0, 1),
    kinds.UNION: (3, 0, 1),
    kinds.ENUM: (2, 0, None),
    kinds.ENUM64: (3, 0, None),
    kinds.FUNC_PROTO: (2, 0, 1),
}
_MAX_ROUNDS = 256
_MAX_VARIABLES = 0xFFFF


class Merger:
    """The types of `files`, whose ids and string offsets in the whole are told by `type` and `string`."""

    def __init__(self, files: Sequence[Btf]) -> None:
        self._files = files
        self._builder = Builder(files[0].byteorder)
        self._first: list[int] = []
        self._ids: list[int] = []
        self._words = array("I")
        self._count = 1
        self._merge()

    def type(self, file: int, id: int) -> int:
        """Return the id of what is type `id` of `file`. Raises: FormatError when there is none."""
        if not 0 <= id < len(self._files[file]):
            raise FormatError(f"there is no type {id}: ids end at {len(self._files[file]) - 1}")
        return self._ids[self._first[file] + id]

    def string(self, file: int, offset: int) -> int:
        """Return the offset of the string at `offset` of `file`, of which 4096 bytes are kept. Raises: FormatError."""
        return self._builder.string(self._files[file].string(offset, cut=True))

    def section(self, name: str, size: int, entries: Iterable[Entry]) -> int:
        """Add a section of variables and return its id. Raises: FormatError for more than fit into one."""
        rows = sorted((offset, self.type(file, id), own) for file, id, offset, own in entries)
        if len(rows) > _MAX_VARIABLES:
            raise FormatError(f"section {name!r} has {len(rows)} variables; {_MAX_VARIABLES} are possible")
        self._words.extend((self._builder.string(name), kinds.DATASEC << 24 | len(rows), size))
        for offset, id, own in rows:
            self._words.extend((id, offset, own))
        self._count += 1
        return self._count - 1

    def to_bytes(self) -> bytes:
        """Return the BTF."""
        # The builder has the strings alone: its header of no types is as long as any.
        strings = self._builder.to_bytes()[kinds.HEADER_SIZE :]
        return assemble(self._words, strings, self._builder.byteorder)

    def _merge(self) -> None:
        shapes: list[tuple[int, ...]] = []
        references: list[list[tuple[int, int]]] = []
        for number, btf in enumerate(self._files):
            self._first.append(len(shapes))
            for type in btf:
                shape, places = self._shape(number, type)
                shapes.append(shape)
                references.append([(place, self._first[number] + to if to else 0) for place, to in places])
        classes = _classes(shapes, references)
        ids: dict[int, int] = {}
        for index, shape in enumerate(shapes):
            if shape and classes[index] not in ids:
                ids[classes[index]] = self._count
                self._count += 1
        self._ids = [ids.get(number, 0) for number in classes]
        done = set()
        for index, shape in enumerate(shapes):
            if shape and classes[index] not in done:
                done.add(classes[index])
                words = list(shape[1:])
                for place, to in references[index]:
                    words[place] = self._ids[to]
                self._words.extend(words)

    def _shape(self, file: int, type: Type) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        # The words of a record with the names of the whole and without types, and (place, id) of each of these.
        # In front stands the file, of what is its own under a name that others may have; void and sections are empty.
        if not type.kind or isinstance(type, Datasec):
            return (), []
        btf, at, kind = type.btf, type._at, type.kind
        fixed, each = TAILS[kind]
        vlen = btf.words[at + 1] & 0xFFFF
        words = list(btf.words[at : at + 3 + fixed + each * vlen])
        places = [2] if kind in _REFERENCES else [3, 4] if kind == kinds.ARRAY else []
        names = [0]
        if kind in _PARTS:
            step, name_at, type_at = _PARTS[kind]
            starts = range(3 + fixed, len(words), step)
            names += [start + name_at for start in starts]
            places += [start + type_at for start in starts] if type_at is not None else []
        for place in names:
            words[place] = self.string(file, words[place])
        found = []
        for place in places:
            found.append((place, btf.referred(words[place], type).id))
            words[place] = 0
        own = isinstance(type, (Func, Var)) and type.linkage == "static"
        return (file + 1 if own else 0, *words), found


def _classes(shapes: list[tuple[int, ...]], references: list[list[tuple[int, int]]]) -> list[int]:
    # The number of each type's class. Those of one class look alike, and so does what they refer to.
    known: dict[tuple[int, ...], int] = {}
    classes = [known.setdefault(shape, len(known)) for shape in shapes]
    for _ in range(_MAX_ROUNDS):
        count = len(known)
        known = {}
        classes = [
            known.setdefault((classes[index], *(classes[to] for _, to in places)), len(known))
            for index, places in enumerate(references)
        ]
        if len(known) == count:
            return classes
    raise FormatError(f"types refer to one another in chains of more than {_MAX_ROUNDS}")
