"""A map to be made, as plain data, and BPF_MAP_CREATE on any kernel.

Does not use `rawbpf.map`: what is compared are two kernels, not two Map classes. Kernel side:
kernel/bpf/syscall.c:map_create (v6.18).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rawbpf.btf.build import Builder
from rawbpf.errors import errno_name
from rawbpf.testing.named import NOTHING, Named, Objects, told
from rawbpf.uapi import attr
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_number

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

PER_CPU = frozenset({"percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"})
"""The types whose values have a slot, of a multiple of 8 bytes, for each possible CPU."""


class MapSpec(NamedTuple):
    """One map: what BPF_MAP_CREATE takes.

    `map_type`: as in `rawbpf.uapi.names`; `key_size` and `value_size` in bytes; `inner`: the template of a map of
    maps; `btf`: a name of BTF_SHAPES, or "" for none.
    """

    map_type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    map_extra: int = 0
    inner: Named | None = None
    btf: str = ""
    name: bytes = b""
    numa_node: int = 0

    def __repr__(self) -> str:
        return f"MapSpec({', '.join(told(self))})"

    def room(self, cpus: int) -> int:
        """Return how many bytes the kernel reads or writes for one value, on a machine of `cpus` possible CPUs."""
        return (self.value_size + 7 & ~7) * cpus if self.map_type in PER_CPU else self.value_size


def _bytes_type(builder: Builder, size: int) -> int:
    if size in (1, 2, 4, 8):
        return builder.int(f"u{size * 8}", size)
    return builder.array(builder.int("u8", 1), size)


def _plain_types(builder: Builder, spec: MapSpec) -> tuple[int, int]:
    return _bytes_type(builder, spec.key_size), _bytes_type(builder, spec.value_size)


def _locked_types(builder: Builder, spec: MapSpec) -> tuple[int, int]:
    lock = builder.struct("bpf_spin_lock", 4, [("val", builder.int("unsigned int", 4), 0)])
    rest = builder.array(builder.int("u8", 1), spec.value_size - 4)
    value = builder.struct("locked", spec.value_size, [("lock", lock, 0), ("rest", rest, 32)])
    return _bytes_type(builder, spec.key_size), value


def _storage_types(builder: Builder, spec: MapSpec) -> tuple[int, int]:
    return builder.int("int", 4, signed=True), _bytes_type(builder, spec.value_size)


def _struct_types(builder: Builder, spec: MapSpec) -> tuple[int, int]:
    data = builder.array(builder.int("u8", 1), spec.key_size - 4)
    members = [("prefixlen", builder.int("u32", 4), 0), ("data", data, 32)]
    return builder.struct("prefix", spec.key_size, members), _bytes_type(builder, spec.value_size)


BTF_SHAPES: dict[str, Callable[[Builder, MapSpec], tuple[int, int]]] = {
    "plain": _plain_types,
    "lock": _locked_types,
    "storage": _storage_types,
    "prefix": _struct_types,
}
"""How the BTF of a map is built, by name; each returns the ids of the key's type and the value's.

`plain`: integers or arrays of bytes; `lock`: the value begins with a bpf_spin_lock; `storage`: the key is an int, as
local storage wants it; `prefix`: the key is a struct, as an LPM trie wants it.
"""


def create(backend: Backend, spec: MapSpec, objects: Objects = NOTHING) -> tuple[int, str]:
    """Make the map: return its descriptor and "", or -1 and the errno's name. The caller closes it."""
    fields: dict[str, int | bytes] = {
        "map_type": map_type_number(spec.map_type),
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "map_flags": spec.flags,
        "map_extra": spec.map_extra,
        "map_name": spec.name,
        "numa_node": spec.numa_node,
    }
    if spec.inner is not None:
        fields["inner_map_fd"] = int.from_bytes(objects.encode(spec.inner), sys.byteorder)
    btf = -1
    try:
        if spec.btf:
            builder = Builder()
            fields["btf_key_type_id"], fields["btf_value_type_id"] = BTF_SHAPES[spec.btf](builder, spec)
            btf, error = load_btf(backend, builder.to_bytes())
            if error:
                return -1, f"BTF_LOAD {error}"
            fields["btf_fd"] = btf
        image = attr.MAP_CREATE.pack(**fields)
        return _result(backend.bpf_blocking(c.BPF_MAP_CREATE, ctypes.byref(image), attr.MAP_CREATE.used(fields)))
    finally:
        if btf >= 0:
            backend.close(btf)


def load_btf(backend: Backend, content: bytes) -> tuple[int, str]:
    """Load BTF: return its descriptor and "", or -1 and the errno's name. The caller closes it."""
    room = ctypes.create_string_buffer(content, len(content))
    image = attr.BTF_LOAD.pack(btf=ctypes.addressof(room), btf_size=len(content))
    return _result(backend.bpf_blocking(c.BPF_BTF_LOAD, ctypes.byref(image), attr.BTF_LOAD.minimum))


def _result(fd: int) -> tuple[int, str]:
    return (fd, "") if fd >= 0 else (-1, errno_name(ctypes.get_errno()))
