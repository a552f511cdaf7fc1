"""Maps of network devices, for XDP redirection. Kernel side: kernel/bpf/devmap.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class DevMap(GenericMap["K", "V"]):
    """An array of network devices."""

    __slots__ = ()

    map_type = "devmap"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"


class DevMapHash(GenericMap["K", "V"]):
    """Network devices by any u32."""

    __slots__ = ()

    map_type = "devmap_hash"
    _default_key = "u32"
    _default_value = "u32"
