"""The bpf commands on maps, one function each: sizes, descriptors and buffers in, a result or an error out.

Nothing here knows codecs, map classes or which operation suits which map type; the hot path of a map
makes its calls itself. The kernel writes value_size bytes (possible CPUs times the rounded size for
per-CPU types) wherever `value` points: the caller answers for the size of every buffer.

Source: kernel/bpf/syscall.c (v6.12).
"""

from __future__ import annotations

from rawbpf.syscall.command import command, pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.pointer import pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.constants import BPF_F_TOKEN_FD, BPF_F_VTYPE_BTF_OBJ_FD
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from rawbpf.syscall.pointer import CData
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import AttrBuffer, Layout

    class CreateFields(TypedDict, total=False):
        """The keyword arguments of `map_create` that are fields of MAP_CREATE."""

        map_type: int
        key_size: int
        value_size: int
        max_entries: int
        map_flags: int
        inner_map_fd: int
        numa_node: int
        name: bytes
        btf_fd: int
        btf_key_type_id: int
        btf_value_type_id: int
        btf_vmlinux_value_type_id: int
        map_extra: int
        value_type_btf_obj_fd: int
        token_fd: int


_ENOENT = 2


def map_create(
    backend: Backend,
    *,
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    map_flags: int = 0,
    inner_map_fd: int = 0,
    numa_node: int = 0,
    name: bytes = b"",
    ifindex: int = 0,
    btf_fd: int = 0,
    btf_key_type_id: int = 0,
    btf_value_type_id: int = 0,
    btf_vmlinux_value_type_id: int = 0,
    map_extra: int = 0,
    value_type_btf_obj_fd: int = 0,
    token_fd: int = 0,
    excl_prog_hash: bytes = b"",
    subject: str = "",
) -> int:
    """Create a map and return its descriptor.

    Sizes are bytes; `name` has at most 15 of `A-Z a-z 0-9 _ .`. The flags that `token_fd` and
    `value_type_btf_obj_fd` require are added. `subject` replaces the description in messages.
    Raises: PermissionDenied (EPERM); NotSupported (ENOTSUPP); BpfError (EINVAL, E2BIG, ENOMEM, EBADF).
    Since: Linux 3.18. Source: kernel/bpf/syscall.c:map_create
    """
    map_flags |= BPF_F_TOKEN_FD if token_fd else 0
    map_flags |= BPF_F_VTYPE_BTF_OBJ_FD if value_type_btf_obj_fd else 0
    values: dict[str, int | bytes] = {
        "map_type": map_type,
        "key_size": key_size,
        "value_size": value_size,
        "max_entries": max_entries,
        "map_flags": map_flags,
        "inner_map_fd": inner_map_fd,
        "numa_node": numa_node,
        "map_name": name,
        "map_ifindex": ifindex,
        "btf_fd": btf_fd,
        "btf_key_type_id": btf_key_type_id,
        "btf_value_type_id": btf_value_type_id,
        "btf_vmlinux_value_type_id": btf_vmlinux_value_type_id,
        "map_extra": map_extra,
        "value_type_btf_obj_fd": value_type_btf_obj_fd,
        "map_token_fd": token_fd,
        "excl_prog_hash": pointer_to(excl_prog_hash),
        "excl_prog_hash_size": len(excl_prog_hash),
    }
    if not subject:
        subject = description(name, map_type, key_size, value_size, max_entries)
    return command(backend, attr.MAP_CREATE, values, subject=subject, map_type=map_type)[0]


def description(name: bytes, map_type: int, key_size: int, value_size: int, max_entries: int) -> str:
    """Return what messages call a map that is to be created: its name, if any, its type and its sizes."""
    sizes = [("key_size", key_size), ("value_size", value_size), ("max_entries", max_entries)]
    words = [map_type_name(map_type), *(f"{what} {size}" for what, size in sizes if size)]
    quoted = f"'{name.decode('ascii', 'backslashreplace')}' " if name else ""
    return f"{quoted}({', '.join(words)})"


