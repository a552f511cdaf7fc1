"""MAP_CREATE, MAP_FREEZE, and the commands on single elements.

Order matters: which of two mistakes a call is blamed for is part of the kernel's behaviour.
Source: kernel/bpf/syscall.c (v6.12): map_create and the functions named at each command.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, EOPNOTSUPP, EPERM

from rawbpf.sim.command.token import check_token
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.map.shape import NO_NODE, Shape
from rawbpf.sim.map.types import TYPES
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_CREATE, MAP_LOOKUP_AND_DELETE_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.file import File
    from rawbpf.sim.kernel import Kernel

_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")
_NO_NAME = 16
_ELEMENT = "=I4xQQQ"
_SHA256 = 32


def create(kernel: Kernel, attr: Attr) -> int:
    """MAP_CREATE: return a descriptor of a new map."""
    attr.check(kernel.release.end(MAP_CREATE))
    shape = Shape(attr)
    key_type_id, value_type_id = (attr.number(MAP_CREATE, f"btf_{what}_type_id") for what in ("key", "value"))
    kernel_value_type_id = attr.number(MAP_CREATE, "btf_vmlinux_value_type_id")
    if kernel_value_type_id:
        if shape.map_type != c.BPF_MAP_TYPE_STRUCT_OPS or key_type_id or value_type_id:
            raise Refused(EINVAL)
    elif key_type_id and not value_type_id:
        raise Refused(EINVAL)
    if shape.map_extra and not kernel.release.takes_extra(shape.map_type):
        raise Refused(EINVAL)
    may_read, may_write = access(shape.map_flags)
    if shape.numa_node not in (*kernel.host.numa_nodes, NO_NODE):
        raise Refused(EINVAL)
    if shape.map_type not in TYPES or not kernel.release.has_map_type(shape.map_type):
        raise Refused(EINVAL)
    if shape.map_flags & ~kernel.release.map_flags:
        raise Refused(EINVAL)
    wants_token = shape.has(c.BPF_F_TOKEN_FD)
    shape.map_flags &= ~c.BPF_F_TOKEN_FD
    made = TYPES[shape.map_type](kernel, shape)
    if wants_token:
        check_token(kernel, attr.number(MAP_CREATE, "map_token_fd"))
    if attr.number(MAP_CREATE, "map_ifindex"):
        raise Refused(_offload(made, attr.number(MAP_CREATE, "map_ifindex")))
    made.name = object_name(attr.image[28:44])
    if key_type_id or value_type_id or kernel_value_type_id:
        _give_btf(kernel, attr, made, key_type_id, value_type_id)
    made.exclusive_to = _hash_of_program(kernel, attr)
    kernel.maps.add(made)
    return kernel.files.open(made, may_read=may_read, may_write=may_write)


def _give_btf(kernel: Kernel, attr: Attr, made: SimMap, key_type_id: int, value_type_id: int) -> None:
    from rawbpf.sim.btf import KernelBtf, LoadedBtf

    btf = kernel.files.get(attr.number(MAP_CREATE, "btf_fd"), (LoadedBtf, KernelBtf)).content
    if not isinstance(btf, LoadedBtf):
        raise Refused(EACCES)
    if value_type_id:
        made.fields = btf.check_map(made, key_type_id, value_type_id)
    made.btf, made.btf_key_type_id, made.btf_value_type_id = btf, key_type_id, value_type_id
    made.btf_vmlinux_value_type_id = attr.number(MAP_CREATE, "btf_vmlinux_value_type_id")


def _offload(made: SimMap, ifindex: int) -> int:
    # The errno: a network card that runs programs itself is not simulated. Source: bpf_map_offload_map_alloc.
    if made.type not in (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_ARRAY):
        return EINVAL
    import socket

    try:
        socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        return EINVAL
    return EOPNOTSUPP


def _hash_of_program(kernel: Kernel, attr: Attr) -> bytes:
    # Of the only program that may use the map; empty where every one may.
    address, size = attr.number(MAP_CREATE, "excl_prog_hash"), attr.number(MAP_CREATE, "excl_prog_hash_size")
    if size != (_SHA256 if address else 0):
        raise Refused(EINVAL)
    return kernel.memory.read(address, size)


def access(flags: int) -> tuple[bool, bool]:
    """Return whether a file opened with `flags` may be read and written. Raises: Refused (EINVAL: both refused)."""
    both = c.BPF_F_RDONLY | c.BPF_F_WRONLY
    if flags & both == both:
        raise Refused(EINVAL)
    return not flags & c.BPF_F_WRONLY, not flags & c.BPF_F_RDONLY


def object_name(field: bytes) -> bytes:
    """Return the name in a field of 16 bytes. Raises: Refused (EINVAL). Source: bpf_obj_name_cpy."""
    name, end, _ = field.partition(b"\0")
    if not end or not _NAME_CHARACTERS.issuperset(name):
        raise Refused(EINVAL)
    return name


def opened(kernel: Kernel, fd: int) -> tuple[File, SimMap]:
    """Return the file of a map and the map. Raises: Refused (EBADF, EINVAL)."""
    file = kernel.files.get(fd, SimMap)
    assert isinstance(file.content, SimMap)
    return file, file.content


def may_write(file: File, target: SimMap) -> bool:
    """Whether the caller may change the map through this file. Source: map_get_sys_perms."""
    return file.may_write and not target.frozen


def key_at(kernel: Kernel, target: SimMap, address: int) -> bytes:
    """Return the key that the caller points to. Raises: Refused (EFAULT; EINVAL: the type has no keys)."""
    if not target.key_size:
        if address:
            raise Refused(EINVAL)
        return b""
    return kernel.memory.read(address, target.key_size)


def lookup(kernel: Kernel, attr: Attr) -> int:
    """MAP_LOOKUP_ELEM. Source: map_lookup_elem."""
    attr.check(kernel.release.end(MAP_LOOKUP_ELEM))
    fd, key_address, value_address, flags = attr.take(_ELEMENT)
    if flags & ~c.BPF_F_LOCK:
        raise Refused(EINVAL)
    file, target = opened(kernel, fd)
    if not file.may_read:
        raise Refused(EPERM)
    _check_lock(target, flags)
    key = key_at(kernel, target, key_address)
    held = kernel.memory.read(value_address, target.value_bytes) if target.peeks else b""
    kernel.memory.write(value_address, target.lookup(key, held))
    return 0


def update(kernel: Kernel, attr: Attr) -> int:
    """MAP_UPDATE_ELEM. Source: map_update_elem."""
    attr.check(MAP_UPDATE_ELEM.size)
    fd, key_address, value_address, flags = attr.take(_ELEMENT)
    file, target = opened(kernel, fd)
    if not may_write(file, target):
        raise Refused(EPERM)
    _check_lock(target, flags)
    key = key_at(kernel, target, key_address)
    target.update_through(file, key, kernel.memory.read(value_address, target.value_bytes), flags)
    return 0


def delete(kernel: Kernel, attr: Attr) -> int:
    """MAP_DELETE_ELEM. Source: map_delete_elem."""
    attr.check(16)
    fd, key_address, _, _ = attr.take(_ELEMENT)
    file, target = opened(kernel, fd)
    if not may_write(file, target):
        raise Refused(EPERM)
    target.delete(key_at(kernel, target, key_address))
    return 0


def next_key(kernel: Kernel, attr: Attr) -> int:
    """MAP_GET_NEXT_KEY. Source: map_get_next_key."""
    attr.check(24)
    fd, key_address, next_address, _ = attr.take(_ELEMENT)
    file, target = opened(kernel, fd)
    if not file.may_read:
        raise Refused(EPERM)
    key = key_at(kernel, target, key_address) if key_address else None
    kernel.memory.write(next_address, target.next_key(key))
    return 0


def lookup_and_delete(kernel: Kernel, attr: Attr) -> int:
    """MAP_LOOKUP_AND_DELETE_ELEM. Source: map_lookup_and_delete_elem."""
    attr.check(kernel.release.end(MAP_LOOKUP_AND_DELETE_ELEM))
    fd, key_address, value_address, flags = attr.take(_ELEMENT)
    if flags & ~c.BPF_F_LOCK:
        raise Refused(EINVAL)
    file, target = opened(kernel, fd)
    if not (file.may_read and may_write(file, target)):
        raise Refused(EPERM)
    if flags and target.type in (c.BPF_MAP_TYPE_QUEUE, c.BPF_MAP_TYPE_STACK):
        raise Refused(EINVAL)
    _check_lock(target, flags)
    key = key_at(kernel, target, key_address)
    if not kernel.release.can_lookup_and_delete(target.type):
        raise Refused(ENOTSUPP)
    # A value that cannot be handed out is lost: the element is gone by then.
    kernel.memory.write(value_address, target.lookup_and_delete(key))
    return 0


def freeze(kernel: Kernel, attr: Attr) -> int:
    """MAP_FREEZE. Source: map_freeze."""
    attr.check(4)
    file, target = opened(kernel, attr.take("=I")[0])
    if not target.freezable or (target.fields is not None and target.fields.kinds & kernel.release.unfrozen_fields):
        raise Refused(ENOTSUPP)
    if kernel.release.freezes_by_permission and not may_write(file, target):
        raise Refused(EPERM)
    if target.writable_mappings or target.frozen:
        raise Refused(EBUSY)
    target.frozen = True
    return 0


def _check_lock(target: SimMap, flags: int) -> None:
    if flags & c.BPF_F_LOCK and not target.has_lock:
        raise Refused(EINVAL)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_MAP_CREATE: create,
    c.BPF_MAP_LOOKUP_ELEM: lookup,
    c.BPF_MAP_UPDATE_ELEM: update,
    c.BPF_MAP_DELETE_ELEM: delete,
    c.BPF_MAP_GET_NEXT_KEY: next_key,
    c.BPF_MAP_LOOKUP_AND_DELETE_ELEM: lookup_and_delete,
    c.BPF_MAP_FREEZE: freeze,
}
