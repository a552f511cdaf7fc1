"""OBJ_GET_INFO_BY_FD, and the commands that go from ids to descriptors.

Source: kernel/bpf/syscall.c:bpf_obj_get_info_by_fd, bpf_obj_get_next_id, bpf_map_get_fd_by_id (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EBADFD, EINVAL, ENOSPC

from rawbpf.sim.btf import KernelBtf, LoadedBtf
from rawbpf.sim.command.map import access
from rawbpf.sim.command.prog_info import prog_info
from rawbpf.sim.command.token import check_token
from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.program import SimProgram
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import BTF_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD
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
_SHA256 = 32


def get_info(kernel: Kernel, attr: Attr) -> int:
    """OBJ_GET_INFO_BY_FD: fill in what fits the caller's buffer, and say how much there was."""
    attr.check(OBJ_GET_INFO_BY_FD.size)
    fd, length, address = attr.take("=IIQ")
    try:
        file = kernel.files.find(fd)
    except Refused:
        raise Refused(EBADFD) from None
    content = None if file is None else file.content
    layout = next((layout for kind, layout in _LAYOUTS if isinstance(content, kind)), None)
    if layout is None:
        raise Refused(EINVAL)
    known = kernel.release.info_size(layout)
    # Behind the last field there must be zeros, also where that is padding.
    _check_tail(kernel, address, length, min(known, layout.size))
    length = min(length, known)
    given = kernel.memory.read(address, length).ljust(_size(layout), b"\0")
    if isinstance(content, SimProgram):
        info = prog_info(kernel, content, given)
    elif isinstance(content, SimMap):
        info = _map_info(kernel, content, given)
    else:
        assert isinstance(content, (LoadedBtf, KernelBtf))
        info = _btf_info(kernel, content, given)
    kernel.memory.write(address, info[:length])
    attr.store(4, "=I", length)
    if layout is BTF_INFO and 0 < BTF_INFO.integer(given, "name_len") <= BTF_INFO.integer(info, "name_len"):
        # What there was of the name was written all the same.
        raise Refused(ENOSPC)
    return 0


_LAYOUTS: tuple[tuple[type, Layout], ...] = (
    (SimMap, MAP_INFO),
    (SimProgram, PROG_INFO),
    (LoadedBtf, BTF_INFO),
    (KernelBtf, BTF_INFO),
)


def _check_tail(kernel: Kernel, address: int, length: int, known: int) -> None:
    # A buffer that is longer than what this kernel tells must have zeros there (bpf_check_uarg_tail_zero).
    if length > kernel.host.page_size:
        raise Refused(E2BIG)
    if length > known and kernel.memory.read(address + known, length - known).strip(b"\0"):
        raise Refused(E2BIG)


def _size(layout: Layout) -> int:
    return -(-layout.size // _UNIT) * _UNIT


def _filled(layout: Layout, fields: dict[str, int | bytes], given: bytes = b"") -> bytes:
    image = bytearray(given or _size(layout))
    for name, value in fields.items():
        layout.set(image, name, value)
    return bytes(image)


def _map_info(kernel: Kernel, target: SimMap, given: bytes) -> bytes:
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
    if target.btf_vmlinux_value_type_id and kernel.types is not None:
        fields["btf_vmlinux_id"] = kernel.types.id
    if kernel.release.has_hashes:
        address, size = MAP_INFO.integer(given, "hash"), MAP_INFO.integer(given, "hash_size")
        if address and size == _SHA256:
            kernel.memory.write(address, target.digest())
        elif address or size:
            raise Refused(EINVAL)
        # Since the caller's buffer is read, what is not set stays what it was there.
        return _filled(MAP_INFO, fields | {"hash": address, "hash_size": size}, given)
    return _filled(MAP_INFO, fields)


def _btf_info(kernel: Kernel, btf: LoadedBtf | KernelBtf, given: bytes) -> bytes:
    # Source: kernel/bpf/btf.c:btf_get_info_by_fd.
    content, address = btf.content, BTF_INFO.integer(given, "btf")
    kernel.memory.write(address, content[: BTF_INFO.integer(given, "btf_size")])
    fields: dict[str, int | bytes] = {"btf": address, "btf_size": len(content), "id": btf.id}
    name, room = BTF_INFO.integer(given, "name"), BTF_INFO.integer(given, "name_len")
    if bool(name) != bool(room):
        raise Refused(EINVAL)
    if name:
        kernel.memory.write(name, btf.name[: room - 1] + b"\0")
    fields |= {"name": name, "name_len": len(btf.name), "kernel_btf": int(btf.is_kernel)}
    return _filled(BTF_INFO, fields)


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


def _btf_by_id(kernel: Kernel, attr: Attr) -> int:
    attr.check(kernel.release.end(BTF_GET_FD_BY_ID))
    number, flags, token = attr.take("=I4xII")
    if flags & ~c.BPF_F_TOKEN_FD:
        raise Refused(EINVAL)
    if flags:
        check_token(kernel, token)
    kernel.sweep()
    return kernel.files.open(kernel.btfs.get(number))


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_OBJ_GET_INFO_BY_FD: get_info,
    c.BPF_MAP_GET_NEXT_ID: _next_id(lambda kernel: kernel.maps),
    c.BPF_PROG_GET_NEXT_ID: _next_id(lambda kernel: kernel.programs),
    c.BPF_BTF_GET_NEXT_ID: _next_id(lambda kernel: kernel.btfs),
    c.BPF_MAP_GET_FD_BY_ID: _fd_by_id(lambda kernel: kernel.maps, 12, c.BPF_F_RDONLY | c.BPF_F_WRONLY),
    c.BPF_PROG_GET_FD_BY_ID: _fd_by_id(lambda kernel: kernel.programs, 4),
    c.BPF_BTF_GET_FD_BY_ID: _btf_by_id,
}
