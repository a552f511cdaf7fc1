"""One BTF from several: types that nothing tells apart become one.

Types are compared all the way down, also where they refer to one another in circles: all types that look alike
without what they refer to are one class at first, and a class is split as long as its members refer to types of
different classes. A struct and its mere declaration stay two types, which the kernel does not mind. Sections are not
compared: who merges says what lies in them.

Source: the kernel compares types of maps and programs by their ids: kernel/bpf/btf.c:btf_check_func_type_match (v6.12);
tools/lib/bpf/btf.c:btf__dedup does more.
"""

from __future__ import annotations

from rawbpf.btf.build import Builder
from rawbpf.btf.remap import places
from rawbpf.btf.types import Datasec, Func, Var
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf

    # (file, id of a variable there, offset, size)
    Entry = tuple[int, int, int, int]

_MAX_ROUNDS = 256
_MAX_VARIABLES = 0xFFFF


class Merger:
    """The types of `files`, whose ids and string offsets in the whole are told by `type` and `string`."""

    def __init__(self, files: Sequence[Btf]) -> None:
        self._files = files
        self._builder = Builder(files[0].byteorder)
        self._first: list[int] = []
        self._ids: list[int] = []
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
        return self._builder.datasec(name, size, [(id, offset, own) for offset, id, own in rows])

    def to_bytes(self) -> bytes:
        """Return the BTF."""
        return self._builder.to_bytes()

    def _merge(self) -> None:
        shapes: list[tuple[int, ...]] = []
        references: list[list[tuple[int, int]]] = []
        for number, btf in enumerate(self._files):
            self._first.append(len(shapes))
            for type in btf:
                shape, found = self._shape(number, type)
                shapes.append(shape)
                references.append([(place, self._first[number] + to if to else 0) for place, to in found])
        classes = _classes(shapes, references)
        # The first of each class is in the whole; ids count from 1.
        first: dict[int, int] = {}
        for index, shape in enumerate(shapes):
            if shape:
                first.setdefault(classes[index], index)
        ids = {number: id for id, number in enumerate(first, 1)}
        self._ids = [ids.get(number, 0) for number in classes]
        for index in first.values():
            words = list(shapes[index][1:])
            for place, to in references[index]:
                words[place] = self._ids[to]
            self._builder.append(words)

    def _shape(self, file: int, type: Type) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        # The words of a record with the names of the whole and without types, and (place, id) of each of these.
        # In front stands the file, of what is its own under a name that others may have; void and sections are empty.
        if not type.kind or isinstance(type, Datasec):
            return (), []
        words = list(type.btf.record(type.id))
        names, references = places(words)
        for place in names:
            words[place] = self.string(file, words[place])
        found = []
        for place in references:
            found.append((place, type.btf.referred(words[place], type).id))
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
