"""Maps of maps: programs look an inner map up and then elements in that.

The verifier checks programs against the template that the outer map is made with, and the kernel
therefore takes only inner maps that are like it. Kernel side: kernel/bpf/map_in_map.c (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import MapId
from rawbpf.map.base import Map
from rawbpf.map.slot import InsertableSlotMap, ReadableSlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.map.constructors import AnyMap

    K = TypeVar("K", default=Any)


class ArrayOfMaps(ReadableSlotMap[int, MapId]):
    """An array of maps that are alike, a dict of its slots: `m[i] = inner`, `m[i]` is a MapId."""

    __slots__ = ()

    map_type = "array_of_maps"
    _index_keys = True
    _default_key = "u32"
    _noun = "a map"
    _kind = "map"
    _identity = MapId

    def open(self, key: int) -> AnyMap:
        """Return the map in slot `key`, open and typed by its own BTF.

        Raises: KeyNotFound for an empty slot; IndexOutOfRange; PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, lambda held: Map.from_id(held, backend=self._handle.backend))


class HashOfMaps(InsertableSlotMap["K", MapId]):
    """A hash of maps that are alike: `m[k] = inner`, `m[k]` is a MapId."""

    __slots__ = ()

    map_type = "hash_of_maps"
    _noun = "a map"
    _kind = "map"
    _identity = MapId

    def open(self, key: K) -> AnyMap:
        """Return the map under `key`, open and typed by its own BTF.

        Raises: KeyNotFound; PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, lambda held: Map.from_id(held, backend=self._handle.backend))
