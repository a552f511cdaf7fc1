"""Types by name, for maps whose records have no type of their own: rings and perf buffers.

They are looked up where the map came from. A map of an object knows the object's types. Others are asked
for the BTF that they carry in the kernel, which rings do not, and then the programs that use them are asked
for theirs. Kernel side: kernel/bpf/syscall.c:map_create, bpf_prog_get_info_by_fd (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.value import WORDS, find_value_type, value_type_names
from rawbpf.codec import codec_for
from rawbpf.codec.base import shown
from rawbpf.codec.name import NAMES
from rawbpf.errors import BpfError, SpecError
from rawbpf.map.btf import read_btf
from rawbpf.syscall import obj
from rawbpf.syscall.prog import prog_info
from rawbpf.syscall.rule import article
from rawbpf.uapi.info import MAP_INFO, PROG_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    from rawbpf.btf.base import Type
    from rawbpf.btf.btf import Btf
    from rawbpf.codec import Codec
    from rawbpf.map.base import Map
    from rawbpf.syscall.protocol import Backend

    class Types(Protocol):
        """The types of an object file."""

        @property
        def origin(self) -> str:
            """What messages call it."""

        def find(self, name: str, word: str = "") -> Type | None:
            """Return the type called `name`, None if there is none. `word`: only a `struct`, `union` or `enum`."""

        def names(self) -> Iterable[str]:
            """Return the names that there are."""


# Names that are longer are near to none.
_LONGEST = 255
_BUILT_IN = f"{', '.join(NAMES)} and T[N]"


def named_codec(m: Map[Any, Any], name: str) -> Codec[Any]:
    """Return the codec of the struct, union, typedef, enum or number called `name`.

    With the word `struct`, `union` or `enum` before it, only such a one is found.
    Raises: SpecError if there is none; FormatError for damaged types; Closed.
    """
    word, _, bare = name.partition(" ")
    word, name = (word, bare.strip()) if word in WORDS else ("", name)
    found = _found(m, name, word)
    if found is None:
        raise SpecError(f"map {m._shape}: {_lacking(m, name, word)}")
    return codec_for(found)


def _found(m: Map[Any, Any], name: str, word: str) -> Type | None:
    found = None if m._types is None else m._types.find(name, word)
    if found is not None:
        return found
    return next(filter(None, (find_value_type(btf, name, word) for btf in _kernel_types(m))), None)


def _kernel_types(m: Map[Any, Any]) -> Iterator[Btf]:
    backend = m._handle.backend
    with m._handle as fd:
        info = obj.obj_get_info_by_fd(backend, fd, MAP_INFO.size)
    ids = [MAP_INFO.integer(info, "btf_id")]
    try:
        ids += _ids_of_programs(backend, MAP_INFO.integer(info, "id"))
    except BpfError:
        pass  # to look at all programs needs CAP_SYS_ADMIN
    for btf_id in dict.fromkeys(ids):
        btf = read_btf(backend, btf_id) if btf_id else None
        if btf is not None:
            yield btf


def _ids_of_programs(backend: Backend, map_id: int) -> Iterator[int]:
    # The BTFs of the programs that use the map.
    for fd in obj.every(backend, obj.prog_get_next_id, obj.prog_get_fd_by_id):
        info, map_ids = prog_info(backend, fd)
        if map_id in map_ids:
            yield PROG_INFO.integer(info, "btf_id")


def _lacking(m: Map[Any, Any], name: str, word: str) -> str:
    types = m._types
    if types is not None:
        names, where = types.names(), types.origin
    else:
        names = (each for btf in _kernel_types(m) for each in value_type_names(btf))
        where = "its own types and those of the programs that use it"
    known = dict.fromkeys(each for each in names if len(each) <= _LONGEST)
    if not known:
        if types is None:
            return (
                f"neither it nor a program that uses it has types in the kernel, and so no {shown(name)}: describe its "
                f"records, as in {{'pid': 'u32', 'comm': 'char[16]'}}, or give {_BUILT_IN}"
            )
        return f"{where} has no types, and so no {shown(name)}: compile with -g, or give {_BUILT_IN}"
    text = f"no {word or 'struct, union, typedef, enum or number'} is called {shown(name)} in {where}"
    other = _found(m, name, "") if word else None
    if other is not None:
        return f"{text}: {name!r} is {article(other.kind_name)} there"
    from difflib import get_close_matches

    close = get_close_matches(name, known) if len(name) <= _LONGEST else []
    if close:
        text += f"; there is {', '.join(map(repr, close))}"
    if not close or get_close_matches(name, NAMES):
        text += f"; names that need no object are {_BUILT_IN}"
    if name.isascii() and name.isidentifier() and len(name) <= _LONGEST:
        line = f"{word or 'struct'} {name} *unused_{name} __attribute__((unused));"
        text += f". For a struct that only the inside of a function uses, write outside of it: {line}"
    return text