def map_lookup_elem(
    backend: Backend,
    fd: int,
    key: CData | None,
    value: CData | None,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> None:
    """Read the value of `key` into `value`.

    Raises: KeyNotFound (ENOENT), IndexOutOfRange for arrays, Empty for queues and stacks;
    NotSupported (ENOTSUPP, EOPNOTSUPP); PermissionDenied for a write-only descriptor (EPERM).
    Since: Linux 3.18. Source: kernel/bpf/syscall.c:map_lookup_elem
    """
    _element(backend, attr.MAP_LOOKUP_ELEM, fd, key, value, flags, subject, map_type)


def map_update_elem(
    backend: Backend,
    fd: int,
    key: CData | None,
    value: CData | None,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> None:
    """Store `value` under `key`; `flags` are BPF_ANY, BPF_NOEXIST or BPF_EXIST, and BPF_F_LOCK.

    Raises: KeyExists (EEXIST), KeyNotFound (ENOENT), MapFull (E2BIG, ENOSPC), IndexOutOfRange (E2BIG);
    PermissionDenied for a frozen map and a read-only descriptor (EPERM).
    Since: Linux 3.18. Source: kernel/bpf/syscall.c:map_update_elem
    """
    _element(backend, attr.MAP_UPDATE_ELEM, fd, key, value, flags, subject, map_type)


def map_lookup_and_delete_elem(
    backend: Backend,
    fd: int,
    key: CData | None,
    value: CData | None,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> None:
    """Read the value of `key` into `value` and remove it. With a bad `value` the element is removed all the same.

    Raises: KeyNotFound (ENOENT), Empty for queues and stacks; NotSupported (ENOTSUPP) for arrays.
    Since: Linux 4.20 for queues and stacks, 5.14 for hashes. Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem
    """
    _element(backend, attr.MAP_LOOKUP_AND_DELETE_ELEM, fd, key, value, flags, subject, map_type)


def _element(
    backend: Backend,
    layout: Layout,
    fd: int,
    key: CData | None,
    value: CData | None,
    flags: int,
    subject: str,
    map_type: int | None,
) -> None:
    values: dict[str, int | bytes] = {
        "map_fd": fd,
        "key": pointer_to(key),
        "value": pointer_to(value),
        "flags": flags,
    }
    command(backend, layout, values, subject=subject, map_type=map_type)


def map_delete_elem(
    backend: Backend, fd: int, key: CData | None, *, subject: str = "", map_type: int | None = None
) -> None:
    """Remove `key`.

    Raises: KeyNotFound (ENOENT); NotSupported for types that never delete (EINVAL for arrays).
    Since: Linux 3.18. Source: kernel/bpf/syscall.c:map_delete_elem
    """
    values: dict[str, int | bytes] = {"map_fd": fd, "key": pointer_to(key)}
    command(backend, attr.MAP_DELETE_ELEM, values, subject=subject, map_type=map_type)


def map_get_next_key(
    backend: Backend,
    fd: int,
    key: CData | None,
    next_key: CData,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> bool:
    """Write the key after `key` into `next_key`; the first one if `key` is None or not in the map.

    Returns: False where there is no further key. Raises: NotSupported for types without keys.
    Since: Linux 3.18; `key` None since 4.12. Source: kernel/bpf/syscall.c:map_get_next_key
    """
    layout = attr.MAP_GET_NEXT_KEY
    values: dict[str, int | bytes] = {"map_fd": fd, "key": pointer_to(key), "next_key": pointer_to(next_key)}
    if (result := invoke(backend, layout.cmd, pack(layout, values), layout.size)) < 0:
        if result == -_ENOENT:
            return False
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, map_type=map_type, values=values)
    return True


def map_freeze(backend: Backend, fd: int, *, subject: str = "", map_type: int | None = None) -> None:
    """Forbid every later write from user space; programs may still write.

    Raises: BpfError (EBUSY) while it is mapped writable; PermissionDenied (EPERM) if frozen already.
    Since: Linux 5.2. Source: kernel/bpf/syscall.c:map_freeze
    """
    command(backend, attr.MAP_FREEZE, {"map_fd": fd}, subject=subject, map_type=map_type)


def map_lookup_batch(
    backend: Backend,
    fd: int,
    in_batch: CData | None,
    out_batch: CData,
    keys: CData,
    values: CData,
    count: int,
    elem_flags: int = 0,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> tuple[int, int]:
    """Read up to `count` elements from the cursor `in_batch` (None: the start); the next cursor goes to `out_batch`.

    A cursor has max(4, key_size) bytes. Returns: how many elements were read, and 0, or ENOENT when
    that was the last of the map.
    Raises: BpfError (ENOSPC) when a hash bucket holds more than `count` elements: repeat from the same
    cursor with more room; NotSupported (ENOTSUPP).
    Since: Linux 5.6. Source: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch
    """
    layout = attr.MAP_LOOKUP_BATCH
    return _read_batch(
        backend, layout, fd, in_batch, out_batch, keys, values, count, elem_flags, flags, subject, map_type
    )


def map_lookup_and_delete_batch(
    backend: Backend,
    fd: int,
    in_batch: CData | None,
    out_batch: CData,
    keys: CData,
    values: CData,
    count: int,
    elem_flags: int = 0,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> tuple[int, int]:
    """Read and remove up to `count` elements, otherwise as `map_lookup_batch`.

    Since: Linux 5.6. Source: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch
    """
    layout = attr.MAP_LOOKUP_AND_DELETE_BATCH
    return _read_batch(
        backend, layout, fd, in_batch, out_batch, keys, values, count, elem_flags, flags, subject, map_type
    )


def map_update_batch(
    backend: Backend,
    fd: int,
    keys: CData,
    values: CData,
    count: int,
    elem_flags: int = 0,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> int:
    """Store `count` elements and return how many were stored. `elem_flags` may be BPF_F_LOCK and nothing else.

    Raises: what `map_update_elem` raises, at the first element that is refused; `applied` tells how
    many were stored before it.
    Since: Linux 5.6. Source: kernel/bpf/syscall.c:generic_map_update_batch
    """
    return _write_batch(backend, attr.MAP_UPDATE_BATCH, fd, keys, values, count, elem_flags, flags, subject, map_type)


def map_delete_batch(
    backend: Backend,
    fd: int,
    keys: CData,
    count: int,
    elem_flags: int = 0,
    flags: int = 0,
    *,
    subject: str = "",
    map_type: int | None = None,
) -> int:
    """Remove `count` keys and return how many were removed.

    Raises: KeyNotFound (ENOENT) at the first key that is missing; `applied` tells how many were removed before it.
    Since: Linux 5.6. Source: kernel/bpf/syscall.c:generic_map_delete_batch
    """
    return _write_batch(backend, attr.MAP_DELETE_BATCH, fd, keys, None, count, elem_flags, flags, subject, map_type)


def _read_batch(
    backend: Backend,
    layout: Layout,
    fd: int,
    in_batch: CData | None,
    out_batch: CData,
    keys: CData,
    values: CData,
    count: int,
    elem_flags: int,
    flags: int,
    subject: str,
    map_type: int | None,
) -> tuple[int, int]:
    cursors: dict[str, int | bytes] = {"in_batch": pointer_to(in_batch), "out_batch": pointer_to(out_batch)}
    fields = cursors | _batch(fd, keys, values, count, elem_flags, flags)
    attr_buffer = pack(layout, fields)
    result = invoke(backend, layout.cmd, attr_buffer, layout.size, blocking=True)
    if result >= 0:
        return layout.integer(attr_buffer, "count"), 0
    if result == -_ENOENT:
        return layout.integer(attr_buffer, "count"), _ENOENT
    raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, map_type=map_type, values=fields)


def _write_batch(
    backend: Backend,
    layout: Layout,
    fd: int,
    keys: CData,
    values: CData | None,
    count: int,
    elem_flags: int,
    flags: int,
    subject: str,
    map_type: int | None,
) -> int:
    fields = _batch(fd, keys, values, count, elem_flags, flags)
    attr_buffer = pack(layout, fields)
    result = invoke(backend, layout.cmd, attr_buffer, layout.size, blocking=True)
    if result >= 0:
        return layout.integer(attr_buffer, "count")
    error = bpf_error(backend, -result, cmd=layout.cmd, subject=subject, map_type=map_type, values=fields)
    error.applied = _applied(layout, attr_buffer, count)
    raise error


def _batch(
    fd: int, keys: CData, values: CData | None, count: int, elem_flags: int, flags: int
) -> dict[str, int | bytes]:
    return {
        "keys": pointer_to(keys),
        "values": pointer_to(values),
        "count": count,
        "map_fd": fd,
        "elem_flags": elem_flags,
        "flags": flags,
    }


def _applied(layout: Layout, attr_buffer: AttrBuffer, count: int) -> int | None:
    # The kernel writes `count` back only once the map type's own code ran; until then it is what was
    # handed in. A batch that failed cannot have applied all of it, so that value tells nothing.
    done = layout.integer(attr_buffer, "count")
    return None if done >= count else done
