"""BTF: the types of a kernel, of a loaded object or of an object file, indexed and not decoded.

Parsing notes where each record starts and decodes nothing, so that the 126,000 types of a kernel
cost tens of milliseconds and under 8 MB; `types` decodes what is looked at. Knows nothing of where
the bytes came from.

Format: Documentation/bpf/btf.rst, include/uapi/linux/btf.h; Source: kernel/bpf/btf.c (v6.12)
"""

from __future__ import annotations

import struct
import sys
from array import array

from rawbpf.btf.kind import HEADER_SIZE, MAGIC
from rawbpf.btf.strings import Strings
from rawbpf.btf.types import CLASSES, DeclTag, Fwd, Int, Type, TypeTag
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal, TypeVar, overload

    T = TypeVar("T", bound=Type)
# Words that follow the three of every record: (fixed, per element), by kind.
TAILS = (
    (0, 0), (1, 0), (0, 0), (3, 0), (0, 3), (0, 3), (0, 2), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0),
    (0, 0), (0, 2), (1, 0), (0, 3), (0, 0), (1, 0), (0, 0), (0, 3),
)  # fmt: skip
# With more places in the string table than this, one pass over all names is faster than one search each.
_FEW = 8


class Btf:
    """Types by id and by name: `btf[3]`, `btf["task_struct"]`. Immutable; safe to share between threads.

    Id 0 is `Void`, also in iteration and in `len`. A split BTF (a kernel module's) continues its
    `base`: ids below `first_id` are the base's.
    """

    __slots__ = (
        "__weakref__",
        "_data",
        "_found",
        "_names",
        "_pointer_size",
        "_positions",
        "_strings",
        "_types_at",
        "base",
        "byteorder",
        "first_id",
        "words",
    )

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, base: Btf | None = None) -> Btf:
        """Index the BTF in `data`: an ELF file's `.BTF` section, or what the kernel gives.

        `base`: the BTF that a split one continues (for a module: the kernel's). A read-only
        memoryview is kept and not copied.

        Raises: FormatError, with the offset, for bytes that are no BTF.
        """
        return cls(data, base)

    def __init__(self, data: bytes | bytearray | memoryview, base: Btf | None = None) -> None:
        view = memoryview(data).cast("B")
        if not view.readonly:
            view = memoryview(bytes(view))
        self._data = view
        self.base = base
        self.byteorder: Literal["little", "big"] = "little"
        self._types_at = 0
        # The type section as 32-bit numbers of this machine's byte order; what types decode from.
        self.words = self._sections(view)
        self.first_id: int = len(base) if base else 1
        self._positions, self._names = self._index(self.words)
        self._found: dict[str, tuple[int, ...]] = {}
        self._pointer_size = 0

    def _sections(self, view: memoryview) -> memoryview[int]:
        if len(view) < HEADER_SIZE:
            raise FormatError(f"no BTF: {len(view)} bytes are too few for a header of {HEADER_SIZE}", 0)
        magic = view[0] | view[1] << 8
        if magic not in (MAGIC, 0x9FEB):
            raise FormatError(f"no BTF: magic is {magic:#06x} and not {MAGIC:#06x}", 0)
        self.byteorder = "little" if magic == MAGIC else "big"
        order = "<" if magic == MAGIC else ">"
        version, flags, header, type_at, type_size, str_at, str_size = struct.unpack_from(order + "BBIIIII", view, 2)
        if version != 1 or flags:
            raise FormatError(f"BTF of version {version} with flags {flags:#x} is unknown; version 1 is known", 2)
        if header < HEADER_SIZE or header > len(view):
            raise FormatError(f"BTF header size {header} is not from {HEADER_SIZE} to {len(view)}", 4)
        room = len(view) - header
        if type_at + type_size > room or type_size % 4:
            raise FormatError(f"type section ({type_at}, {type_size} bytes) is not whole words within {room} bytes", 8)
        if str_at + str_size > room:
            raise FormatError(f"string section (at {str_at}, {str_size} bytes) ends behind the {room} bytes of BTF", 16)
        self._types_at = header + type_at
        strings_at, strings_end = header + str_at, header + str_at + str_size
        if view[strings_end - 1] if str_size else not self.base:
            raise FormatError("string section does not end with a NUL", strings_end)
        if not self.base and view[strings_at]:
            raise FormatError("string section does not start with the empty string", strings_at)
        base = self.base._strings if self.base else None
        if isinstance(view.obj, bytes) and len(view.obj) == len(view):
            self._strings: Strings = Strings(view.obj, strings_at, strings_end, base)
        else:
            self._strings = Strings(bytes(view[strings_at:strings_end]), 0, str_size, base)
        types = view[self._types_at : self._types_at + type_size]
        if self.byteorder != sys.byteorder:
            swapped = array("I", bytes(types))
            swapped.byteswap()
            return memoryview(swapped)
        return types.cast("I")

    def _index(self, words: memoryview[int]) -> tuple[array[int], bytes]:
        # Where records start, and the offsets of their names as 32-bit numbers.
        names = array("I")
        lengths = _Lengths()
        positions = array("I", self._starts(words, lengths, names))
        if positions:
            last = positions[-1]
            if last + 1 == len(words) or last + lengths[words[last + 1]] > len(words):
                id = self.first_id + len(positions) - 1
                raise FormatError(f"type {id} ends behind the type section", self.offset_of(last))
        return positions, names.tobytes()

    def _starts(self, words: memoryview[int], lengths: _Lengths, names: array[int]) -> Iterator[int]:
        # The info word determines a record's length, and a kernel has only some hundred different ones. Arrays
        # take from a generator in less time than appending to them does; this is most of the time of reading.
        at, end = 0, len(words)
        infos = words[1:]
        name = names.append
        try:
            while at < end:
                yield at
                name(words[at])
                at += lengths[infos[at]]
        except KeyError:
            id, kind = self.first_id + len(names) - 1, infos[at] >> 24 & 0x1F
            raise FormatError(f"type {id} is of unknown kind {kind}", self.offset_of(at)) from None
        except IndexError:
            return

    @property
    def raw(self) -> bytes:
        """The bytes that this was made from (a copy, if they are mapped memory)."""
        whole = self._data.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(self._data) else bytes(self._data)

    @property
    def strings(self) -> bytes:
        """The string section; a copy."""
        return bytes(self._strings)

    @property
    def pointer_size(self) -> int:
        """Bytes in a pointer: those of a `long`; 8 where there is none, as in BPF programs."""
        if not self._pointer_size:
            for name in ("long int", "long unsigned int", "long", "unsigned long"):  # the kernel's first
                long = self.find(name, Int)
                if long is not None and long.size in (4, 8):
                    self._pointer_size = long.size
                    break
            else:
                self._pointer_size = 8
        return self._pointer_size

    def _weight(self) -> int:
        # Words of types, the base's too: what the time and text that they take are measured by.
        return len(self.words) + (self.base._weight() if self.base else 0)

    def __len__(self) -> int:
        return self.first_id + len(self._positions)

    def __iter__(self) -> Iterator[Type]:
        return map(self._type, range(len(self)))

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._ids(name))

    def __getitem__(self, key: int | str) -> Type:
        """Return the type of that id or name.

        Raises: KeyError for an unknown name, IndexError for an unknown id.
        """
        if isinstance(key, str):
            found = self.find(key)
            if found is None:
                raise KeyError(key)
            return found
        if not 0 <= key < len(self):
            raise IndexError(f"no type has id {key}: ids are 0 to {len(self) - 1}")
        return self._type(key)

    if TYPE_CHECKING:

        @overload
        def find(self, name: str, kind: None = None) -> Type | None: ...
        @overload
        def find(self, name: str, kind: type[T]) -> T | None: ...

    def find(self, name: str, kind: type[Type] | None = None) -> Type | None:
        """Return the type called `name`, of class `kind` if given, or None.

        Of several, definitions go before declarations and tags, then the lowest id wins.
        """
        fallback = None
        for id in self._ids(name):
            type = self._type(id)
            if kind is not None:
                if isinstance(type, kind):
                    return type
            elif not isinstance(type, (Fwd, DeclTag, TypeTag)):
                return type
            else:
                fallback = fallback or type
        return fallback

    def find_all(self, name: str) -> list[Type]:
        """Return every type called `name`, in the order of their ids."""
        return [self._type(id) for id in self._ids(name)]

    def find_flavors(self, name: str) -> list[Type]:
        """Return every type called `name` or, with a flavor, `name___any`, in the order of their ids."""
        names = [name, *self._strings.flavors(name)]
        return [self._type(id) for id in sorted({id for each in names for id in self._ids(each)})]

    def string(self, offset: int, cut: bool = False) -> str:
        """Return the string at `offset` of the string section; bytes that are no UTF-8 are escaped.

        `cut`: give the first 4096 bytes of a longer one.

        Raises: FormatError when nothing lies there, or a string of more than 4096 bytes.
        """
        return self._strings.at(offset, cut=cut)

    def string_offset(self, text: str) -> int | None:
        """Return where `text` lies in the strings, also in those of the base; None where it is no string by itself."""
        return self._strings.offset_of(text)

    def to_c(self, names: str | Iterable[str] | None = None) -> str:
        """Return a C header of all types: `vmlinux.h`, for the kernel's.

        `names`: write only the structs, unions, enums, typedefs and functions of these names, with what they
        need. Members lie where they are here; of several types of one name the second is `name___2`. Two macros
        that a program defines before it includes the header leave something out: BPF_NO_PRESERVE_ACCESS_INDEX,
        that accesses are relocated (CO-RE), and BPF_NO_KFUNC_PROTOTYPES, the kernel's functions for programs.

        Raises: KeyError for an unknown name; FormatError when the types are broken.
        Source: tools/bpf/bpftool/btf.c:dump_btf_c
        """
        from rawbpf.btf.header import to_c

        return to_c(self, names)

    def to_python(self, names: str | Iterable[str] | None = None) -> str:
        """Return Python source of the types of these `names`, or of all that have values, with what they need.

        Structs and unions become ctypes classes with the same layout, which maps take as `key=` and `value=`;
        enumerations become IntEnums beside the integers that hold them; pointers become integers. Gaps that ctypes
        would not leave are fields called `_pad...`, bit-fields that it cannot place are bytes called `_bits...`.

        Raises: KeyError for an unknown name; FormatError for types without values and broken ones.
        """
        from rawbpf.btf.ctypes_text import to_python

        return to_python(self, names)

    def referred(self, id: int, by: Type) -> Type:
        """Return type `id`, to which `by` refers. Raises: FormatError when there is none."""
        if id >= len(self):
            what = f"type {by.id} ({by.kind_name}) refers to type {id}, but ids end at {len(self) - 1}"
            raise FormatError(what, self.offset_of(self._positions[by.id - self.first_id]))
        return self._type(id)

    def rebase(self, target: Btf) -> Btf:
        """Return this split BTF as one that continues `target`, whose types of the same names take the base's place.

        A module that was built apart from its kernel has a small base of its own (`.BTF.base`), which says of each
        type of the kernel no more than its name and size.

        Raises: ValueError when there is no base; FormatError for a type that `target` has not, or several times.
        Source: tools/lib/bpf/btf_relocate.c:btf_relocate
        """
        from rawbpf.btf.remap import rebase

        return rebase(self, target)

    def record(self, id: int) -> memoryview[int]:
        """Return the words of a type of its own, as they lie in the type section; for id 0 there are none."""
        index = id - self.first_id
        end = self._positions[index + 1] if index + 1 < len(self._positions) else len(self.words)
        return self.words[self._positions[index] : end] if index >= 0 else self.words[:0]

    def offset_of(self, word: int) -> int:
        """Return where word `word` of the type section lies in `raw`, in bytes."""
        return self._types_at + 4 * word

    def _type(self, id: int) -> Type:
        index = id - self.first_id
        if index < 0:
            return self.base._type(id) if self.base else CLASSES[0](self, 0, 0)
        at = self._positions[index]
        return CLASSES[self.words[at + 1] >> 24 & 0x1F](self, id, at)

    def _ids(self, name: str) -> tuple[int, ...]:
        found = self._found.get(name)
        if found is None:
            found = self._search(name)
            if found:  # absent names are not kept: there is no end of them
                self._found[name] = found
        return found

    def _search(self, name: str) -> tuple[int, ...]:
        own: list[int] = []
        if name and "\0" not in name:
            whole, tails = self._strings.places(name)
            # Linkers may let a name be the tail of a longer one, but then do not store it by itself too.
            own = self._named(whole) or self._named(tails)
        return (*(self.base._ids(name) if self.base else ()), *own)

    def _named(self, places: list[int]) -> list[int]:
        # Own types whose name lies at one of `places`.
        if not places:
            return []
        if len(places) > _FEW:
            names = memoryview(self._names).cast("I")
            used = set(places).intersection(names)
            if len(used) > _FEW:
                return [id for id, offset in enumerate(names, self.first_id) if offset in used]
            places = list(used)
        found = (_aligned(self._names, place.to_bytes(4, sys.byteorder)) for place in places)
        return sorted(self.first_id + index for indices in found for index in indices)

    def __repr__(self) -> str:
        split = f", {len(self) - self.first_id} of them its own" if self.base else ""
        return f"<Btf of {len(self)} types{split}>"

    # Immutable, and the kernel's is large: copies of what refers to it share it.
    def __copy__(self) -> Btf:
        return self

    def __deepcopy__(self, memo: object) -> Btf:
        return self

    def __reduce__(self) -> tuple[Callable[[bytes, Btf | None], Btf], tuple[bytes, Btf | None]]:
        return Btf.from_bytes, (self.raw, self.base)


class _Lengths(dict[int, int]):
    # Words in a record, by its info word; KeyError for a kind that is not known.
    __slots__ = ()

    def __missing__(self, info: int) -> int:
        kind = info >> 24 & 0x1F
        if not 0 < kind < len(TAILS):
            raise KeyError(info)
        fixed, each = TAILS[kind]
        self[info] = length = 3 + fixed + each * (info & 0xFFFF)
        return length


def _aligned(haystack: bytes, word: bytes) -> Iterator[int]:
    # Indices of the 32-bit `word` in `haystack`.
    at = haystack.find(word)
    while at >= 0:
        if at % 4:
            at = haystack.find(word, at + 1)
        else:
            yield at // 4
            at = haystack.find(word, at + 4)
