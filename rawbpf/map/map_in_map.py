"""Maps of maps. Kernel side: kernel/bpf/map_in_map.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class ArrayOfMaps(GenericMap["K", "V"]):
    """An array of maps."""

    __slots__ = ()

    map_type = "array_of_maps"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"


class HashOfMaps(GenericMap["K", "V"]):
    """A hash of maps."""

    __slots__ = ()

    map_type = "hash_of_maps"
    _default_value = "u32"
