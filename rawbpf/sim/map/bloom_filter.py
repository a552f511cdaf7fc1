"""Bloom filters: values go in, and whether one did is answered, at times with a false yes.

The bits are those that the kernel sets, so that with BPF_F_ZERO_SEED the false answers are the kernel's
own. Source: kernel/bpf/bloom_filter.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, SimMap
from rawbpf.sim.map.jhash import jhash
from rawbpf.sim.map.queue import KMALLOC_LIMIT
from rawbpf.sim.map.shape import power_of_two
from rawbpf.sim.types.record import VOID
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

_DEFAULT_HASHES = 5
_MOST_HASHES = 15
_LEAST_BITS = 64
_HEAD = 312
_U32_MAX = 0xFFFFFFFF


class SimBloomFilter(SimMap):
    """BPF_MAP_TYPE_BLOOM_FILTER."""

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE | c.BPF_F_ZERO_SEED
    peeks = True
    takes_no_key_type = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self._hashes = _hashes(shape)
        self._mask = _bit_count(shape) - 1
        self._seed = 0 if shape.has(c.BPF_F_ZERO_SEED) else kernel.random.getrandbits(32)
        self._bits: set[int] = set()

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes, flags and the number of hash functions. Source: bloom_map_alloc_check, bloom_map_alloc."""
        if shape.value_size > KMALLOC_LIMIT:
            raise Refused(E2BIG)
        shape.check_flags(self.flags_allowed)
        if shape.key_size or not shape.value_size or not shape.max_entries or shape.map_extra > _MOST_HASHES:
            raise Refused(EINVAL)
        self.check_memory(kernel, _bit_count(shape) // 8)

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check that there is no key. Raises: Refused (EINVAL). Source: bloom_map_check_btf."""
        if key.kind != VOID:
            raise Refused(EINVAL)

    @property
    def memory_usage(self) -> int:
        """Bytes that the bits take. Source: bloom_map_mem_usage."""
        return _HEAD + (self._mask + 1) // 8

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return `value` if it may have been pushed. Raises: Refused (ENOENT: it was not)."""
        if not self._bits.issuperset(self._positions(value)):
            raise Refused(ENOENT)
        return value

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Push a value. Raises: Refused (EINVAL: flags)."""
        if flags != c.BPF_ANY:
            raise Refused(EINVAL)
        self._bits.update(self._positions(value))

    def delete(self, key: bytes) -> None:
        """Refuse: what went in stays. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def next_key(self, key: bytes | None) -> bytes:
        """Refuse: there are no keys. Raises: Refused (EOPNOTSUPP)."""
        raise Refused(EOPNOTSUPP)

    def _positions(self, value: bytes) -> Iterator[int]:
        return (jhash(value, self._seed + number & _U32_MAX) & self._mask for number in range(self._hashes))


def _hashes(shape: Shape) -> int:
    return shape.map_extra or _DEFAULT_HASHES


def _bit_count(shape: Shape) -> int:
    # Seven fifths stand for 1 / ln(2), in numbers of 32 bits.
    bits = shape.max_entries * _hashes(shape)
    wanted = bits // 5 * 7
    if bits > _U32_MAX or wanted > 1 << 31:
        return 1 << 32
    return power_of_two(max(wanted, _LEAST_BITS))
