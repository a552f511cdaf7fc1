"""Storage of a cgroup and a program: an element appears when a program is attached, which does not happen here.

Source: kernel/bpf/local_storage.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, SimMap
from rawbpf.sim.map.hash import PERCPU_LIMIT
from rawbpf.sim.map.local_storage import STORAGE_LIMIT
from rawbpf.sim.map.shape import rounded
from rawbpf.sim.types.record import INT, STRUCT
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

# A cgroup's id alone, or a struct bpf_cgroup_storage_key: with an attach type.
_ID, _KEY = 8, 16
# Offset and size of the members of that struct.
_MEMBERS = ((0, 8), (8, 4))


class SimCgroupStorage(SimMap):
    """BPF_MAP_TYPE_CGROUP_STORAGE."""

    flags_allowed = ACCESS | c.BPF_F_NUMA_NODE
    takes_no_key_type = True
    head_bytes = 328
    limit = STORAGE_LIMIT
    update_flags = c.BPF_F_LOCK | c.BPF_EXIST

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: cgroup_storage_map_alloc."""
        if shape.key_size not in (_ID, _KEY) or not shape.value_size:
            raise Refused(EINVAL)
        # Commit 33b57e0cc78e ("bpf: Increase supported cgroup storage value size").
        if shape.value_size > (self.limit if kernel.release.reached("5.15") else kernel.host.page_size):
            raise Refused(E2BIG)
        shape.check_flags(self.flags_allowed)
        if shape.max_entries:
            raise Refused(EINVAL)

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check that the key is a cgroup's id, or that and an attach type. Source: cgroup_storage_check_btf."""
        if self.key_size == _ID:
            if key.kind != INT or key.int_bits != _ID * 8 or key.int_offset:
                raise Refused(EINVAL)
            return
        if key.kind != STRUCT or key.vlen != len(_MEMBERS):
            raise Refused(EINVAL)
        for member, (offset, size) in zip(key.elements, _MEMBERS, strict=True):
            if not _is_int(records, key, member, offset, size):
                raise Refused(EINVAL)

    @property
    def memory_usage(self) -> int:
        """Bytes of the map. Source: cgroup_storage_map_usage."""
        return self.head_bytes

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Find nothing. Raises: Refused (ENOENT)."""
        raise Refused(ENOENT)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Find nothing. Raises: Refused (EINVAL: flags; ENOENT)."""
        raise Refused(EINVAL if flags & ~self.update_flags else ENOENT)

    def delete(self, key: bytes) -> None:
        """Refuse: elements go with their programs. Raises: Refused (EINVAL)."""
        raise Refused(EINVAL)

    def next_key(self, key: bytes | None) -> bytes:
        """Find nothing. Raises: Refused (ENOENT)."""
        raise Refused(ENOENT)


class SimPerCpuCgroupStorage(SimCgroupStorage):
    """BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE."""

    limit = PERCPU_LIMIT
    update_flags = c.BPF_EXIST

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.value_bytes = rounded(shape.value_size) * kernel.host.possible_cpus


def _is_int(records: Records, struct: Record, member: tuple[int, ...], offset: int, size: int) -> bool:
    # Source: btf_member_is_reg_int.
    found = records.sized(member[1])
    if found is None or found[0].kind != INT:
        return False
    at, bits = struct.bit_offset(member), found[0].int_bits
    if struct.flag:
        return not member[2] >> 24 and -(-at // 8) == offset and -(-bits // 8) == size
    return not found[0].int_offset and at == offset * 8 and bits == size * 8
