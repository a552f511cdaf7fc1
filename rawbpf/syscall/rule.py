"""What each map type accepts at MAP_CREATE, to find out which of the arguments the kernel refused.

Asked after a refusal: the kernel is the authority, and other releases accept more or less. Beforehand only
`impossible` is asked, which knows what no release has ever accepted, nor can.

Measured on Linux 6.18; source: the map types' alloc_check functions in kernel/bpf (v6.12).
"""

from __future__ import annotations

from rawbpf.syscall import group
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rawbpf.syscall.protocol import Host

_NP, _NU, _ZS = c.BPF_F_NO_PREALLOC, c.BPF_F_NUMA_NODE, c.BPF_F_ZERO_SEED
_RW = c.BPF_F_RDONLY | c.BPF_F_WRONLY
_PROG = c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG
_ANY_TYPE = c.BPF_F_TOKEN_FD | c.BPF_F_VTYPE_BTF_OBJ_FD
_ARENA_FLAGS = c.BPF_F_MMAPABLE | c.BPF_F_SEGV_ON_FAULT | c.BPF_F_NO_USER_CONV
_LOCAL_FLAGS = _NP | c.BPF_F_CLONE

# Sizes: None is "at least 1", a range is inclusive, a tuple lists the only sizes.
_Size = tuple[int, ...] | range | None
_INDEX: _Size = (4,)
_NONE: _Size = (0,)
_FD_OR_LONG: _Size = (4, 8)
# Stacks, of addresses or of build ids: 127 are the most, unless the sysctl kernel.perf_event_max_stack says otherwise.
_ADDRESSES: _Size = range(8, 127 * 8 + 1, 8)
_BUILD_IDS: _Size = range(32, 127 * 32 + 1, 32)

# By type: (flags it accepts, flags it requires, key_size, value_size)
_RULES: dict[int, tuple[int, int, _Size, _Size]] = {
    c.BPF_MAP_TYPE_HASH: (_NP | _NU | _RW | _ZS | _PROG, 0, None, None),
    c.BPF_MAP_TYPE_PERCPU_HASH: (_NP | _RW | _ZS | _PROG, 0, None, None),
    c.BPF_MAP_TYPE_LRU_HASH: (c.BPF_F_NO_COMMON_LRU | _NU | _RW | _ZS | _PROG, 0, None, None),
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH: (c.BPF_F_NO_COMMON_LRU | _RW | _ZS | _PROG, 0, None, None),
    c.BPF_MAP_TYPE_ARRAY: (_NU | _RW | _PROG | c.BPF_F_MMAPABLE | c.BPF_F_INNER_MAP, 0, _INDEX, None),
    c.BPF_MAP_TYPE_PERCPU_ARRAY: (_RW | _PROG, 0, _INDEX, None),
    c.BPF_MAP_TYPE_PROG_ARRAY: (_NU | _RW, 0, _INDEX, (4,)),
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: (_NU | _RW | c.BPF_F_PRESERVE_ELEMS, 0, _INDEX, (4,)),
    c.BPF_MAP_TYPE_CGROUP_ARRAY: (_NU | _RW, 0, _INDEX, (4,)),
    c.BPF_MAP_TYPE_STACK_TRACE: (_NU | _RW | c.BPF_F_STACK_BUILD_ID, 0, _INDEX, _ADDRESSES),
    c.BPF_MAP_TYPE_LPM_TRIE: (_NP | _NU | _RW | _PROG, _NP, range(5, 261), None),
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS: (_NU | _RW, 0, _INDEX, (4,)),
    c.BPF_MAP_TYPE_HASH_OF_MAPS: (_NP | _NU | _RW | _ZS | _PROG, 0, None, (4,)),
    c.BPF_MAP_TYPE_DEVMAP: (_NU | _RW, 0, _INDEX, _FD_OR_LONG),
    c.BPF_MAP_TYPE_DEVMAP_HASH: (_NU | _RW, 0, _INDEX, _FD_OR_LONG),
    c.BPF_MAP_TYPE_SOCKMAP: (_NU | _RW, 0, _INDEX, _FD_OR_LONG),
    c.BPF_MAP_TYPE_SOCKHASH: (_NU | _RW, 0, None, _FD_OR_LONG),
    c.BPF_MAP_TYPE_CPUMAP: (_NU, 0, _INDEX, _FD_OR_LONG),
    c.BPF_MAP_TYPE_XSKMAP: (_NU | _RW, 0, _INDEX, (4,)),
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: (_NU | _RW | _PROG, 0, _INDEX, _FD_OR_LONG),
    c.BPF_MAP_TYPE_CGROUP_STORAGE: (_NU | _RW | _PROG, 0, (8, 16), None),
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: (_NU | _RW | _PROG, 0, (8, 16), None),
    c.BPF_MAP_TYPE_QUEUE: (_NU | _RW | _PROG, 0, _NONE, None),
    c.BPF_MAP_TYPE_STACK: (_NU | _RW | _PROG, 0, _NONE, None),
    c.BPF_MAP_TYPE_BLOOM_FILTER: (_NU | _RW | _ZS | _PROG, 0, _NONE, None),
    c.BPF_MAP_TYPE_RINGBUF: (_NU | c.BPF_F_RB_OVERWRITE, 0, _NONE, _NONE),
    c.BPF_MAP_TYPE_USER_RINGBUF: (_NU, 0, _NONE, _NONE),
    c.BPF_MAP_TYPE_SK_STORAGE: (_LOCAL_FLAGS, _NP, _INDEX, None),
    c.BPF_MAP_TYPE_INODE_STORAGE: (_LOCAL_FLAGS, _NP, _INDEX, None),
    c.BPF_MAP_TYPE_TASK_STORAGE: (_LOCAL_FLAGS, _NP, _INDEX, None),
    c.BPF_MAP_TYPE_CGRP_STORAGE: (_LOCAL_FLAGS, _NP, _INDEX, None),
    c.BPF_MAP_TYPE_STRUCT_OPS: (c.BPF_F_LINK, 0, _INDEX, None),
    c.BPF_MAP_TYPE_ARENA: (_ARENA_FLAGS, c.BPF_F_MMAPABLE, _NONE, _NONE),
    # Source: kernel/bpf/bpf_insn_array.c:insn_array_alloc_check (v6.19)
    c.BPF_MAP_TYPE_INSN_ARRAY: (0, 0, _INDEX, (16,)),
}

