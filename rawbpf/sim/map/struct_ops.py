"""Kernel structs that programs implement: made as the kernel makes them, never registered.

What such a struct looks like is told by the types of the kernel below the simulator.
Source: kernel/bpf/bpf_struct_ops.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT, EOPNOTSUPP

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.base import POINTER, U32, SimMap
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_PREFIX = "bpf_struct_ops_"


class SimStructOps(SimMap):
    """BPF_MAP_TYPE_STRUCT_OPS."""

    flags_allowed = c.BPF_F_LINK | c.BPF_F_VTYPE_BTF_OBJ_FD
    freezable = False
    head_bytes = 640

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes, flags and the struct. Raises: Refused (EINVAL; ENOTSUPP: no such struct; EBADF).

        Source: bpf_struct_ops_map_alloc_check, bpf_struct_ops_map_alloc.
        """
        from rawbpf.sim.btf import KernelBtf, LoadedBtf

        if shape.key_size != U32.size or shape.max_entries != 1 or shape.map_flags & ~self.flags_allowed:
            raise Refused(EINVAL)
        if not shape.kernel_value_type_id:
            raise Refused(EINVAL)
        if shape.has(c.BPF_F_VTYPE_BTF_OBJ_FD):
            # Only a module's types will do, and there are no modules.
            kernel.files.get(shape.value_types_fd, (KernelBtf, LoadedBtf))
            raise Refused(EINVAL)
        size = _size_of(kernel, shape.kernel_value_type_id)
        if size is None:
            raise Refused(ENOTSUPP)
        if size != shape.value_size:
            raise Refused(EINVAL)

    @property
    def memory_usage(self) -> int:
        """Bytes of the struct, twice, of links and of code. Source: bpf_struct_ops_map_mem_usage."""
        return self.head_bytes + 2 * (self.value_size + POINTER) + self.kernel.host.page_size

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return zeros: nothing is registered. Raises: Refused (ENOENT: another index than 0)."""
        if U32.unpack(key)[0]:
            raise Refused(ENOENT)
        return bytes(self.value_size)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Refuse to register. Raises: Refused (EINVAL: flags; E2BIG: another index than 0; ENOTSUPP)."""
        if flags:
            raise Refused(EINVAL)
        if U32.unpack(key)[0]:
            raise Refused(E2BIG)
        raise Refused(ENOTSUPP)

    def delete(self, key: bytes) -> None:
        """Find nothing that is registered. Raises: Refused (ENOENT; EOPNOTSUPP: a link does that)."""
        raise Refused(EOPNOTSUPP if self.flags & c.BPF_F_LINK else ENOENT)

    def next_key(self, key: bytes | None) -> bytes:
        """Return index 0. Raises: Refused (ENOENT)."""
        if key is not None and not U32.unpack(key)[0]:
            raise Refused(ENOENT)
        return U32.pack(0)


def _size_of(kernel: Kernel, number: int) -> int | None:
    # The size of a struct bpf_struct_ops_X { common; struct X data; }, which is what the kernel registers.
    from rawbpf.btf.types import Composite

    types = kernel.host.types()
    if types is None or number >= len(types):
        return None
    found = types[number]
    if not isinstance(found, Composite) or not found.name.startswith(_PREFIX) or len(found.members) != 2:
        return None
    data = found.members[1].type
    return found.size if isinstance(data, Composite) and found.name == _PREFIX + data.name else None
