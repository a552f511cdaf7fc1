"""What MAP_CREATE asks for, and the checks that all types share."""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.error import Refused
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.attr import Attr


NO_NODE = 0xFFFFFFFF
"""The NUMA node of a map that is to be on none in particular. Source: include/linux/numa.h:NUMA_NO_NODE (v6.12)."""


class Shape:
    """The numbers of a MAP_CREATE attr; `numa_node` is NO_NODE where the flag does not ask for one."""

    __slots__ = (
        "inner_map_fd",
        "kernel_value_type_id",
        "key_size",
        "key_type_id",
        "map_extra",
        "map_flags",
        "map_type",
        "max_entries",
        "numa_node",
        "value_size",
        "value_type_id",
        "value_types_fd",
    )

    def __init__(self, attr: Attr) -> None:
        self.map_type = attr.number(MAP_CREATE, "map_type")
        self.key_size = attr.number(MAP_CREATE, "key_size")
        self.value_size = attr.number(MAP_CREATE, "value_size")
        self.max_entries = attr.number(MAP_CREATE, "max_entries")
        self.map_flags = attr.number(MAP_CREATE, "map_flags")
        self.numa_node = attr.number(MAP_CREATE, "numa_node") if self.has(c.BPF_F_NUMA_NODE) else NO_NODE
        self.map_extra = attr.number(MAP_CREATE, "map_extra")
        self.inner_map_fd = attr.number(MAP_CREATE, "inner_map_fd")
        self.key_type_id = attr.number(MAP_CREATE, "btf_key_type_id")
        self.value_type_id = attr.number(MAP_CREATE, "btf_value_type_id")
        self.kernel_value_type_id = attr.number(MAP_CREATE, "btf_vmlinux_value_type_id")
        self.value_types_fd = attr.number(MAP_CREATE, "value_type_btf_obj_fd")

    def has(self, flag: int) -> bool:
        """Whether the map is created with `flag`."""
        return bool(self.map_flags & flag)

    def check_no_node(self) -> None:
        """Check that no NUMA node is asked for. Raises: Refused (EINVAL)."""
        if self.numa_node != NO_NODE:
            raise Refused(EINVAL)

    def check_flags(self, allowed: int) -> None:
        """Check that there are no other flags, and that no two exclude each other. Raises: Refused (EINVAL).

        Source: kernel/bpf/syscall.c:bpf_map_flags_access_ok (include/linux/bpf.h), v6.12.
        """
        programs = c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG
        if self.map_flags & ~allowed or self.map_flags & programs == programs:
            raise Refused(EINVAL)


def rounded(size: int, unit: int = 8) -> int:
    """Return `size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


def power_of_two(number: int) -> int:
    """Return the lowest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