# KMALLOC_MAX_SIZE, of which the key and the node take a little. Source: kernel/bpf/lpm_trie.c:LPM_VAL_SIZE_MAX (v6.12)
_MOST_OF_A_TRIE = (4 << 20) - 280
_REFUSE_BTF = (*group.QUEUES, *group.RINGS, c.BPF_MAP_TYPE_ARENA, c.BPF_MAP_TYPE_INSN_ARRAY)

_FLAG_NAMES = {
    c.BPF_F_NO_PREALLOC: "BPF_F_NO_PREALLOC",
    c.BPF_F_NO_COMMON_LRU: "BPF_F_NO_COMMON_LRU",
    c.BPF_F_NUMA_NODE: "BPF_F_NUMA_NODE",
    c.BPF_F_RDONLY: "BPF_F_RDONLY",
    c.BPF_F_WRONLY: "BPF_F_WRONLY",
    c.BPF_F_STACK_BUILD_ID: "BPF_F_STACK_BUILD_ID",
    c.BPF_F_ZERO_SEED: "BPF_F_ZERO_SEED",
    c.BPF_F_RDONLY_PROG: "BPF_F_RDONLY_PROG",
    c.BPF_F_WRONLY_PROG: "BPF_F_WRONLY_PROG",
    c.BPF_F_CLONE: "BPF_F_CLONE",
    c.BPF_F_MMAPABLE: "BPF_F_MMAPABLE",
    c.BPF_F_PRESERVE_ELEMS: "BPF_F_PRESERVE_ELEMS",
    c.BPF_F_INNER_MAP: "BPF_F_INNER_MAP",
    c.BPF_F_LINK: "BPF_F_LINK",
    c.BPF_F_PATH_FD: "BPF_F_PATH_FD",
    c.BPF_F_VTYPE_BTF_OBJ_FD: "BPF_F_VTYPE_BTF_OBJ_FD",
    c.BPF_F_TOKEN_FD: "BPF_F_TOKEN_FD",
    c.BPF_F_SEGV_ON_FAULT: "BPF_F_SEGV_ON_FAULT",
    c.BPF_F_NO_USER_CONV: "BPF_F_NO_USER_CONV",
    c.BPF_F_RB_OVERWRITE: "BPF_F_RB_OVERWRITE",
}
_NAME_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")


def flag_names(flags: int) -> str:
    """Return the names of MAP_CREATE flags, `BPF_F_NUMA_NODE | 0x800000` for one without a name."""
    names = [name for bit, name in _FLAG_NAMES.items() if flags & bit]
    unknown = flags & ~sum(_FLAG_NAMES)
    return " | ".join([*names, *([hex(unknown)] if unknown else [])])


def article(word: str) -> str:
    """Return `word` behind "a" or "an"."""
    return f"{'an' if word[:1] in 'aeio' else 'a'} {word}"


