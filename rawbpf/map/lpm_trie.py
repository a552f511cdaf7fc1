"""Longest-prefix-match tries. Kernel side: kernel/bpf/lpm_trie.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap
from rawbpf.uapi.constants import BPF_F_NO_PREALLOC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class LpmTrieMap(GenericMap["K", "V"]):
    """Networks and what belongs to them; looking up an address finds the longest prefix."""

    __slots__ = ()

    map_type = "lpm_trie"
    _required_flags = BPF_F_NO_PREALLOC
