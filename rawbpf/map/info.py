"""What the kernel tells of a map: `struct bpf_map_info`, and what only fdinfo has.

Source: include/uapi/linux/bpf.h:struct bpf_map_info, kernel/bpf/syscall.c:bpf_map_show_fdinfo (v6.12)
"""

from __future__ import annotations

from rawbpf.map.base import Shape
from rawbpf.syscall import obj
from rawbpf.uapi.info import MAP_INFO
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.enums import MapType


class MapInfo:
    """A map as it was when asked; holds no descriptor. Sizes are bytes.

    `id type_number name key_size value_size max_entries map_flags map_extra btf_id key_type_id
    value_type_id`; `btf_vmlinux_value_type_id` is a struct_ops map's, in the BTF object `btf_vmlinux_id` of the kernel
    or a module (0 before Linux 6.9: the kernel's); `memory` is what the kernel charges for it, `frozen` whether user
    space is kept from writing; both None where fdinfo has no such line. Program arrays and others that take programs
    have `owner_prog_type`, the number of the only type that they take, and `owner_jited`; None until the first one
    fixed it.
    """

    __slots__ = (
        "btf_id",
        "btf_vmlinux_id",
        "btf_vmlinux_value_type_id",
        "frozen",
        "id",
        "key_size",
        "key_type_id",
        "map_extra",
        "map_flags",
        "max_entries",
        "memory",
        "name",
        "owner_jited",
        "owner_prog_type",
        "type_number",
        "value_size",
        "value_type_id",
    )

    def __init__(self, raw: bytes, fdinfo: str) -> None:
        field = MAP_INFO.unpack(raw)
        self.id: int = field["id"]
        self.type_number: int = field["type"]
        self.name: str = field["name"].rstrip(b"\0").decode("ascii", "backslashreplace")
        self.key_size: int = field["key_size"]
        self.value_size: int = field["value_size"]
        self.max_entries: int = field["max_entries"]
        self.map_flags: int = field["map_flags"]
        self.map_extra: int = field["map_extra"]
        self.btf_id: int = field["btf_id"]
        self.key_type_id: int = field["btf_key_type_id"]
        self.value_type_id: int = field["btf_value_type_id"]
        self.btf_vmlinux_id: int = field["btf_vmlinux_id"]
        self.btf_vmlinux_value_type_id: int = field["btf_vmlinux_value_type_id"]
        lines = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
        self.memory: int | None = _number(lines, "memlock")
        frozen, jited = _number(lines, "frozen"), _number(lines, "owner_jited")
        self.frozen: bool | None = None if frozen is None else frozen == 1
        self.owner_prog_type: int | None = _number(lines, "owner_prog_type")
        self.owner_jited: bool | None = None if jited is None else jited == 1

    @property
    def type(self) -> MapType | int:
        """The map type; a plain int where this release does not know it."""
        from rawbpf.uapi.enums import MapType  # enums cost milliseconds: only who asks pays

        try:
            return MapType(self.type_number)
        except ValueError:
            return self.type_number

    def __repr__(self) -> str:
        kind = map_type_name(self.type_number)
        sizes = f"{self.key_size} -> {self.value_size} bytes"
        limit = f"max_entries {self.max_entries}, flags {self.map_flags:#x}"
        return f"<MapInfo {self.id}: {self.name!r} ({kind}), {sizes}, {limit}>"


def _number(lines: Mapping[str, str], key: str) -> int | None:
    return int(lines[key]) if key in lines else None


def read_info(backend: Backend, fd: int) -> MapInfo:
    """Ask the kernel about the map behind `fd`. Raises: Closed (EBADF), BpfError (EINVAL: no map)."""
    return MapInfo(obj.obj_get_info_by_fd(backend, fd, MAP_INFO.size), backend.fdinfo(fd))


def read_shape(backend: Backend, fd: int) -> Shape:
    """Ask the kernel what the map behind `fd` was made like; reads no /proc. Raises: as `read_info`."""
    field = MAP_INFO.unpack(obj.obj_get_info_by_fd(backend, fd, MAP_INFO.size))
    name = field["name"].rstrip(b"\0").decode("ascii", "backslashreplace")
    sizes = field["key_size"], field["value_size"], field["max_entries"]
    return Shape(field["type"], *sizes, field["map_flags"], name)