def bad_name(name: bytes) -> str:
    """Return what is wrong with an object's name; "" if nothing is."""
    if len(name) >= c.BPF_OBJ_NAME_LEN:
        return f"the name has {len(name)} bytes; at most {c.BPF_OBJ_NAME_LEN - 1} are allowed"
    if strange := bytes(byte for byte in name if byte not in _NAME_BYTES):
        return f"the name holds {strange.decode('latin-1')!r}; only letters, digits, '_' and '.' are allowed"
    return ""


def broken_rules(host: Host, values: Mapping[str, int | bytes]) -> list[str]:
    """Return, for fields that MAP_CREATE answered with EINVAL, each rule of the map type that they break."""
    return list(_broken(host, {field: value for field, value in values.items() if isinstance(value, int)}, values))


def impossible(values: Mapping[str, int | bytes]) -> list[str]:
    """Return which of these fields of MAP_CREATE no kernel can accept, since the type's code would make no sense of it.

    What could differ between releases is left to the kernel.
    """
    return list(_impossible({field: value for field, value in values.items() if isinstance(value, int)}))


def _impossible(fields: Mapping[str, int]) -> Iterator[str]:
    kind, flags = fields.get("map_type", 0), fields.get("map_flags", 0)
    if kind not in _RULES:
        return
    word = article(map_type_name(kind))
    _, _, key_size, value_size = _RULES[kind]
    yield from _size("key_size", key_size, fields.get("key_size", 0), word)
    if value_size in (None, _NONE):  # of descriptors later releases take wider ones
        yield from _size("value_size", value_size, fields.get("value_size", 0), word)
    entries = fields.get("max_entries", 0)
    if kind in group.STORAGES and entries:
        yield f"max_entries of {word} map must be 0, not {entries}"
    if kind not in group.STORAGES and not entries:
        yield f"max_entries{', the size in bytes,' if kind in group.RINGS else ''} must not be 0"
    yield from _exclusive(flags)
    if kind in group.NESTED and not fields.get("inner_map_fd"):
        yield f"{word} map needs inner=, a map like those to be held"


def _exclusive(flags: int) -> Iterator[str]:
    for both in (_RW, _PROG):
        if flags & both == both:
            yield f"{flag_names(both)} exclude each other"


def _broken(host: Host, fields: Mapping[str, int], values: Mapping[str, int | bytes]) -> Iterator[str]:
    name = values.get("map_name", b"")
    if isinstance(name, bytes) and (wrong := bad_name(name)):
        yield wrong
    kind = fields.get("map_type", 0)
    if kind not in _RULES:
        return
    word = article(map_type_name(kind))
    accepted, required, key_size, value_size = _RULES[kind]
    flags = fields.get("map_flags", 0)
    if kind == c.BPF_MAP_TYPE_STACK_TRACE and flags & c.BPF_F_STACK_BUILD_ID:
        value_size = _BUILD_IDS
    yield from _size("key_size", key_size, fields.get("key_size", 0), word)
    yield from _size("value_size", value_size, fields.get("value_size", 0), word)
    yield from _entries(host, kind, fields.get("max_entries", 0), word)
    if missing := required & ~flags:
        yield f"{word} map requires the flag {flag_names(missing)}"
    if surplus := flags & ~(accepted | _ANY_TYPE):
        yield f"{word} map does not take the flag {flag_names(surplus)}"
    yield from _exclusive(flags)
    yield from _extras(host, kind, flags, fields, word)


def _size(what: str, allowed: _Size, size: int, word: str) -> Iterator[str]:
    if allowed is None:
        if size == 0:
            yield f"{what} must not be 0"
    elif size in allowed:
        return
    elif isinstance(allowed, range):
        step = f" and a multiple of {allowed.step}" if allowed.step > 1 else ""
        yield f"{what} of {word} map must be {allowed[0]} to {allowed[-1]}{step}, not {size}"
    else:
        index = what == "key_size" and allowed == _INDEX and not word.endswith(("storage", "hash"))
        why = " (an index)" if index else ""
        leave = f": leave {what.removesuffix('_size')}= out" if allowed == _NONE else ""
        yield f"{what} of {word} map must be {' or '.join(map(str, allowed))}{why}, not {size}{leave}"


def _entries(host: Host, kind: int, entries: int, word: str) -> Iterator[str]:
    if kind in group.RINGS:
        page = host.page_size
        if entries < page or entries & (entries - 1):
            best = min(max(page, 1 << max(entries - 1, 0).bit_length()), 1 << 31)
            yield f"max_entries must be a power of two and a multiple of the page size ({page}); try {best}"
    elif kind in group.STORAGES:
        if entries:
            yield f"max_entries of {word} map must be 0, not {entries}"
    elif not entries:
        yield "max_entries must not be 0"
    elif kind == c.BPF_MAP_TYPE_STRUCT_OPS and entries != 1:
        yield f"{word} map has one element: max_entries must be 1, not {entries}"


