"""BTF objects: what was loaded, and what a map's key and value types must be like.

Source: kernel/bpf/btf.c, kernel/bpf/syscall.c:map_check_btf (v6.12).
"""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, EOPNOTSUPP
from sys import byteorder

from rawbpf.errors import NotSupported
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.kernel import Identified
from rawbpf.sim.map.field import Fields
from rawbpf.sim.types import record as r
from rawbpf.sim.types import special
from rawbpf.sim.types.parse import parse
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.host import SimulatedHost
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.base import SimMap
    from rawbpf.sim.types.log import Log
    from rawbpf.sim.types.record import Record, Records

_HASHES = (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_LRU_HASH)
_PERCPU_HASHES = (c.BPF_MAP_TYPE_PERCPU_HASH, c.BPF_MAP_TYPE_LRU_PERCPU_HASH)
_STORAGES = (
    c.BPF_MAP_TYPE_SK_STORAGE,
    c.BPF_MAP_TYPE_INODE_STORAGE,
    c.BPF_MAP_TYPE_TASK_STORAGE,
    c.BPF_MAP_TYPE_CGRP_STORAGE,
)
_OWNERS = (*_HASHES, c.BPF_MAP_TYPE_ARRAY)
_POINTING = (*_OWNERS, *_PERCPU_HASHES, c.BPF_MAP_TYPE_PERCPU_ARRAY, *_STORAGES)
# Which map types may have which fields. Source: kernel/bpf/syscall.c:map_check_btf (v6.18).
_ALLOWED = (
    (
        special.LOCKS,
        (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_CGROUP_STORAGE, *_STORAGES),
    ),
    (special.TIMER | special.WORKQUEUE | special.TASK_WORK | special.ROOTS, _OWNERS),
    (special.KPTR | special.REFCOUNT, _POINTING),
    (special.UPTR, (c.BPF_MAP_TYPE_TASK_STORAGE,)),
)
# Structs of the kernel for which it knows how to give a reference back. Source: register_btf_id_dtor_kfuncs.
_OWNED = (b"task_struct", b"cgroup", b"bpf_cpumask", b"bpf_crypto_ctx")
_ONE = (1).to_bytes(4, byteorder)


class LoadedBtf(Identified):
    """One BTF object that was loaded. Raises: Refused for bytes that are no BTF to this kernel."""

    name = b""
    is_kernel = False

    def __init__(self, kernel: Kernel, content: bytes, log: Log) -> None:
        host = kernel.host
        self.content = content
        self.records = parse(content, log, kernel.release)
        self._finder = special.Finder(
            self.records, kernel.release.special_fields, lambda name, kind: _check_pointer(host, name, kind)
        )
        self._checks_structs = kernel.release.checks_structs
        if self._checks_structs:
            self._finder.check_structs()

    def __deepcopy__(self, memo: dict[int, object]) -> LoadedBtf:
        return self  # it never changes

    def check_map(self, target: SimMap, key_type_id: int, value_type_id: int) -> Fields | None:
        """Check that the types fit the map; return the fields of its value that are the kernel's.

        Raises: Refused (EINVAL; ENOTSUPP: no BTF for this type; EACCES, EOPNOTSUPP: no such fields in this map).
        """
        key = r.VOID_RECORD
        if key_type_id:
            key = self._of_size(key_type_id, target.key_size)[0]
        elif target.takes_btf and not target.takes_no_key_type:
            raise Refused(EINVAL)
        value, number = self._of_size(value_type_id, target.value_size)
        try:
            found = self._finder.fields(number, special.IN_MAPS, target.value_size)
        except Refused:
            # The map is made all the same; its value is then without fields.
            found = []
        if found:
            self._check_fields(target, found)
        target.check_btf(self.records, key, value)
        return _layout(self.records, found, target.value_size) if found else None

    def _of_size(self, number: int, size: int) -> tuple[Record, int]:
        found = self.records.sized(number)
        if found is None or found[2] != size:
            raise Refused(EINVAL)
        return found[0], found[1]

    def _check_fields(self, target: SimMap, found: list[special.Field]) -> None:
        if target.flags & (c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG):
            raise Refused(EACCES)
        for kinds, types in _ALLOWED:
            if target.type not in types and any(field.kind & kinds for field in found):
                # Source: commit aa3496accc41 ("bpf: Refactor kptr_off_tab into btf_record") (in v6.2)
                raise Refused(EOPNOTSUPP if self._checks_structs else ENOTSUPP)
        self._finder.check_owners(found)


class KernelBtf(Identified):
    """The kernel's own types, an object with an id like the others; those of the kernel below, read when wanted."""

    name = b"vmlinux"
    is_kernel = True

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    def __deepcopy__(self, memo: dict[int, object]) -> KernelBtf:
        return self

    @property
    def content(self) -> bytes:
        """The bytes."""
        try:
            whole = self._host.btf().obj
        except NotSupported:
            return b""
        assert isinstance(whole, bytes)
        return whole


def _layout(records: Records, found: list[special.Field], size: int) -> Fields:
    spans = ((field.offset, _ONE if field.kind == special.REFCOUNT else bytes(field.size)) for field in found)
    kinds = special.mask(found)
    pointers = tuple((field.offset, records[field.type_id].size) for field in found if field.kind == special.UPTR)
    return Fields(spans, size, bool(kinds & special.SPIN_LOCK), kinds, pointers)


def _check_pointer(host: SimulatedHost, name: bytes, kind: int) -> bool:
    # Source: btf_parse_kptr: a struct that only the program knows is its own business.
    from rawbpf.btf.types import Composite

    types = host.types()
    if types is None:
        raise Refused(EINVAL)
    known = types.find(name.decode("latin-1"), Composite) is not None
    if known and kind == special.KPTR_REF and name not in _OWNED:
        raise Refused(ENOENT)
    return known
