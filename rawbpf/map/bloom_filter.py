"""Bloom filters. Kernel side: kernel/bpf/bloom_filter.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class BloomFilterMap(GenericMap["K", "V"]):
    """A set that may say yes to what was never added."""

    __slots__ = ()

    map_type = "bloom_filter"
    _default_key = 0