def _extras(host: Host, kind: int, flags: int, fields: Mapping[str, int], word: str) -> Iterator[str]:
    extra = fields.get("map_extra", 0)
    if kind == c.BPF_MAP_TYPE_BLOOM_FILTER:
        if extra > 15:
            yield f"map_extra, the number of hash functions, must be at most 15, not {extra}"
    elif kind == c.BPF_MAP_TYPE_ARENA:
        if extra % host.page_size:
            yield f"map_extra, where the arena is mapped, must be a multiple of the page size ({host.page_size})"
    elif extra:
        yield f"map_extra must be 0 for {word} map"
    if kind == c.BPF_MAP_TYPE_LPM_TRIE and fields.get("value_size", 0) > _MOST_OF_A_TRIE:
        yield f"value_size of {word} map must be below about 4 MiB, not {fields['value_size']}"
    if kind in group.NESTED and not fields.get("inner_map_fd"):
        yield f"{word} map needs a template: inner= (inner_map_fd), an open map like those to be held"
    if flags & _NU and fields.get("numa_node", 0) > 0:
        yield f"NUMA node {fields['numa_node']} may not be online; /sys/devices/system/node/online lists those that are"
    key_id, value_id = fields.get("btf_key_type_id", 0), fields.get("btf_value_type_id", 0)
    if kind in group.LOCAL_STORAGES and not (key_id and value_id):
        yield f"{word} map needs BTF: btf_fd, btf_key_type_id of an int and btf_value_type_id"
    if key_id and not value_id:
        yield "btf_key_type_id needs btf_value_type_id beside it"
    elif value_id and kind in _REFUSE_BTF:
        yield f"{word} map takes no BTF for its key and value: leave btf_key_type_id and btf_value_type_id out"
    if kind == c.BPF_MAP_TYPE_STRUCT_OPS and not fields.get("btf_vmlinux_value_type_id"):
        yield "a struct_ops map needs btf_vmlinux_value_type_id, the kernel's type of its value"


def too_wide(values: Mapping[str, int | bytes]) -> str:
    """Return that a per-CPU value has more bytes than there is room for; "" if it has not."""
    value = values.get("value_size", 0)
    if values.get("map_type") in group.PERCPU and isinstance(value, int) and (value + 7) // 8 * 8 > 32768:
        return f"a per-CPU value has at most 32768 bytes, not {value}"
    return ""


def too_big(values: Mapping[str, int | bytes]) -> str:
    """Return which limit is exceeded, for fields that MAP_CREATE answered with E2BIG; "" if that is not known."""
    fields = {field: value for field, value in values.items() if isinstance(value, int)}
    kind = fields.get("map_type", 0)
    key, value, entries = fields.get("key_size", 0), fields.get("value_size", 0), fields.get("max_entries", 0)
    if wide := too_wide(values):
        return wide
    if kind == c.BPF_MAP_TYPE_CPUMAP:
        return f"max_entries of a cpumap is at most the number of CPUs that the kernel was built for, not {entries}"
    if kind == c.BPF_MAP_TYPE_SOCKHASH and key > 512:
        return f"key_size of a sockhash map is at most 512, not {key}"
    if kind == c.BPF_MAP_TYPE_ARENA:
        return f"an arena has at most 4 GiB; max_entries is {entries} pages"
    if kind in group.HASHES and key + value > 4 << 20:
        return f"key_size and value_size together are {key + value} bytes; at most about 4 MiB (4194255) are allowed"
    if kind in (*group.STORAGES, *group.QUEUES):
        return f"value_size {value} is more than the kernel can allocate at once for {article(map_type_name(kind))} map"
    if entries >= 1 << 31:
        return f"max_entries must be below 2147483648, not {entries}"
    word = article(map_type_name(kind))
    return f"key_size {key}, value_size {value} or max_entries {entries} is too large for {word} map"


def not_supported(values: Mapping[str, int | bytes]) -> str:
    """Return what is not supported, for fields that MAP_CREATE answered with ENOTSUPP; "" if that is not known."""
    kind, flags = values.get("map_type", 0), values.get("map_flags", 0)
    word = article(map_type_name(kind)) if isinstance(kind, int) else ""
    if kind in group.LRU_HASHES and isinstance(flags, int) and flags & _NP:
        return "an LRU map is always preallocated: leave BPF_F_NO_PREALLOC out"
    if kind in group.NESTED:
        return "a map of this type cannot be the template (inner_map_fd) of a map of maps"
    if values.get("btf_value_type_id"):
        return f"{word} map takes no BTF, or no such special field (lock, timer, kptr) in its value: leave it out"
    return ""
