"""How much kernel memory a map takes, worked out from the fields of MAP_CREATE before there is a map.

What the kernel itself counts, as the line `memlock` of fdinfo shows it: structs of a few hundred bytes
for the map, then buckets and elements. Real use is higher by what allocators round up.
Measured on Linux 6.18; source: the map types' mem_usage functions in kernel/bpf (v6.12).
"""

from __future__ import annotations

from rawbpf.syscall import group
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.syscall.protocol import Host

_HEAD = 312  # struct bpf_array; those of other types differ by less than 200 bytes
_HTAB_HEAD = 896
_HTAB_ELEM, _POINTER = 48, 8
_DEV_ELEM, _SOCK_ELEM, _TRIE_NODE, _STACK_ELEM = 64, 48, 24, 16
_INSN_ELEM = 16 + _POINTER  # the value, and the address of the instruction
_RING_PAGES = 3
_BLOOM_BITS = 1 << 32
_BY_HASH = (*group.HASHES, c.BPF_MAP_TYPE_HASH_OF_MAPS)


def memory(host: Host, values: Mapping[str, int | bytes]) -> int:
    """Return about how many bytes of kernel memory a map with these fields takes when it holds max_entries.

    What a program or its owners add (local storage, tasks' stacks) is not in it.
    """
    at_once, later = _parts(host, values)
    return at_once + later


def memory_at_once(host: Host, values: Mapping[str, int | bytes]) -> int:
    """Return how many of them MAP_CREATE allocates: all, but for types that allocate as they fill."""
    return _parts(host, values)[0]


def can_be_lazy(values: Mapping[str, int | bytes]) -> bool:
    """Whether the map could allocate its elements as it fills, and was not told to."""
    flags = values.get("map_flags", 0)
    lazy = isinstance(flags, int) and flags & c.BPF_F_NO_PREALLOC
    return values.get("map_type") in (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_PERCPU_HASH) and not lazy


def _parts(host: Host, values: Mapping[str, int | bytes]) -> tuple[int, int]:
    fields = {field: value for field, value in values.items() if isinstance(value, int)}
    kind, entries = fields.get("map_type", 0), fields.get("max_entries", 0)
    key, value = (-(-fields.get(field, 0) // 8) * 8 for field in ("key_size", "value_size"))
    buckets = 1 << max(entries - 1, 0).bit_length()
    if kind in _BY_HASH:
        return _hash(host, kind, fields, key, value, buckets)
    if kind == c.BPF_MAP_TYPE_PERCPU_ARRAY:
        return _HEAD + entries * (_POINTER + value * host.possible_cpus), 0
    if kind in group.SLOT_ARRAYS:
        return _HEAD + entries * _POINTER, 0
    if kind == c.BPF_MAP_TYPE_INSN_ARRAY:
        return _HEAD + entries * _INSN_ELEM, 0
    if kind in group.RINGS:
        pages = entries // host.page_size
        # The data is mapped twice in a row, so that a record may go over the end.
        return _HEAD + entries + _RING_PAGES * host.page_size + (_RING_PAGES + 2 * pages) * _POINTER, 0
    if kind == c.BPF_MAP_TYPE_ARENA:
        return _HEAD, entries * host.page_size
    if kind == c.BPF_MAP_TYPE_STACK_TRACE:
        return _HEAD + buckets * _POINTER + entries * (_STACK_ELEM + value), 0
    if kind in group.QUEUES:
        return _HEAD + (entries + 1) * fields.get("value_size", 0), 0
    if kind == c.BPF_MAP_TYPE_BLOOM_FILTER:
        hashes = fields.get("map_extra", 0) & 0xF or 5
        bits = 1 << max(entries * hashes * 7 // 5 - 1, 0).bit_length()
        # However many there are: kernel/bpf/bloom_filter.c:bloom_map_alloc (v6.12).
        return _HEAD + min(bits, _BLOOM_BITS) // 8, 0
    if kind == c.BPF_MAP_TYPE_LPM_TRIE:
        return _HEAD, entries * (_TRIE_NODE + fields.get("key_size", 0) - 4 + fields.get("value_size", 0))
    if kind == c.BPF_MAP_TYPE_DEVMAP_HASH:
        return _HEAD + buckets * _POINTER, entries * _DEV_ELEM
    if kind == c.BPF_MAP_TYPE_SOCKHASH:
        return _HEAD + buckets * 2 * _POINTER, entries * (_SOCK_ELEM + key)
    if fields.get("map_flags", 0) & c.BPF_F_MMAPABLE:
        page = host.page_size
        return page + -(-entries * value // page) * page, 0
    return _HEAD + entries * value, 0


def _hash(host: Host, kind: int, fields: Mapping[str, int], key: int, value: int, buckets: int) -> tuple[int, int]:
    entries, flags = fields.get("max_entries", 0), fields.get("map_flags", 0)
    element = _HTAB_ELEM + key + (_POINTER + value * host.possible_cpus if kind in group.PERCPU else value)
    table = _HTAB_HEAD + buckets * 2 * _POINTER
    if flags & c.BPF_F_NO_PREALLOC:
        # Each allocation, one for the element and one per CPU, has a struct llist_node in front.
        allocations = 1 + (host.possible_cpus if kind in group.PERCPU else 0)
        return table, entries * (element + allocations * _POINTER)
    # One to spare for each CPU, so that an element can be replaced in a full map.
    spare = host.possible_cpus if kind in (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_HASH_OF_MAPS) else 0
    return table + (entries + spare) * element, 0


def amount(size: int) -> str:
    """Return `size` bytes in words: `1.5 GiB`."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >> shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} bytes"
