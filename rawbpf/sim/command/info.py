"""OBJ_GET_INFO_BY_FD, and the commands that go from ids to descriptors.

Source: kernel/bpf/syscall.c:bpf_obj_get_info_by_fd, bpf_obj_get_next_id, bpf_map_get_fd_by_id (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from rawbpf.sim.btf import LoadedBtf
from rawbpf.sim.command.map import access
from rawbpf.sim.command.prog_info import prog_info
from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.program import SimProgram
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import OBJ_GET_INFO_BY_FD
from rawbpf.uapi.info import BTF_INFO, MAP_INFO, PROG_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Ids, Kernel
    from rawbpf.uapi.layout import Layout

# A `struct bpf_map_info` and its relatives end on a multiple of eight bytes.
_UNIT = 8


def get_info(kernel: Kernel, attr: Attr) -> int:
    """OBJ_GET_INFO_BY_FD: fill in what fits the caller's buffer, and say how much there was."""
    attr.check(OBJ_GET_INFO_BY_FD.size)
    fd, length, address = attr.take("=IIQ")
    file = kernel.files.find(fd)
    if file is None:
        raise Refused(EINVAL)
    if isinstance(file.content, SimMap):
        info = _map_info(file.content)
    elif isinstance(file.content, SimProgram):
        info = prog_info(kernel, file.content, _given(kernel, PROG_INFO, address, length))
    elif isinstance(file.content, LoadedBtf):
        info = _btf_info(kernel, file.content, _given(kernel, BTF_INFO, address, length))
    else:
        raise Refused(EINVAL)
    _check_tail(kernel, address, length, len(info))
    length = min(length, len(info))
    kernel.memory.write(address, info[:length])
    attr.store(4, "=I", length)
    return 0


def _check_tail(kernel: Kernel, address: int, length: int, known: int) -> None:
    # A buffer that is longer than what this kernel tells must have zeros there (bpf_check_uarg_tail_zero).
    if length > kernel.host.page_size:
        raise Refused(E2BIG)
    if length > known and kernel.memory.read(address + known, length - known).strip(b"\0"):
        raise Refused(E2BIG)


def _given(kernel: Kernel, layout: Layout, address: int, length: int) -> bytes:
    return kernel.memory.read(address, min(length, layout.size)).ljust(_size(layout), b"\0")


def _size(layout: Layout) -> int:
    return -(-layout.size // _UNIT) * _UNIT


def _filled(layout: Layout, fields: dict[str, int | bytes]) -> bytes:
    image = bytearray(_size(layout))
    for name, value in fields.items():
        layout.set(image, name, value)
    return bytes(image)


def _map_info(target: SimMap) -> bytes:
    fields: dict[str, int | bytes] = {
        "type": target.type,
        "id": target.id,
        "key_size": target.key_size,
        "value_size": target.value_size,
        "max_entries": target.max_entries,
        "map_flags": target.flags,
        "name": target.name,
        "map_extra": target.map_extra,
        "btf_vmlinux_value_type_id": target.btf_vmlinux_value_type_id,
    }
    if target.btf is not None:
        fields |= {
            "btf_id": target.btf.id,
            "btf_key_type_id": target.btf_key_type_id,
            "btf_value_type_id": target.btf_value_type_id,
        }
    return _filled(MAP_INFO, fields)


def _btf_info(kernel: Kernel, btf: LoadedBtf, given: bytes) -> bytes:
    room = BTF_INFO.integer(given, "btf_size")
    kernel.memory.write(BTF_INFO.integer(given, "btf"), btf.content[:room])
    return _filled(
        BTF_INFO,
        {
            "btf": BTF_INFO.integer(given, "btf"),
            "btf_size": len(btf.content),
            "id": btf.id,
            "name": BTF_INFO.integer(given, "name"),
        },
    )


def _next_id(choose: Callable[[Kernel], Ids[Any]]) -> Callable[[Kernel, Attr], int]:
    def run(kernel: Kernel, attr: Attr) -> int:
        attr.check(8)
        kernel.sweep()
        attr.store(4, "=I", choose(kernel).after(attr.take("=I")[0]))
        return 0

    return run


def _fd_by_id(choose: Callable[[Kernel], Ids[Any]], end: int, allowed: int = 0) -> Callable[[Kernel, Attr], int]:
    def run(kernel: Kernel, attr: Attr) -> int:
        attr.check(end)
        number, flags = attr.take("=I4xI")
        if flags & ~allowed:
            raise Refused(EINVAL)
        may_read, may_write = access(flags)
        kernel.sweep()
        return kernel.files.open(choose(kernel).get(number), may_read=may_read, may_write=may_write)

    return run


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_OBJ_GET_INFO_BY_FD: get_info,
    c.BPF_MAP_GET_NEXT_ID: _next_id(lambda kernel: kernel.maps),
    c.BPF_PROG_GET_NEXT_ID: _next_id(lambda kernel: kernel.programs),
    c.BPF_BTF_GET_NEXT_ID: _next_id(lambda kernel: kernel.btfs),
    c.BPF_MAP_GET_FD_BY_ID: _fd_by_id(lambda kernel: kernel.maps, 12, c.BPF_F_RDONLY | c.BPF_F_WRONLY),
    c.BPF_PROG_GET_FD_BY_ID: _fd_by_id(lambda kernel: kernel.programs, 4),
    c.BPF_BTF_GET_FD_BY_ID: _fd_by_id(lambda kernel: kernel.btfs, 4),
}
