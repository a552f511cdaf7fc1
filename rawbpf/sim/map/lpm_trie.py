"""Tries: a lookup finds the longest prefix that covers the key.

A key is a length in bits and as many bytes as an address has. Bits beyond the length are kept and mean
nothing. Walks go from what is more special to what covers it. Source: kernel/bpf/lpm_trie.c (v6.18).
"""

from __future__ import annotations

from bisect import bisect_left
from errno import EEXIST, EINVAL, ENOENT, ENOSPC

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, U32, SimMap
from rawbpf.sim.map.batch import generic_delete, generic_lookup, generic_update
from rawbpf.sim.types.record import STRUCT
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

_KEY_SIZES = range(U32.size + 1, U32.size + 256 + 1)
# KMALLOC_MAX_SIZE (4 MiB) less LPM_DATA_SIZE_MAX and `struct lpm_trie_node`.
_VALUE_LIMIT = 4194024
_NODE = 24


class SimLpmTrie(SimMap):
    """BPF_MAP_TYPE_LPM_TRIE."""

    takes_no_key_type = True
    flags_allowed = ACCESS | c.BPF_F_NO_PREALLOC | c.BPF_F_NUMA_NODE
    lookup_batch = generic_lookup
    update_batch = generic_update
    delete_batch = generic_delete

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._is_mended = kernel.release.has_mended_tries
        self._longest = 8 * (shape.key_size - U32.size)
        # By the prefix's bits: the key as it was stored last, and the value.
        self._elements: dict[str, tuple[bytes, bytes]] = {}
        # The bits of all prefixes, with an end that is higher than any bit: so what is covered comes first.
        self._order: list[str] = []

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: trie_alloc."""
        shape.check_flags(self.flags_allowed)
        if (
            not shape.max_entries
            or not shape.has(c.BPF_F_NO_PREALLOC)
            or shape.key_size not in _KEY_SIZES
            or not 0 < shape.value_size <= _VALUE_LIMIT
        ):
            raise Refused(EINVAL)

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check that the key is a struct. Raises: Refused (EINVAL). Source: trie_check_btf."""
        if key.kind != STRUCT:
            raise Refused(EINVAL)

    @property
    def memory_usage(self) -> int:
        """Bytes that the elements take. Source: trie_mem_usage."""
        return len(self._elements) * (_NODE + self.key_size - U32.size + self.value_size)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the value of the longest prefix that covers `key`. Raises: Refused (ENOENT)."""
        bits = self._bits(key)
        if bits is not None:
            for length in range(len(bits), -1, -1):
                found = self._elements.get(bits[:length])
                if found is not None:
                    return found[1]
        raise Refused(ENOENT)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a value. Raises: Refused (EINVAL: flags, length; EEXIST; ENOENT; ENOSPC: full)."""
        bits = self._bits(key)
        if flags > c.BPF_EXIST or bits is None:
            raise Refused(EINVAL)
        exists = bits in self._elements
        if self._is_mended and exists and flags == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if self._is_mended and not exists and flags == c.BPF_EXIST:
            raise Refused(ENOENT)
        if len(self._elements) == self.max_entries and not (self._is_mended and exists):
            raise Refused(ENOSPC)
        if not exists:
            end = bits + _END
            self._order.insert(bisect_left(self._order, end), end)
        self._elements[bits] = (key, value)

    def delete(self, key: bytes) -> None:
        """Remove a prefix. Raises: Refused (EINVAL: length; ENOENT)."""
        bits = self._bits(key)
        if bits is None:
            raise Refused(EINVAL)
        if self._elements.pop(bits, None) is None:
            raise Refused(ENOENT)
        del self._order[bisect_left(self._order, bits + _END)]

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next prefix; the first after one that is not there. Raises: Refused (ENOENT: the last)."""
        bits = None if key is None else self._bits(key)
        if bits is not None and not self._is_mended:
            bits = self._taken_for(bits)
        at = bisect_left(self._order, bits + _END) + 1 if bits in self._elements and bits is not None else 0
        if at >= len(self._order):
            raise Refused(ENOENT)
        return self._elements[self._order[at][:-1]][0]

    def _taken_for(self, bits: str) -> str | None:
        # The prefix of the node at which a search for `bits` ends: of this length, if not of these bits. A node holds a
        # prefix, or is where prefixes part.
        below = list(self._elements)
        while below:
            least, most = min(below), max(below)
            shared = next((n for n, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
            node = least[:shared]
            if len(node) >= len(bits) or not bits.startswith(node):
                return node if len(node) == len(bits) else None
            below = [each for each in below if each.startswith(bits[: shared + 1])]
        return None

    def _bits(self, key: bytes) -> str | None:
        # The bits that count, as text; None where the length is more than there are.
        length = U32.unpack_from(key)[0]
        if length > self._longest:
            return None
        number = int.from_bytes(key[U32.size :], "big")
        return f"{number:0{self._longest}b}"[:length]


_END = "2"
