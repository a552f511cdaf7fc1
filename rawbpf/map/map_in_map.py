"""Maps of maps: programs look an inner map up, and then elements in that.

The verifier checks programs against the template that the outer map is made with, and so the kernel
takes only inner maps that are like it. Kernel side: kernel/bpf/map_in_map.c, and map_meta_equal of the
inner map's type (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import MapId
from rawbpf.errors import ENOTSUPP
from rawbpf.map.base import Map
from rawbpf.map.info import read_shape
from rawbpf.map.slot import InsertableSlotMap, ReadableSlotMap
from rawbpf.syscall.group import NESTED
from rawbpf.syscall.rule import article
from rawbpf.uapi.constants import (
    BPF_F_INNER_MAP,
    BPF_F_MMAPABLE,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_XSKMAP,
)
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.errors import BpfError
    from rawbpf.map.base import Shape
    from rawbpf.map.constructors import AnyMap

    K = TypeVar("K", default=Any)

_EINVAL = 22
# Programs check their indices against the template's max_entries.
_OF_ONE_SIZE = (BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_XSKMAP)


class _OfMaps(ReadableSlotMap["K", MapId]):
    __slots__ = ()

    _noun = "a map"
    _bpf_kind = "map"
    _identity = MapId

    def open(self, key: K) -> AnyMap:
        """Return the map under `key`, open and typed by its own BTF.

        Raises: KeyNotFound for an empty slot; IndexOutOfRange; PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, lambda held: Map.from_id(int(held), backend=self._handle.backend))

    def _why(self, error: BpfError, value: HasFileno) -> str:
        return super()._why(error, value) or _differences(self, error, value)


class ArrayOfMaps(_OfMaps[int]):
    """An array of maps that are alike, a dict of its slots: `m[i] = inner`, `m[i]` is a MapId.

    Running programs see a slot's old map or its new one; those that start after the assignment the new.
    """

    __slots__ = ()

    map_type = "array_of_maps"
    _index_keys = True
    _default_key = "u32"


class HashOfMaps(_OfMaps["K"], InsertableSlotMap["K", MapId]):
    """A hash of maps that are alike: `m[k] = inner`, `m[k]` is a MapId.

    Running programs see a key's old map or its new one; those that start after the assignment the new.
    """

    __slots__ = ()

    map_type = "hash_of_maps"


def _differences(outer: ReadableSlotMap[Any, MapId], error: BpfError, inner: HasFileno) -> str:
    # Which of what must be alike is not. Only who made the outer map knows the template: the kernel does not tell.
    template = outer._shape.template
    if error.errno != _EINVAL or template is None:
        return ""
    given = read_shape(outer._handle.backend, inner.fileno())
    pairs = [
        ("type", map_type_name(template.map_type), map_type_name(given.map_type)),
        ("key_size", template.key_size, given.key_size),
        ("value_size", template.value_size, given.value_size),
        ("map_flags", hex(template.map_flags), hex(given.map_flags)),
    ]
    sized = template.map_type in _OF_ONE_SIZE and not template.map_flags & BPF_F_INNER_MAP
    if sized:
        pairs.append(("max_entries", template.max_entries, given.max_entries))
    differ = [f"{name} {actual} instead of {wanted}" for name, wanted, actual in pairs if wanted != actual]
    if not differ:
        return f"{error.hint}; special fields of the values (locks, timers, kptrs) must be those of the template, too"
    hint = f"it is not like the template (inner=): {', '.join(differ)}"
    arrays = template.map_type == given.map_type == BPF_MAP_TYPE_ARRAY
    if arrays and (template.map_flags ^ given.map_flags) & BPF_F_MMAPABLE:
        hint += "; Map.create makes arrays BPF_F_MMAPABLE (0x400) unless flags= is given, as 0 for none"
    elif sized and template.max_entries != given.max_entries:
        hint += "; arrays may differ in max_entries if all are made with flags=BPF_F_INNER_MAP, the template as well"
    return hint


def not_a_template(error: BpfError, template: Shape) -> str:
    """Return why a map like `template` was refused as inner=; empty where that is not the reason."""
    word = map_type_name(template.map_type)
    if error.errno == ENOTSUPP and template.map_type in (BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH):
        return "this kernel takes no map into a map of maps whose values have a lock or timer (since Linux 6.2)"
    if error.errno == ENOTSUPP:
        return f"the kernel takes no {word} map into a map of maps"
    if error.errno == _EINVAL and template.map_type in NESTED:
        return f"inner= is {article(word)} map itself, and maps of maps hold no maps of maps"
    return ""
