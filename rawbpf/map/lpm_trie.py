"""Longest-prefix-match tries. Kernel side: kernel/bpf/lpm_trie.c (v6.12)."""

from __future__ import annotations

from rawbpf.codec import codec_for
from rawbpf.codec.base import NATIVE
from rawbpf.map.hash import HashMap
from rawbpf.uapi.constants import BPF_F_NO_PREALLOC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec, Description

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)

_LENGTH = 4


class LpmTrieMap(HashMap["K", "V"]):
    """Networks and what belongs to them; looking up an address finds the longest prefix.

    `key="ipv4"` and `key="ipv6"` are networks: keys are `ipaddress` networks, addresses (prefixes of full
    length), interfaces, or the text of any of these. Any other key is a struct whose first field is the
    length of the prefix in bits, a u32, or as many bytes of that kind; the bits count from the first byte
    behind the length.

    `m[k]`, `get`, `lookup`, `get_many` and `in` match: they find the longest prefix of the map that covers
    `k` and is not longer than `k` itself. What writes, deletes and pops means the prefix itself, and
    `k in m.keys()` tells whether that is there, which reads all keys. Bits of a key beyond its prefix mean
    nothing, but are kept. Iteration gives longer prefixes before those that cover them, lower addresses
    before higher ones. A full trie raises MapFull (ENOSPC).
    """

    __slots__ = ()

    map_type = "lpm_trie"
    _required_flags = BPF_F_NO_PREALLOC

    @classmethod
    def _key_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        if described is None:
            raise TypeError(f'a {word} map needs key=, such as key="ipv4" or "ipv6", or a dict of u32 and bytes')
        codec = codec_for(described)
        if codec.name in ("ipv4", "ipv6"):
            from rawbpf.codec.prefix import PrefixCodec

            return PrefixCodec(codec.name)
        if isinstance(described, dict) and _first(codec).format != "I":
            raise ValueError(f'key={described!r}: the first field is the length of the prefix, a "u32"')
        return codec

    @classmethod
    def _carries_btf(cls, key: Codec[Any]) -> bool:
        # Source: kernel/bpf/lpm_trie.c:trie_check_btf (v6.12)
        from rawbpf.codec.prefix import PrefixCodec
        from rawbpf.codec.structure import StructCodec

        return isinstance(key, (PrefixCodec, StructCodec))

    def _has_key(self, key: object) -> bool:
        # Look-ups match, and next_key says nothing of the key that it was given.
        wanted = _significant(self._key.pack(key))
        size = self._key.size
        for keys, _, count in self._elements().read():
            for at in range(0, count * size, size):
                if _significant(keys[at : at + size]) == wanted:
                    return True
        return False


def _first(codec: Codec[Any]) -> Codec[Any]:
    from rawbpf.codec.structure import StructCodec

    while isinstance(codec, StructCodec):
        codec = codec.fields[0].codec
    return codec


def _significant(key: bytes | memoryview) -> tuple[int, int]:
    # The length, and the bits that it covers.
    length = int.from_bytes(key[:_LENGTH], NATIVE)
    bits = int.from_bytes(key[_LENGTH:], "big")
    return length, bits >> max(0, 8 * (len(key) - _LENGTH) - length)
